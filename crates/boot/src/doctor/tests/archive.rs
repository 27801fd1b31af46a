//! The archive, and what must not be in it.

use std::os::unix::fs::{MetadataExt as _, symlink};

use super::*;

/// Marked secrets: none of these words may be in an archive.
const MARKS: [(&str, &str); 9] = [
    ("WEB_PASSWORD", "MARK-web-pässword, with spaces & more"),
    ("OPEN_BUTTON_TOKEN", "MARK0button0token"),
    ("JUPYTER_TOKEN", "MARK%2Fjupyter/token+="),
    ("CONTAINER_API_KEY", "MARK-api-key"),
    ("HF_TOKEN", "hf_MARKMARKMARKMARKMARK1234"),
    ("AWS_SECRET_ACCESS_KEY", "MARK/aws\"quoted'secret"),
    (
        "SSH_PRIVATE_KEY",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nMARKfirstlineofthekey\nMARKsecondlineofthekey\n-----END OPENSSH PRIVATE KEY-----\n",
    ),
    ("PROVISIONING_SCRIPT", "https://user:MARKpw@host/p.sh?token=MARKquery&x=1"),
    ("DATABASE_URL", "postgres://me:MARKdb@db/x"),
];

/// What somebody else's secrets look like in a log: known to nobody.
const UNKNOWN: &str = "\
GET /?token=MARKunknown1&page=2 HTTP/1.1\n\
Authorization: Basic MARKunknown2==\n\
Cookie: a=MARKunknown3; b=MARKunknown3\n\
{\"headers\":{\"Authorization\":[\"Bearer MARKunknown4\"]},\"password\":\"MARKunknown5\"}\n\
export OTHER_SECRET='MARKunknown6'\n\
['serve', '--api-key', 'MARKunknown7']\n\
git clone https://MARKunknown8:x@github.com/a/b\n\
-----BEGIN RSA PRIVATE KEY-----\nMARKunknown9\n-----END RSA PRIVATE KEY-----\n\
\u{1b}[1mtoken\u{1b}[0m=\u{1b}[32mMARKunknown10\u{1b}[0m\n";

fn full_of_secrets() -> Fake {
    let fake = Fake::new();
    let mut everything: String =
        MARKS.map(|(name, value)| format!("{name} is set to {value}\n{name}='{value}'\n")).concat();
    everything.push_str(UNKNOWN);
    let escaped = serde_json::to_string(&everything).unwrap();
    let percent = "http://h/?q=MARK%252Fjupyter%2Ftoken%2B%3D\n";
    for file in [
        "var/log/app.log",
        "var/log/portal/app.log",
        "var/log/supervisord.log",
        "var/log/vast_boot_failures",
        "var/log/portal/provisioning.log",
        "etc/supervisor/supervisord.conf",
        "etc/supervisor/conf.d/app.conf",
        "etc/Caddyfile",
        "run/vast-cuda-config-failed",
        "etc/environment",
    ] {
        fake.write(file, format!("{everything}{escaped}\n{percent}"));
    }
    fake.write("etc/portal.yaml", format!("applications:\n  A:\n    open_path: /?token=MARKyaml\n# {everything}"));
    fake.write("var/log/vast_boot.jsonl", format!("{{\"message\":{escaped}}}\n"));
    let record = serde_json::json!({"boot": now(), "instance": "C.7", "pid": 1, "phase": "up", "stages": [
        {"stage": "20-x.sh", "source": "/etc/vast_boot.d/20-x.sh", "start": now(), "duration_ms": 1.0, "outcome": "failed", "message": everything},
    ]});
    fake.write("run/vast/boot.json", record.to_string());
    fake.write("proc/self/mountinfo", "36 35 98:0 / /mnt rw - cifs //server/share rw,username=me,password=MARKmount\n");
    for key in [
        "etc/instance.key",
        "var/log/server.key",
        "var/log/server.pem.old",
        "var/log/id_ed25519",
        "etc/vast-portal.token",
    ] {
        fake.write(key, "MARKkeyfilecontent-of-some-length\n");
    }
    // The portal's token, met again in a log.
    fake.write("var/log/portal/caddy.log", "the token MARKkeyfilecontent-of-some-length was refused\n");
    symlink("server.key", fake.0.path().join("var/log/link.log")).unwrap();
    fake.write(".provisioning_failed", "");
    fake
}

