//! `vast-boot cert check` on pairs of every kind, and a real Caddy's opinion of each.

use std::fs;
use std::process::Command;

use vast_testkit::authority::Authority;

use super::caddy::{Caddy, rendered};
use super::harness::Fake;

/// Makes keys and certificates of every kind, each as NAME.key and NAME.crt.
const MAKE: &str = r#"
set -euo pipefail
subject=/C=US/ST=CA/CN=jupyter.vast.ai
certify() { openssl req -x509 -key "$1.key" -subj "$subject" -days 2 -out "$1.crt"; }
openssl genrsa -out rsa.key 2048
openssl genrsa -traditional -out rsa-pkcs1.key 3072
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ec.key
openssl ecparam -name secp384r1 -genkey -noout -out ec-sec1.key
openssl ecparam -name secp521r1 -genkey -out ec-parameters.key
openssl genpkey -algorithm ed25519 -out ed25519.key
openssl genrsa -out other.key 2048
openssl ecparam -name prime256v1 -genkey -noout -out other-ec.key
openssl genpkey -algorithm ed25519 -out other-ed25519.key
openssl genrsa -out weak.key 1024
openssl dsaparam -noout -genkey -out dsa.key 1024
openssl ecparam -name secp256k1 -genkey -noout -out secp256k1.key
openssl ecparam -name brainpoolP256r1 -genkey -noout -out brainpool.key
openssl genpkey -algorithm ED448 -out ed448.key
openssl genpkey -algorithm RSA-PSS -out rsa-pss.key
for name in rsa rsa-pkcs1 ec ec-sec1 ec-parameters ed25519 other weak dsa secp256k1 brainpool ed448 rsa-pss; do
    certify "$name"
done
for name in rsa ec ed25519; do openssl req -new -key "$name.key" -subj "$subject" -out "$name.csr"; done
openssl req -x509 -key rsa.key -subj /O=nobody -days 2 -out nameless.crt
openssl req -x509 -key rsa.key -subj / -addext subjectAltName=IP:0.0.0.0 -days 2 -out alternative.crt
cat rsa.crt ec.crt >chain.crt
cat ec.crt rsa.crt >reversed.crt
cat rsa.key rsa.crt >key-first.pem
cat rsa.crt rsa.key >key-last.pem
for file in rsa.crt rsa.key ec-sec1.crt ec-sec1.key; do sed 's/$/\r/' "$file" >"crlf-$file"; done
openssl x509 -in rsa.crt -text -out commented.crt
openssl x509 -in rsa.crt -trustout -out trusted.crt
openssl x509 -in rsa.crt -outform der -out binary.crt
openssl rsa -in rsa.key -pubout -out public.key
head -c 600 rsa.crt >cut.crt
head -c 600 rsa.key >cut.key
sed 's/END CERTIFICATE/END CERT/' rsa.crt >misended.crt
openssl pkcs8 -topk8 -in rsa.key -passout pass:x -out encrypted-pkcs8.key
openssl rsa -aes128 -traditional -in rsa.key -passout pass:x -out encrypted-pkcs1.key
openssl ec -aes128 -in ec-sec1.key -passout pass:x -out encrypted-sec1.key
: >empty
printf ' \n\n' >blank
printf '<!DOCTYPE html>\n<html><body>502 Bad Gateway</body></html>\n' >page.html
printf '<html><body>no</body></html>\n' >page2.html
printf '{"error": "not found"}\n' >answer.json
head -c 2000000 /dev/zero >large
ln -s rsa.crt linked.crt
ln -s rsa.key linked.key
"#;

