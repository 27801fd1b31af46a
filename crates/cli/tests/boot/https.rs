//! Scripts over TLS, from a real server on loopback.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use vast_boot::certificate;

use super::harness::{Fake, VAST_BOOT, wait_until};

/// `openssl s_server` with the files of `$OUT`, and its own certificate there (`server.crt`); it ends with the test.
pub(crate) struct Server {
    child: Child,
    port: u16,
}

impl Server {
    /// With `-WWW`, a file is the body of an answer; with `-HTTP`, the whole answer.
    pub(crate) fn start(fake: &Fake, mode: &str) -> Self {
        let openssl = |arguments: &[&str]| {
            let output = Command::new("openssl").args(arguments).current_dir(fake.out("")).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        let subject = "subjectAltName=DNS:localhost,IP:127.0.0.1";
        let new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
        let names = [
            "-subj",
            "/CN=localhost",
            "-addext",
            subject,
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-keyout",
            "server.key",
            "-out",
            "server.crt",
        ];
        openssl(&[&new[..], &names[..]].concat());
        // Free a moment ago; nothing else on this machine takes ports by number.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new("openssl")
            .args(["s_server", "-quiet", mode, "-cert", "server.crt", "-key", "server.key", "-accept"])
            .arg(format!("127.0.0.1:{port}"))
            .current_dir(fake.out(""))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, port };
        wait_until("the server listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        server
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_script_comes_over_tls_from_a_server_that_the_system_trusts_and_from_no_other() {
    let fake = Fake::new();
    fs::write(fake.out("p.sh"), "#!/bin/sh\necho provisioned >\"$OUT/ran\"\n").unwrap();
    let server = Server::start(&fake, "-WWW");
    let provision = |bundle: &str| {
        let root = fake.root();
        let arguments = ["run".as_ref(), "--only".as_ref(), "75".as_ref(), "--root".as_ref(), root.as_os_str()];
        let mut command = fake.command(VAST_BOOT, arguments);
        command.env("PROVISIONING_SCRIPT", format!("https://localhost:{}/p.sh", server.port));
        command.env("SSL_CERT_FILE", fake.out(bundle)).output().unwrap();
        fake.recorded("75-provisioning-script.sh")
    };
    let stranger = certificate::self_signed(&certificate::new_key().unwrap(), jiff::Timestamp::now()).unwrap();
    fs::write(fake.out("other.crt"), stranger).unwrap();
    let (outcome, message) = provision("other.crt");
    assert_eq!(outcome, "failed");
    assert!(message.contains("certificate"), "{message}");
    assert!(!fake.out("ran").exists());

    let (outcome, message) = provision("server.crt");
    assert_eq!((outcome.as_str(), fake.read_out("ran").as_str()), ("done", "provisioned\n"), "{message}");
    assert!(message.contains("https://localhost:"), "{message}");
}
