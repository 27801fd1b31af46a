//! A real Caddy on what `vast-portal caddy` renders for a fake root, in front of an application.

use std::ffi::OsStr;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};

use vast_testkit::web::{Answer, Server};

use super::harness::{Fake, wait_until};

const VAST_PORTAL: &str = env!("CARGO_BIN_EXE_vast-portal");

/// What the application answers.
const HELLO: &str = "hello from the application";

/// It stops when it is dropped.
pub(crate) struct Caddy {
    child: Child,
    port: u16,
    /// What `vast-portal caddy` had to say.
    pub(crate) said: String,
    _application: Server,
}

/// `vast-portal` on a fake root with one application, with `ENABLE_HTTPS` as the stages left it.
fn portal(fake: &Fake, arguments: &[&str], https: &str, [external, internal]: [u16; 2]) -> Output {
    // What an earlier run wrote would win over the variable.
    let _ = std::fs::remove_file(fake.path("/etc/portal.yaml"));
    let root = fake.root();
    let arguments = arguments.iter().map(OsStr::new).chain(["--root".as_ref(), root.as_os_str()]);
    let mut command = fake.command(VAST_PORTAL, arguments);
    command.env("ENABLE_HTTPS", https).env("ENABLE_AUTH", "false");
    command.env("PORTAL_CONFIG", format!("localhost:{external}:{internal}:/:App"));
    let output = command.env(format!("VAST_TCP_PORT_{external}"), "40000").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// The Caddyfile that would be written.
pub(crate) fn rendered(fake: &Fake, https: &str) -> String {
    String::from_utf8(portal(fake, &["caddy", "--dry-run"], https, [18188, 8188]).stdout).unwrap()
}

impl Caddy {
    /// Writes the Caddyfile and serves it.
    pub(crate) fn start(fake: &Fake, https: &str) -> Self {
        let application = Server::sequence(vec![Answer::ok(HELLO)]);
        // Free a moment ago; nothing else on this machine takes ports by number.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let written = portal(fake, &["caddy"], https, [port, application.address().port()]);
        let child = Command::new("caddy")
            .args(["run", "--adapter", "caddyfile", "--config"])
            .arg(fake.path("/etc/Caddyfile"))
            .env("HOME", fake.out(""))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let said = String::from_utf8(written.stderr).unwrap();
        let caddy = Self { child, port, said, _application: application };
        wait_until("Caddy listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        caddy
    }

    /// Fetches the page with these arguments of `curl`; whether it came, and what was said instead.
    fn page(&self, scheme: &str, arguments: &[&OsStr]) -> Result<(), String> {
        let url = format!("{scheme}://0.0.0.0:{}/", self.port);
        let output = Command::new("curl").args(["-sS", "--max-time", "60"]).args(arguments).arg(url).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if text == HELLO { Ok(()) } else { Err(text + &String::from_utf8_lossy(&output.stderr)) }
    }

    /// Whether the page comes over TLS to a client that trusts this certificate of the root or of `$OUT`, and checks the name.
    pub(crate) fn page_trusting(&self, certificate: &std::path::Path) -> Result<(), String> {
        self.page("https", &["--cacert".as_ref(), certificate.as_os_str()])
    }

    /// Whether the page comes over TLS with the public key of this certificate, whoever signed it and until when.
    pub(crate) fn page_with_key_of(&self, fake: &Fake, certificate: &std::path::Path) -> Result<(), String> {
        let public = fake.out("public.pem");
        let read =
            Command::new("openssl").args(["x509", "-noout", "-pubkey", "-in"]).arg(certificate).output().unwrap();
        std::fs::write(&public, read.stdout).unwrap();
        self.page("https", &["--insecure".as_ref(), "--pinnedpubkey".as_ref(), public.as_os_str()])
    }

    /// Whether the page comes without TLS.
    pub(crate) fn plain_page(&self) -> Result<(), String> {
        self.page("http", &[])
    }
}

impl Drop for Caddy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