#[test]
fn no_byte_of_a_secret_is_in_the_archive_or_the_report() {
    let fake = full_of_secrets();
    let mut env = MARKS.to_vec();
    env.push(("HARMLESS", "kept value"));
    fake.look(&env, |look| {
        let report = Report::new(&Facts::gather(look), look.redactor);
        let told = serde_json::to_string(&report).unwrap() + &render(&report, |_, word| word.to_owned());
        assert!(!told.contains("MARK"), "{told}");
        assert!(told.contains("20-x.sh failed") && told.contains("provisioning failed"), "{told}");

        let file = fake.0.path().join("bundle.tar.gz");
        let members = bundle::members(look, &report);
        bundle::write(&file, &members, look.now).unwrap();
        let names: Vec<String> = members.keys().cloned().collect();
        let mut unpacked = Vec::new();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(fs::File::open(&file).unwrap()));
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut text = String::new();
            std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
            let leak = text.find("MARK").map(|at| &text[text[..at].rfind('\n').unwrap_or(0)..]);
            assert_eq!(leak, None, "{name}");
            assert!(!name.contains("MARK"), "{name}");
            unpacked.push(name);
        }
        assert_eq!(unpacked, names.iter().map(|name| format!("vast-doctor/{name}")).collect::<Vec<_>>());
        assert!(unpacked.is_sorted());
        for member in [
            "report.json",
            "environment.txt",
            "mounts.txt",
            "files/run/vast/boot.json",
            "files/var/log/portal/app.log",
            "files/etc/Caddyfile",
            "files/var/log/vast_boot.jsonl",
        ] {
            assert!(members.contains_key(member), "{member} is not in {names:?}");
        }
        assert!(
            !names
                .iter()
                .any(|name| name.contains("server.key") || name.contains("id_ed25519") || name.contains("link.log"))
        );
        assert!(members["left-out.txt"].contains("/var/log/server.pem.old: its name is that of a key"));
        assert!(members["environment.txt"].contains("HARMLESS=kept value\n"));
        assert!(members["environment.txt"].contains("WEB_PASSWORD=***\n"));
        assert!(members["files/var/log/app.log"].contains("page=2"));
    });
}

#[test]
fn the_archive_is_its_owners_the_same_every_time_and_bounded() {
    let fake = Fake::new();
    let line = "a line of the log\n";
    fake.write("var/log/long.log", line.repeat(100_000));
    fake.write("var/log/binary.log", b"a\0b");
    fake.write("var/log/a/b/c/d/deep.log", "deep");
    fake.look(&[], |look| {
        let report = Report::new(&Facts::healthy(now()), look.redactor);
        let [first, second] = ["one", "two"].map(|name| {
            let file = fake.0.path().join(name);
            bundle::write(&file, &bundle::members(look, &report), look.now).unwrap();
            assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
            fs::read(file).unwrap()
        });
        assert_eq!(first, second);
        let members = bundle::members(look, &report);
        let kept = &members["files/var/log/long.log"];
        assert!(kept.len() <= 256 * 1024 && kept.starts_with(line) && kept.ends_with(line));
        for left in ["long.log: its first", "binary.log: it is no text", "/var/log/a/b/c/d: it lies too deep"] {
            assert!(members["left-out.txt"].contains(left), "{}", members["left-out.txt"]);
        }
        assert!(bundle::write(&fake.0.path().join("no/such/directory/x"), &members, look.now).is_err());
    });
}
