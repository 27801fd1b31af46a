//! Mounts a volume that answers late over a directory, until someone unmounts it.
//!
//! `cargo run --release -p vast-testkit --example hostile-volume -- --delay-us 1000 BEHIND MOUNTPOINT`
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a tool of the developers")]

use std::time::Duration;

use vast_testkit::volume::{Options, Volume};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [flag, delay, behind, at] = arguments.as_slice() else {
        panic!("usage: hostile-volume --delay-us MICROSECONDS BEHIND MOUNTPOINT");
    };
    assert_eq!(flag, "--delay-us");
    let options = Options::late(Duration::from_micros(delay.parse().unwrap()));
    let volume = Volume::mount(behind.as_ref(), at.as_ref(), &options);
    println!("mounted");
    volume.wait().unwrap();
}
