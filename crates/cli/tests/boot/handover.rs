//! How Caddy takes the place of the page that is there while an instance boots: nobody is turned away.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use vast_testkit::authority::Authority;

use super::harness::{Fake, Started, children, wait_until, wait_until_or_say};
use super::status_page::{Instance, TOKEN, curl, exchange};

/// A Supervisor with these programs.
fn supervised(fake: &Fake, programs: &[(&str, &str)]) {
    std::os::unix::fs::symlink("/usr/bin/supervisord", fake.path("/usr/bin/supervisord")).unwrap();
    fs::create_dir_all(fake.path("/tmp")).unwrap();
    let at = fake.root().display().to_string();
    let mut text = vec![format!(
        "[supervisord]\nuser=root\nlogfile={at}/var/log/supervisord.log\npidfile={at}/run/supervisord.pid\nchildlogdir={at}/tmp\n"
    )];
    text.extend(programs.iter().map(|(name, command)| {
        format!(
            "[program:{name}]\ncommand={command}\nstartsecs=0\nstopwaitsecs=5\nstdout_logfile={at}/var/log/{name}.log\nredirect_stderr=true\n\
             environment=HOME=\"{at}/tmp\",XDG_DATA_HOME=\"{at}/tmp\",XDG_CONFIG_HOME=\"{at}/tmp\"\n"
        )
    }));
    fake.write("/etc/supervisor/supervisord.conf", &text.concat());
}

/// What clients that ask without a pause were answered.
#[derive(Default)]
struct Asked {
    boots: AtomicUsize,
    portals: AtomicUsize,
    over: AtomicBool,
}

/// Asks from the first answer on, until told to stop; every connection that was not answered, by its error.
fn ask_without_pause(ask: impl Fn() -> Result<String, String>, asked: &Asked) -> Vec<String> {
    let (mut failed, mut begun) = (Vec::new(), false);
    while !asked.over.load(Ordering::Acquire) {
        match ask() {
            Ok(text) => {
                begun = true;
                let is_boots = text.to_ascii_lowercase().contains("\r\nx-vast-boot-status:");
                let count = if is_boots { &asked.boots } else { &asked.portals };
                count.fetch_add(1, Ordering::AcqRel);
            }
            Err(error) if begun => failed.push(error),
            Err(_) => {}
        }
    }
    failed
}

type Client = Box<dyn Fn() -> Result<String, String> + Send>;

/// Lets the boot go on while the clients ask, until only the portal answers. None of them may have been turned away.
fn taken_over(instance: &Instance, started: &Started, clients: Vec<Client>) {
    let asked = Arc::new(Asked::default());
    let clients = clients.into_iter().map(|client| {
        let asked = asked.clone();
        std::thread::spawn(move || ask_without_pause(client, &asked))
    });
    let clients: Vec<_> = clients.collect();
    wait_until("the page has been asked for", || asked.boots.load(Ordering::Acquire) > 20);
    instance.go();
    wait_until_or_say(
        "the portal answers",
        || fs::read_to_string(instance.fake.path("/var/log/caddy.log")).unwrap_or_default(),
        || asked.portals.load(Ordering::Acquire) > 0,
    );
    let sequence = children(started.pid())[0];
    let tasks = || fs::read_dir(format!("/proc/{}/task", sequence.as_raw_pid())).unwrap().flatten();
    let serves = || {
        tasks().any(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "status-page"))
    };
    wait_until("the page has gone", || !serves());
    let before = asked.portals.load(Ordering::Acquire);
    wait_until("the portal goes on", || asked.portals.load(Ordering::Acquire) > before + 50);
    asked.over.store(true, Ordering::Release);
    let failed: Vec<String> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    assert_eq!(failed, Vec::<String>::new());
    let owners = vast_boot::listeners::programs(Path::new("/proc")).unwrap().remove(&instance.port).unwrap();
    assert_eq!(owners.into_iter().collect::<Vec<_>>(), ["caddy"]);
}

#[test]
fn caddy_takes_the_port_over_without_a_connection_being_refused() {
    let instance = Instance::held();
    let (fake, port) = (&instance.fake, instance.port);
    let at = fake.root().display().to_string();
    supervised(fake, &[("caddy", &format!("/usr/bin/caddy run --config {at}/etc/Caddyfile --adapter caddyfile"))]);
    fake.write(
        "/etc/Caddyfile",
        &format!("{{\n\tadmin off\n\tauto_https off\n\tgrace_period 1s\n}}\nhttp://:{port} {{\n\trespond \"the portal\"\n}}\n"),
    );
    let started = instance.serving(&[]);
    let request =
        format!("GET /status.json HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n");
    let client = |host: &'static str| -> Client {
        let request = request.clone();
        Box::new(move || exchange((host, port), &request).map(|answer| answer.text).map_err(|error| error.to_string()))
    };
    taken_over(&instance, &started, ["127.0.0.1", "::1", "127.0.0.1", "::1"].map(client).into());
    drop(started);
}

#[test]
fn the_caddyfile_of_an_instance_takes_the_port_over_in_the_middle_of_tls() {
    let instance = Instance::held();
    let (fake, port) = (&instance.fake, instance.port);
    let authority = Authority::new();
    let key = vast_boot::certificate::new_key().unwrap();
    let request = vast_boot::certificate::request(&key).unwrap();
    fake.write("/etc/instance.crt", &authority.sign(request.as_bytes()));
    fake.write("/etc/instance.key", &key.serialize_pem());
    let trusted = fake.out("authority.crt");
    fs::write(&trusted, authority.certificate()).unwrap();
    let (at, portal) = (fake.root().display().to_string(), env!("CARGO_BIN_EXE_vast-portal"));
    // As the image's `caddy.sh` does, and whoever is asked who may pass.
    let caddy = format!(
        "/bin/sh -c \"{portal} caddy --root {at} && exec /usr/bin/caddy run --config {at}/etc/Caddyfile --adapter caddyfile\""
    );
    let serve = format!("{portal} serve --root {at} --listen 127.0.0.1:0");
    supervised(fake, &[("caddy", &caddy), ("instance_portal", &serve)]);
    let started = instance.serving(&[("ENABLE_HTTPS", "true")]);
    let client = || -> Client {
        let trusted = trusted.display().to_string();
        Box::new(move || {
            // The name in the certificate, which leads to loopback as well.
            let url = format!("https://0.0.0.0:{port}/status.json");
            let bearer = format!("Authorization: Bearer {TOKEN}");
            let output = curl(&["--include", "--http1.1", "--cacert", &trusted, "--header", &bearer, &url]);
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if output.status.success() { Ok(text) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
        })
    };
    taken_over(&instance, &started, vec![client(), client(), client()]);
    // It is the portal's Caddy that answers, and it lets nobody else in.
    let (url, trusted) = (format!("https://0.0.0.0:{port}/"), trusted.display().to_string());
    let stranger = curl(&["--include", "--http1.1", "--cacert", &trusted, &url]);
    assert!(String::from_utf8_lossy(&stranger.stdout).starts_with("HTTP/1.1 401 "), "{stranger:?}");
    drop(started);
}
