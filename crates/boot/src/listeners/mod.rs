//! Which ports are listened on, and by which sockets and programs.

mod diag;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The state of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// The tables of both address families.
const TABLES: [&str; 2] = ["net/tcp", "net/tcp6"];

/// Ports and inodes of all listening sockets around this process.
#[must_use]
pub fn sockets() -> Vec<(u16, u64)> {
    diag::listening().unwrap_or_else(|_| tables(Path::new("/proc")).unwrap_or_default())
}

/// The same from the kernel's tables; nothing without them.
fn tables(proc: &Path) -> Option<Vec<(u16, u64)>> {
    let tables: Vec<String> = TABLES.iter().filter_map(|table| fs::read_to_string(proc.join(table)).ok()).collect();
    (!tables.is_empty()).then(|| tables.iter().flat_map(|table| table.lines().filter_map(listener)).collect())
}

/// The ports that something listens on, and the programs that do as far as we may see; nothing without the tables.
#[must_use]
pub fn programs(proc: &Path) -> Option<BTreeMap<u16, BTreeSet<String>>> {
    let sockets = tables(proc)?;
    let owners = owners(proc, &sockets.iter().map(|(_, inode)| *inode).collect());
    let mut ports: BTreeMap<u16, BTreeSet<String>> = BTreeMap::new();
    for (port, inode) in sockets {
        ports.entry(port).or_default().extend(owners.get(&inode).into_iter().flatten().cloned());
    }
    Some(ports)
}

/// Port and inode of `0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 12345 …`, if it listens.
fn listener(line: &str) -> Option<(u16, u64)> {
    let mut fields = line.split_whitespace();
    let (_, port) = fields.nth(1)?.rsplit_once(':')?;
    (fields.nth(1)? == LISTEN).then_some(())?;
    Some((u16::from_str_radix(port, 16).ok()?, fields.nth(5)?.parse().ok()?))
}

/// The names of the programs that hold these sockets, as far as we may see.
fn owners(proc: &Path, inodes: &BTreeSet<u64>) -> BTreeMap<u64, BTreeSet<String>> {
    let mut owners: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    for process in fs::read_dir(proc).into_iter().flatten().flatten() {
        if !process.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        let held = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        // A process may end meanwhile; then it holds nothing.
        for inode in
            held.filter_map(|file| socket(&fs::read_link(file.path()).ok()?)).filter(|inode| inodes.contains(inode))
        {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            owners.entry(inode).or_default().insert(name.trim().to_owned());
        }
    }
    owners
}

/// The inode of `socket:[12345]`.
fn socket(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_read_from_the_kernels_table() {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
        let listens =
            "   0: 0100007F:2B67 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0";
        let connected = listens.replace(" 0A ", " 01 ");
        let six = listens.replace("0100007F", "00000000000000000000000001000000");
        assert_eq!(
            [head, listens, &connected, &six].map(listener),
            [None, Some((11111, 4711)), None, Some((11111, 4711))]
        );
    }

    #[test]
    fn a_real_listener_is_seen_with_its_program() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let ports = programs(Path::new("/proc")).unwrap();
        let owners = &ports[&socket.local_addr().unwrap().port()];
        let me = fs::read_to_string("/proc/self/comm").unwrap();
        assert!(owners.contains(me.trim()), "{owners:?}");
    }
}
