//! `extend`: an overlay on a published image.

use vast_testkit::registry::Distribution;

use super::bases::{BASE, ROOT, TWO};
use super::place::{Place, inspected, tool};

#[test]
fn an_extended_image_is_read_by_other_tools_and_nothing_is_published_where_it_is_refused() {
    let (place, registry) = (Place::new(), Distribution::start());
    let at = |name: &str| registry.reference(name);
    place.build(BASE, &ROOT, &TWO, &at("base:v1"));
    let overlay = place.folder("overlay", &[("opt/tools/boot.sh", "own"), ("lib/y", "y")]);
    let (base, target) = (at("base:v1"), at("app:v1"));
    let overlay = overlay.to_str().unwrap().to_owned();
    let dry = place.printed(&["extend", &base, "--overlay", &overlay, "--to", &target, "--dry-run"]);
    let printed = place.printed(&["extend", &base, "--overlay", &overlay, "--to", &target]);
    assert_eq!(printed, dry, "the same digest, published or not");
    let root = place.unpacked(&at("app:v1"));
    assert_eq!(std::fs::read_to_string(root.join("opt/tools/boot.sh")).unwrap(), "own");
    assert_eq!(inspected("arm64", &at("app:v1"))["Architecture"], "arm64");

    // Pushed by another tool, an image has no records.
    let copied = at("plain:v1");
    let copy = ["--insecure-policy", "copy", "--all", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false"];
    tool("skopeo", &[&copy[..], &[&format!("docker://{base}"), &format!("docker://{copied}")]].concat());
    // The cache of this machine knows the layers; another one does not.
    let elsewhere = place.dir.path().join("elsewhere").display().to_string();
    let refused = ["extend", &copied, "--overlay", &overlay, "--to", &at("never:v1"), "--cache-dir", &elsewhere];
    let output = place.imagegen(&refused);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("`/lib/y`") && said.contains("hint: with --index"), "{said}");
    assert_eq!(registry.tags("never"), Vec::<String>::new());
    place.printed(&[&refused[..], &["--index"]].concat());
    assert!(registry.tags("never").contains(&"v1".to_owned()), "{:?}", registry.tags("never"));
}
