//! The memory of a boot that only waits.
//!
//! A container's first process and the sequence live as long as the container, and do nothing after the boot but wait. What is resident
//! of them then are mostly pages of the program's file and of libraries, which the boot has touched once. Letting go of them leaves a
//! tenth. Whatever is touched again comes back from the kernel's cache.

use std::ffi::c_void;
use std::fs;
use std::ops::Range;
use std::time::Duration;

/// A process that has waited for so long is going to wait for long.
pub(crate) const SETTLED: Duration = Duration::from_secs(1);

/// Lets go of all pages that are as they are in a file.
pub(crate) fn let_go() {
    let maps = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    for range in clean(&maps) {
        let start = std::ptr::with_exposed_provenance_mut::<c_void>(range.start);
        #[allow(unsafe_code, reason = "neither std nor the features of rustix that are in use offer madvise")]
        // SAFETY: the range is a whole mapping of a file, nobody can write to it, and none of its pages differs from the file's. The
        // kernel fills it with the same bytes when it is touched again, this very code included.
        let _ = unsafe { libc::madvise(start, range.len(), libc::MADV_DONTNEED) };
    }
}

/// The mappings of files that cannot be written to and in which no page was changed before: the loader's relocations were, and must stay.
fn clean(smaps: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut current: Option<Range<usize>> = None;
    // Of one that was changed, some pages may have been swapped out.
    let (mut changed, mut swapped) = (None, None);
    for line in smaps.lines() {
        if let Some((range, is_fixed)) = mapping(line) {
            current = is_fixed.then_some(range);
            (changed, swapped) = (None, None);
        } else if let Some(kilobytes) = line.strip_prefix("Anonymous:") {
            changed = Some(kilobytes.trim() != "0 kB");
        } else if let Some(kilobytes) = line.strip_prefix("Swap:") {
            swapped = Some(kilobytes.trim() != "0 kB");
        }
        // A kernel that does not say is taken for one that says yes.
        if (changed, swapped) == (Some(false), Some(false))
            && let Some(range) = current.take()
        {
            found.push(range);
        }
    }
    found
}

/// The first line of a mapping, `55d0-55d1 r-xp 00000000 08:01 42   /usr/bin/x`: its range, and whether it is a file's and cannot be
/// written to.
fn mapping(line: &str) -> Option<(Range<usize>, bool)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    let range = address(start)?..address(end)?;
    let rights = fields.next()?;
    let is_files = fields.nth(3).is_some_and(|path| path.starts_with('/'));
    Some((range, is_files && !rights.contains('w') && rights.ends_with('p')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(mapping: &str, anonymous: &str, swap: &str) -> String {
        format!(
            "{mapping}\nSize: 4 kB\nAnonymous:   {anonymous} kB\nSwap:    {swap} kB\nSwapPss:   9 kB\nVmFlags: rd mr\n"
        )
    }

    #[test]
    fn only_what_is_as_in_the_file_and_stays_so_is_let_go() {
        let text = "1000-3000 r-xp 00000000 08:01 42   /usr/bin/a b";
        for (mapping, anonymous, swap, expected) in [
            (text, "0", "0", Some(0x1000..0x3000)),
            ("1000-3000 r--p 00000000 08:01 42   /usr/lib/x.so", "0", "0", Some(0x1000..0x3000)),
            (text, "4", "0", None),
            // Changed once, and swapped out since.
            (text, "0", "4", None),
            ("1000-3000 rw-p 00000000 08:01 42   /usr/lib/x.so", "0", "0", None),
            ("1000-3000 r--s 00000000 08:01 42   /usr/lib/x.so", "0", "0", None),
            ("1000-3000 r-xp 00000000 00:00 0   [vdso]", "0", "0", None),
            ("1000-3000 r--p 00000000 00:00 0", "0", "0", None),
        ] {
            let smaps = lines(mapping, anonymous, swap) + &lines("5000-6000 rw-p 00000000 00:00 0   [heap]", "8", "0");
            assert_eq!(clean(&smaps), expected.into_iter().collect::<Vec<_>>(), "{mapping} {anonymous} {swap}");
        }
        assert_eq!(clean(&lines(text, "0", "0").replace("Swap:", "Other:")), []);
    }

    #[test]
    fn a_process_goes_on_with_what_it_let_go_of() {
        let resident = || {
            let text = fs::read_to_string("/proc/self/status").unwrap();
            let line = text.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
            line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap()
        };
        let before = resident();
        let_go();
        let after = resident();
        assert!(after < before, "{before} kB before, {after} kB after");
        assert_eq!(format!("{:?}", "still here".split(' ').rev().collect::<Vec<_>>()), r#"["here", "still"]"#);
    }
}
