//! The page that is there while an instance boots: who sees it, and what it shows.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use rustix::process::{Signal, kill_process};
use serde_json::Value;
use vast_testkit::volume::{Options, Volume};

use super::harness::{Fake, SUPERVISOR, Started, VAST_BOOT, children, wait_until};

pub(crate) const TOKEN: &str = "0pen-butt0n-t0ken";
const PASSWORD: &str = "w3b passw:rd";

/// A stage that a test holds until it has looked at the page.
const HOLD: &str = "echo waiting for the test; while [ ! -e $OUT/go ]; do sleep 0.02; done";

/// What it says.
const WAITING: &str = "waiting for the test";

/// An instance whose portal is on a free port.
pub(crate) struct Instance {
    pub(crate) fake: Fake,
    pub(crate) port: u16,
}

impl Instance {
    fn new() -> Self {
        // Free a moment ago; nothing else on this machine takes ports by number.
        let port = TcpListener::bind("[::]:0").unwrap().local_addr().unwrap().port();
        Self { fake: Fake::new(), port }
    }

    /// An instance whose boot waits in a stage.
    pub(crate) fn held() -> Self {
        let instance = Self::new();
        instance.fake.stage("20-hold.sh", HOLD);
        instance
    }

    fn command(&self, env: &[(&str, &str)]) -> Command {
        let root = self.fake.root();
        let arguments = [OsStr::new("--no-cert-gen"), OsStr::new("--root"), root.as_os_str()];
        let mut command = self.fake.command(VAST_BOOT, arguments);
        command.envs(self.variables()).envs(env.iter().copied());
        command
    }

    fn variables(&self) -> [(String, String); 6] {
        let port = self.port;
        [
            ("CONTAINER_ID".to_owned(), "7".to_owned()),
            ("VAST_CONTAINERLABEL".to_owned(), "C.7".to_owned()),
            ("PORTAL_CONFIG".to_owned(), format!("localhost:11111:{port}:/:Instance Portal")),
            (format!("VAST_TCP_PORT_{port}"), "41111".to_owned()),
            ("OPEN_BUTTON_TOKEN".to_owned(), TOKEN.to_owned()),
            ("WEB_PASSWORD".to_owned(), PASSWORD.to_owned()),
        ]
    }

    fn start(&self, env: &[(&str, &str)]) -> Started {
        Started::new(&mut self.command(env))
    }

    /// Starts a boot and waits until its page answers.
    pub(crate) fn serving(&self, env: &[(&str, &str)]) -> Started {
        let started = self.start(env);
        wait_until("the page answers", || self.try_get("/", "").is_ok());
        started
    }

    /// Starts a boot and waits until it is held, and the page shows that.
    fn holding(&self, env: &[(&str, &str)]) -> Started {
        let started = self.serving(env);
        wait_until("the page shows that the stage waits", || {
            self.status()["output"].as_array().is_some_and(|lines| lines.iter().any(|line| *line == WAITING))
        });
        started
    }

    pub(crate) fn go(&self) {
        fs::write(self.fake.out("go"), "").unwrap();
    }

    fn try_get(&self, path: &str, headers: &str) -> io::Result<Answer> {
        exchange(("127.0.0.1", self.port), &format!("GET {path} HTTP/1.1\r\nHost: h\r\n{headers}\r\n"))
    }

    fn get(&self, path: &str, headers: &str) -> Answer {
        self.try_get(path, headers).unwrap()
    }

    /// What `/status.json` says to who has the token.
    fn status(&self) -> Value {
        let answer = self.get("/status.json", &format!("Authorization: Bearer {TOKEN}\r\n"));
        assert_eq!(answer.status, 200, "{}", answer.text);
        serde_json::from_str(answer.body()).unwrap()
    }
}

/// What a server said, head and all.
#[derive(Debug)]
pub(crate) struct Answer {
    status: u16,
    pub(crate) text: String,
}

impl Answer {
    fn body(&self) -> &str {
        self.text.split_once("\r\n\r\n").map_or("", |(_, body)| body)
    }

    fn header(&self, name: &str) -> Option<&str> {
        let head = self.text.split("\r\n\r\n").next()?;
        head.lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v)
    }
}

/// Sends a request and reads until the server closes.
pub(crate) fn exchange(server: (&str, u16), request: &str) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(Duration::from_mins(1)))?;
    stream.write_all(request.as_bytes())?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.map(|status| Answer { status, text }).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