/// Certificate, key, exit code, what is said. Names without an extension stand for a missing file.
const PAIRS: &[(&str, &str, i32, &str)] = &[
    // RSA, EC and Ed25519, in PKCS#8, PKCS#1 and SEC 1.
    ("rsa.crt", "rsa.key", 0, "usable"),
    ("rsa-pkcs1.crt", "rsa-pkcs1.key", 0, "usable"),
    ("ec.crt", "ec.key", 0, "usable"),
    ("ec-sec1.crt", "ec-sec1.key", 0, "usable"),
    ("ec-parameters.crt", "ec-parameters.key", 0, "usable"),
    ("ed25519.crt", "ed25519.key", 0, "usable"),
    ("rsa-expired.crt", "rsa.key", 3, "expired"),
    ("ec-expired.crt", "ec.key", 3, "expired"),
    ("ed25519-expired.crt", "ed25519.key", 3, "expired"),
    // Files as people and tools leave them.
    ("alternative.crt", "rsa.key", 0, "usable"),
    ("chain.crt", "rsa.key", 0, "usable"),
    ("crlf-rsa.crt", "crlf-rsa.key", 0, "usable"),
    ("crlf-ec-sec1.crt", "crlf-ec-sec1.key", 0, "usable"),
    ("key-first.pem", "key-first.pem", 0, "usable"),
    ("key-last.pem", "rsa.key", 0, "usable"),
    ("commented.crt", "rsa.key", 0, "usable"),
    ("linked.crt", "linked.key", 0, "usable"),
    ("reversed.crt", "rsa.key", 1, "the private key does not belong to the certificate"),
    // Mismatched.
    ("rsa.crt", "other.key", 1, "the private key does not belong to the certificate"),
    ("ec.crt", "other-ec.key", 1, "the private key does not belong to the certificate"),
    ("ed25519.crt", "other-ed25519.key", 1, "the private key does not belong to the certificate"),
    ("rsa.crt", "ec.key", 1, "the private key does not belong to the certificate"),
    ("ec.crt", "rsa.key", 1, "the private key does not belong to the certificate"),
    ("ed25519.crt", "ec.key", 1, "the private key does not belong to the certificate"),
    ("rsa-expired.crt", "other.key", 1, "the private key does not belong to the certificate"),
    // Missing, empty, something else.
    ("missing", "rsa.key", 1, "cannot read"),
    ("rsa.crt", "missing", 1, "cannot read"),
    ("missing", "missing", 1, "cannot read"),
    ("empty", "rsa.key", 1, "the certificate is empty"),
    ("rsa.crt", "empty", 1, "the private key is empty"),
    ("blank", "rsa.key", 1, "the certificate is empty"),
    ("rsa.crt", "blank", 1, "the private key is empty"),
    ("page.html", "rsa.key", 1, "the certificate is an HTML page"),
    ("page2.html", "rsa.key", 1, "the certificate is an HTML page"),
    ("rsa.crt", "page.html", 1, "the private key is an HTML page"),
    ("answer.json", "rsa.key", 1, "the certificate is not PEM"),
    ("large", "rsa.key", 1, "too large"),
    ("binary.crt", "rsa.key", 1, "the certificate is not PEM"),
    ("cut.crt", "rsa.key", 1, "the certificate is broken PEM"),
    ("rsa.crt", "cut.key", 1, "the private key is broken PEM"),
    ("misended.crt", "rsa.key", 1, "the certificate is broken PEM"),
    ("rsa.csr", "rsa.key", 1, "the certificate is not PEM"),
    ("rsa.key", "rsa.key", 1, "the certificate is not PEM"),
    ("rsa.crt", "rsa.crt", 1, "the private key is not PEM"),
    ("rsa.crt", "public.key", 1, "the private key is not PEM"),
    // What Caddy refuses although the two belong together.
    ("trusted.crt", "rsa.key", 1, "the certificate is not PEM"),
    ("nameless.crt", "rsa.key", 1, "the certificate names nobody"),
    // Encrypted, before and since PKCS#8.
    ("rsa.crt", "encrypted-pkcs8.key", 1, "the private key is encrypted"),
    ("rsa.crt", "encrypted-pkcs1.key", 1, "the private key is encrypted"),
    ("ec-sec1.crt", "encrypted-sec1.key", 1, "the private key is encrypted"),
    // Unknown algorithms.
    ("weak.crt", "weak.key", 1, "the private key is not a valid RSA"),
    ("dsa.crt", "dsa.key", 1, "the private key is not a valid RSA"),
    ("secp256k1.crt", "secp256k1.key", 1, "the private key is not a valid RSA"),
    ("brainpool.crt", "brainpool.key", 1, "the private key is not a valid RSA"),
    ("ed448.crt", "ed448.key", 1, "the private key is not a valid RSA"),
    ("rsa-pss.crt", "rsa-pss.key", 1, "the private key is not a valid RSA"),
];

/// A root beside the files that [`MAKE`] makes, in `$OUT`.
fn made() -> Fake {
    let fake = Fake::new();
    let output = Command::new("bash").args(["-c", MAKE]).current_dir(fake.out("")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for name in ["rsa", "ec", "ed25519"] {
        let request = fs::read(fake.out(&format!("{name}.csr"))).unwrap();
        fs::write(fake.out(&format!("{name}-expired.crt")), Authority::new().sign_expired(&request)).unwrap();
    }
    fake
}

fn install(fake: &Fake, certificate: &str, key: &str) {
    for (name, file) in [("/etc/instance.crt", certificate), ("/etc/instance.key", key)] {
        let _ = fs::remove_file(fake.path(name));
        if fake.out(file).exists() {
            std::os::unix::fs::symlink(fake.out(file), fake.path(name)).unwrap();
        }
    }
}

#[test]
fn every_kind_of_pair_is_judged_and_only_what_caddy_takes_reaches_its_configuration() {
    let fake = made();
    for &(certificate, key, code, reason) in PAIRS {
        install(&fake, certificate, key);
        let output = fake.run(&["cert", "check"]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(code), "{certificate} {key}: {said}");
        assert!(said.contains(reason) && said.lines().count() == 1, "{certificate} {key}: {said}");
        let rendered = rendered(&fake, "true");
        assert_eq!(rendered.contains("instance.key"), code != 1, "{certificate} {key}: {rendered}");
        if code != 1 {
            let caddy = Caddy::start(&fake, "true");
            assert_eq!(caddy.said, "", "{certificate} {key}");
            caddy.page_with_key_of(&fake, &fake.path("/etc/instance.crt")).expect(certificate);
        }
    }
}

#[test]
fn a_pair_that_caddy_alone_refuses_costs_https_and_says_so() {
    let fake = made();
    install(&fake, "rsa.crt", "rsa.key");
    // A Caddy that takes no certificate at all, and else is what it is.
    let picky = fake.write(
        "/picky/caddy",
        "#!/bin/sh\nfor file; do :; done\nif grep -q instance.key \"$file\"; then echo 'Error: no such certificate' >&2; exit 1; fi\nexec caddy \"$@\"\n",
    );
    let root = fake.root();
    let arguments = ["caddy".as_ref(), "--caddy".as_ref(), picky.as_os_str(), "--root".as_ref(), root.as_os_str()];
    let mut command = fake.command(env!("CARGO_BIN_EXE_vast-portal"), arguments);
    command.env("ENABLE_HTTPS", "true").env("PORTAL_CONFIG", "localhost:8188:18188:/:App");
    let output = command.env("VAST_TCP_PORT_8188", "40000").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("HTTPS is off") && said.contains("no such certificate"), "{said}");
    let caddyfile = fs::read_to_string(fake.path("/etc/Caddyfile")).unwrap();
    assert!(caddyfile.contains("http://:8188 {") && !caddyfile.contains("instance.key"), "{caddyfile}");
}
