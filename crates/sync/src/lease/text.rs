//! The text of a lease.
//!
//! ```text
//! vast-sync lease 1
//! owner 5a1c9e02-4711-88213-9f00ab12
//! instance C.12345
//! generation 1
//! started 1795682511
//! state held
//! counter 00000000000000000042
//! ```
//!
//! The last two lines have a fixed width, so that an owner changes them in place, each with one small write. It must not
//! replace the file: should another instance have taken over meanwhile, that would bring the old lease back.

use std::str::FromStr;

use crate::staging::owner::Owner;

const FIRST_LINE: &str = "vast-sync lease 1";
const COUNTER_DIGITS: usize = 20;
/// `released` is the longer of the two states.
const STATE_WIDTH: usize = 8;
/// The last line, with its end.
const COUNTER_LINE_BYTES: u64 = ("counter ".len() + COUNTER_DIGITS + 1) as u64;

/// Who is filling a shared directory, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    /// The attempt that fills it.
    pub(crate) owner: Owner,
    /// What people call the instance.
    pub(crate) instance: String,
    /// How often the directory changed hands, the first claim included.
    pub(crate) generation: u64,
    /// When the owner began, in seconds since 1970, by its own clock. For people: nothing is decided by it.
    pub(crate) started: u64,
    /// Whether the owner has given up: whoever comes may take over at once.
    pub(crate) released: bool,
    /// Raised by its owner while it lives.
    pub(crate) counter: u64,
}

impl Lease {
    pub(crate) fn to_text(&self) -> String {
        let Self { owner, instance, generation, started, .. } = self;
        let instance: String = instance.chars().filter(|character| !character.is_control()).collect();
        format!(
            "{FIRST_LINE}\nowner {owner}\ninstance {instance}\ngeneration {generation}\nstarted {started}\n\
             state {}\ncounter {}\n",
            Self::state_text(self.released),
            Self::counter_text(self.counter),
        )
    }

    /// Where the counter's digits begin in a text of that many bytes.
    pub(crate) fn counter_offset(text_bytes: u64) -> u64 {
        text_bytes.saturating_sub(COUNTER_DIGITS as u64 + 1)
    }

    pub(crate) fn counter_text(counter: u64) -> String {
        format!("{counter:0COUNTER_DIGITS$}")
    }

    /// Where the state begins in a text of that many bytes.
    pub(crate) fn state_offset(text_bytes: u64) -> u64 {
        text_bytes.saturating_sub(COUNTER_LINE_BYTES + STATE_WIDTH as u64 + 1)
    }

    pub(crate) fn state_text(released: bool) -> String {
        format!("{:STATE_WIDTH$}", if released { "released" } else { "held" })
    }
}

/// The text is not that of a lease.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotALease;

impl FromStr for Lease {
    type Err = NotALease;

    fn from_str(text: &str) -> Result<Self, NotALease> {
        let mut lines = text.lines();
        if lines.next() != Some(FIRST_LINE) {
            return Err(NotALease);
        }
        let mut value = |name: &str| {
            let (found, value) = lines.next()?.split_once(' ')?;
            (found == name).then_some(value)
        };
        let lease = (|| {
            Some(Self {
                owner: value("owner")?.parse().ok()?,
                instance: value("instance")?.to_owned(),
                generation: value("generation")?.parse().ok()?,
                started: value("started")?.parse().ok()?,
                released: match value("state")?.trim_end() {
                    "held" => false,
                    "released" => true,
                    _ => return None,
                },
                counter: value("counter")?.parse().ok()?,
            })
        })();
        lease.ok_or(NotALease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lease() -> Lease {
        Lease {
            owner: Owner::new(),
            instance: "C.12345".to_owned(),
            generation: 3,
            started: 1_795_682_511,
            released: false,
            counter: 42,
        }
    }

    #[test]
    fn state_and_counter_are_changed_in_place() {
        let text = lease().to_text();
        let mut bytes = text.clone().into_bytes();
        let length = bytes.len() as u64;
        let mut put = |offset: u64, new: &str| {
            let at = usize::try_from(offset).unwrap();
            bytes[at..at + new.len()].copy_from_slice(new.as_bytes());
        };
        put(Lease::counter_offset(length), &Lease::counter_text(u64::MAX));
        put(Lease::state_offset(length), &Lease::state_text(true));
        let changed: Lease = String::from_utf8(bytes).unwrap().parse().unwrap();
        assert_eq!(
            changed,
            Lease { released: true, counter: u64::MAX, owner: changed.owner.clone(), ..text.parse().unwrap() }
        );
    }

    #[test]
    fn what_an_older_image_or_a_later_version_writes_is_no_lease() {
        let text = lease().to_text();
        for other in ["", "\n", "4711\n", "vast-sync lease 2\nowner x\n", &text[..text.len() / 2]] {
            assert_eq!(other.parse::<Lease>(), Err(NotALease), "{other:?}");
        }
        assert_eq!(text.replace("state held", "state lost").parse::<Lease>(), Err(NotALease));
    }

    proptest! {
        #[test]
        fn every_lease_reads_back(instance in "[^\\p{C}]{0,40}", generation: u64, started: u64, released: bool, counter: u64) {
            let lease = Lease { instance, generation, started, released, counter, ..lease() };
            prop_assert_eq!(lease.to_text().parse(), Ok(lease));
        }

        #[test]
        fn nothing_makes_the_reader_fail(text in ".{0,200}") {
            let _ = text.parse::<Lease>();
        }
    }
}