#[test]
fn whoever_the_portal_would_let_in_sees_the_page_and_nobody_else() {
    let instance = Instance::held();
    let started = instance.holding(&[]);
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    // vastai:w3b passw:rd, and other:w3b passw:rd
    let (basic, wrong_user) =
        ("Authorization: Basic dmFzdGFpOnczYiBwYXNzdzpyZA==\r\n", "Authorization: Basic b3RoZXI6dzNiIHBhc3N3OnJk\r\n");
    for (path, headers, status) in [
        (format!("/status.json?token={TOKEN}"), "", 200),
        ("/status.json".to_owned(), bearer.as_str(), 200),
        ("/status.json".to_owned(), basic, 200),
        ("/".to_owned(), basic, 503),
        ("/health".to_owned(), bearer.as_str(), 503),
        ("/".to_owned(), "", 401),
        ("/status.json".to_owned(), "", 401),
        ("/status.json?token=wrong".to_owned(), "", 401),
        ("/status.json".to_owned(), wrong_user, 401),
        ("/status.json".to_owned(), "Authorization: Bearer wrong\r\n", 401),
        ("/status.json".to_owned(), "Cookie: C.7_auth_token=1.ab\r\n", 401),
    ] {
        let answer = instance.get(&path, headers);
        assert_eq!(answer.status, status, "{path} {headers}");
        assert_eq!(answer.text.contains("20-hold"), status == 200, "{}", answer.text);
    }
    let browser = "Accept: text/html\r\nSec-Fetch-Mode: navigate\r\n";
    let answer = instance.get(&format!("/?token={TOKEN}"), browser);
    assert_eq!((answer.status, answer.header("location")), (302, Some("/")));
    let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let page = instance.get("/", &format!("{browser}Cookie: {cookie}\r\n"));
    assert_eq!((page.status, page.header("retry-after")), (503, Some("2")));
    assert!(page.body().contains("<h1>C.7 is starting</h1>") && page.body().contains(WAITING));
    assert!(instance.get("/", browser).body().contains("Sign in"));

    // The portal that comes after it knows the cookie.
    let env = instance.variables().into_iter().collect();
    let known = vast_portal::auth::Credentials::load(&instance.fake.root(), &env).unwrap();
    assert!(known.accepts_cookie(cookie.split_once('=').unwrap().1, SystemTime::now()));

    instance.go();
    drop(started);
}

#[test]
fn a_password_that_the_user_has_changed_does_not_open_any_more() {
    let instance = Instance::new();
    instance.fake.stage("05-hold.sh", &format!("echo changed is the password; {HOLD}"));
    instance.fake.write("/etc/environment", "# Template controlled environment for C.7\nWEB_PASSWORD=\"changed\"\n");
    let started = instance.holding(&[]);
    assert!(instance.status()["output"].as_array().unwrap().contains(&"*** is the password".into()));
    let status = |password: &str| instance.get(&format!("/status.json?token={password}"), "").status;
    assert_eq!((status("changed"), status("w3b+passw:rd"), status(TOKEN)), (200, 401, 200));
    instance.go();
    drop(started);
}

#[test]
fn what_stages_say_is_shown_without_secrets() {
    let instance = Instance::new();
    let says = "echo \"cloning with $HF_TOKEN\"; echo on stderr >&2; printf '\\033[1m 10%%\\r100%%\\033[0m\\n'; exit 3";
    instance.fake.stage("19-says.sh", says);
    instance.fake.stage("20-hold.sh", HOLD);
    let started = instance.holding(&[("HF_TOKEN", "hf_Secret-of-the-user")]);
    let status = instance.status();
    let output: Vec<&str> = status["output"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    let from = output.iter().position(|line| *line == "cloning with ***").unwrap_or_else(|| panic!("{output:?}"));
    assert_eq!(output[from..from + 3], ["cloning with ***", "on stderr", "100%"]);
    let stage = |name: &str| {
        let stages = status["stages"].as_array().unwrap();
        stages.iter().find(|stage| stage["stage"] == name).unwrap()["outcome"].clone()
    };
    let outcomes = ["10-prep-env.sh", "19-says.sh", "20-hold.sh", "95-supervisor-wait.sh"].map(stage);
    assert_eq!(outcomes, [Value::from("done"), "failed".into(), "running".into(), Value::Null]);
    assert!(!status.to_string().contains("hf_Secret"));
    instance.go();
    instance.fake.supervisor("#!/bin/sh\nexit 0\n");
    // The container's log has all of it as before.
    let (code, log) = started.end();
    assert_eq!(code, Some(0));
    assert!(log.contains("cloning with hf_Secret-of-the-user\non stderr\n"), "{log}");
}

/// Boots with a volume that answers late, whose workspace gets `files`: twelve megabytes in a directory of the container. `stage` is
/// seen to copy them and what else it takes.
fn followed(instance: &Instance, stage: &str, files: &str, also_bytes: u64, there: &str, flag: Option<&str>) {
    instance.fake.supervisor("#!/bin/sh\nexit 0\n");
    let items = instance.fake.path(files);
    fs::create_dir_all(&items).unwrap();
    for index in 0..60 {
        fs::write(items.join(format!("{index}.bin")), vec![index; 200_000]).unwrap();
    }
    let total = 12_000_000 + also_bytes;
    let (behind, at) = (instance.fake.out("volume"), instance.fake.path("/workspace"));
    fs::create_dir_all(&behind).unwrap();
    fs::create_dir_all(&at).unwrap();
    let volume = Volume::mount(&behind, &at, &Options::late(Duration::from_millis(20)));
    let started = Started::new(instance.command(&[]).args(flag));
    wait_until("the page answers", || instance.try_get("/", "").is_ok());
    let mut seen: Vec<(u64, u64, u64, bool)> = Vec::new();
    wait_until("the copy has been seen to move", || {
        let copy = &instance.status()["copy"];
        if copy["stage"] == stage {
            let number = |name: &str| copy[name].as_u64().unwrap();
            let bytes = number("bytes");
            assert_eq!(number("total_bytes"), total);
            if seen.last().is_none_or(|last| last.0 < bytes) {
                seen.push((bytes, number("files"), number("bytes_per_second"), copy["seconds_left"].is_u64()));
            }
        }
        seen.iter().filter(|(bytes, ..)| *bytes > 0 && *bytes < total).count() >= 3
    });
    assert!(seen.is_sorted(), "{seen:?}");
    assert!(seen.iter().any(|(_, files, rate, left)| *files > 0 && *rate > 0 && *left), "{seen:?}");
    assert_eq!(started.end().0, Some(0));
    assert_eq!(fs::read(behind.join(there).join("59.bin")).unwrap(), vec![59; 200_000]);
    drop(volume);
}

#[test]
fn a_copy_into_the_workspace_is_followed_while_it_goes_on() {
    followed(&Instance::new(), "36-sync-workspace.sh", "/opt/workspace-internal/models", 0, "models", None);
}

#[test]
fn a_home_that_moves_to_the_volume_is_followed() {
    followed(&Instance::new(), "35-sync-home-dirs.sh", "/root", 0, "home/root", Some("--sync-home"));
}

#[test]
fn an_environment_that_moves_to_the_volume_is_followed() {
    let instance = Instance::new();
    instance.fake.write("/.env_hash", "0123abcd\n");
    let settings = "home = /usr/bin\n";
    instance.fake.write("/venv/main/pyvenv.cfg", settings);
    fs::create_dir_all(instance.fake.path("/venv/main/bin")).unwrap();
    std::os::unix::fs::symlink("/bin/true", instance.fake.path("/venv/main/bin/python")).unwrap();
    let there = ".environment_sync/0123abcd/venv/main/lib";
    let also = settings.len() as u64;
    followed(&instance, "37-sync-environment.sh", "/venv/main/lib", also, there, Some("--sync-environment"));
}

#[test]
fn a_port_that_somebody_has_costs_the_page_and_nothing_else() {
    let instance = Instance::new();
    instance.fake.supervisor("#!/bin/sh\nexit 0\n");
    let taken = TcpListener::bind(("0.0.0.0", instance.port)).unwrap();
    let (code, log) = instance.start(&[]).end();
    assert_eq!(code, Some(0));
    let reason = format!("has port {}", instance.port);
    assert_eq!(log.lines().filter(|line| line.contains(&reason)).count(), 1, "{log}");
    let (outcome, message) = instance.fake.recorded("status-page");
    assert!(outcome == "gave-up" && message.contains(&reason), "{message}");
    assert_eq!(instance.fake.recorded("65-supervisor-launch.sh").0, "done");
    taken.set_nonblocking(true).unwrap();
    assert_eq!(taken.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn hostile_clients_cost_nothing_and_keep_nobody_out() {
    let instance = Instance::held();
    let started = instance.holding(&[]);
    let sequence = children(started.pid())[0].as_raw_pid();
    let anonymous = || {
        let status = fs::read_to_string(format!("/proc/{sequence}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap().to_owned();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    let connect = || TcpStream::connect(("127.0.0.1", instance.port)).unwrap();
    let endless = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(12_000));
    let mut held = Vec::new();
    for round in 0..100 {
        for start in [
            "",
            "G",
            "GET / HTTP/1.1\r\nHost: h\r\n",
            "POST /portal-login HTTP/1.1\r\nContent-Length: 8000\r\n\r\na",
            &endless,
        ] {
            let mut stream = connect();
            // The server may have closed it already.
            let _ = stream.write_all(start.as_bytes());
            held.push(stream);
        }
        assert_eq!(instance.status()["stage"], "20-hold.sh", "after {round} rounds");
    }
    // Those that are in time to be answered are told what is wrong.
    for (request, status) in [
        ("\0\0\0\0\r\n\r\n".to_owned(), 400),
        (format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(20_000)), 431),
        (format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(1000)), 431),
    ] {
        let answer = exchange(("127.0.0.1", instance.port), &request).unwrap();
        assert_eq!(answer.status, status, "{}", answer.text);
    }
    // Whoever says nothing is not waited for.
    let mut silent = connect();
    silent.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    assert_eq!(silent.read(&mut [0]).unwrap(), 0);
    assert!(anonymous() < 10_000, "{} kB", anonymous());
    instance.go();
    drop(started);
}

#[test]
fn a_stop_ends_the_page_with_the_boot() {
    let instance = Instance::held();
    let started = instance.serving(&[]);
    let _held = TcpStream::connect(("127.0.0.1", instance.port)).unwrap();
    kill_process(started.pid(), Signal::TERM).unwrap();
    assert_eq!(started.end().0, Some(143));
    assert_eq!(instance.try_get("/", "").unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn without_supervisor_the_page_stays_and_says_what_to_do() {
    let instance = Instance::new();
    let started = instance.serving(&[]);
    wait_until("the boot is up", || instance.status()["supervisor_failed"] == true);
    let page = instance.get("/", &format!("Accept: text/html\r\nAuthorization: Bearer {TOKEN}\r\n"));
    assert!(page.body().contains("Supervisor does not run") && page.body().contains("vast-boot doctor"));
    kill_process(started.pid(), Signal::TERM).unwrap();
    assert_eq!(started.end().0, Some(143));
}

#[test]
fn an_instance_without_a_portal_has_no_page() {
    for env in [("SERVERLESS", "true"), ("PORTAL_CONFIG", "localhost:17860:7860:/:App")] {
        let instance = Instance::held();
        instance.fake.supervisor(SUPERVISOR);
        let started = instance.start(&[env]);
        wait_until("the stage runs", || {
            fs::read_to_string(instance.fake.path("/run/vast/boot.json")).is_ok_and(|text| text.contains("20-hold"))
        });
        assert_eq!(instance.try_get("/", "").unwrap_err().kind(), io::ErrorKind::ConnectionRefused, "{env:?}");
        instance.go();
        drop(started);
    }
}

#[test]
fn the_page_goes_where_a_stage_puts_the_portal() {
    let instance = Instance::new();
    let other = TcpListener::bind("[::]:0").unwrap().local_addr().unwrap().port();
    let config = format!(
        "export PORTAL_CONFIG='localhost:11111:{other}:/:Instance Portal' VAST_TCP_PORT_{other}=1 WEB_PASSWORD=moved"
    );
    instance.fake.stage("05-app-env.sh", &config);
    instance.fake.stage("20-hold.sh", HOLD);
    let started = instance.start(&[]);
    let ask = |token: &str| exchange(("::1", other), &format!("GET /status.json?token={token} HTTP/1.1\r\n\r\n"));
    wait_until("the page is there", || ask("moved").is_ok_and(|answer| answer.status == 200));
    assert_eq!(ask("w3b+passw:rd").unwrap().status, 401);
    assert!(instance.try_get("/", "").is_err());
    instance.go();
    drop(started);
}

pub(crate) fn curl(arguments: &[&str]) -> Output {
    let fixed = ["--silent", "--show-error", "--max-time", "60"];
    Command::new("curl").args(fixed).args(arguments).output().unwrap()
}

#[test]
fn a_browser_that_comes_over_https_is_answered_before_and_after_there_is_a_certificate() {
    let instance = Instance::held();
    let started = instance.serving(&[("ENABLE_HTTPS", "true")]);
    let url = format!("https://localhost:{}/status.json?token={TOKEN}", instance.port);
    let before = curl(&["--insecure", &url]);
    assert!(String::from_utf8_lossy(&before.stdout).contains("20-hold.sh"), "{before:?}");
    // What stage 55 makes, in an instance whose earlier boots had it made.
    let key = vast_boot::certificate::new_key().unwrap();
    let certificate = vast_boot::certificate::self_signed(&key, jiff::Timestamp::now()).unwrap();
    instance.fake.write("/etc/instance.key", &key.serialize_pem());
    let path = instance.fake.write("/etc/instance.crt", &certificate);
    let shown = Command::new("openssl")
        .args(["s_client", "-connect", &format!("127.0.0.1:{}", instance.port)])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains(certificate.trim()), "{}: {shown}", path.display());
    assert!(curl(&["--insecure", &url]).status.success());
    let plain = instance.get("/?a=1", "");
    assert_eq!((plain.status, plain.header("location")), (307, Some("https://h/?a=1")));
    instance.go();
    drop(started);
}
