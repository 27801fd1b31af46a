//! Misbehaviour to order.

use std::time::Duration;

/// One way to fail, for requests that match.
#[derive(Debug, Clone)]
pub struct Fault {
    pub(super) method: String,
    pub(super) part: String,
    pub(super) kind: Kind,
    pub(super) times: usize,
    pub(super) skip: usize,
}

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// It is answered with this status, and nothing is done.
    Status(u16),
    /// The same, with a `Retry-After` header.
    RetryAfter(u16, String),
    /// The connection is closed without an answer.
    Cut,
    /// There is no answer, and the connection stays open.
    Hang,
    /// The connection is closed after so many bytes of the request's body, and those have reached the registry.
    CutUpload(usize),
    /// What was asked for is done, and the connection is closed instead of an answer.
    CutBeforeAnswer,
    /// What was asked for is done at once, and answered after so long.
    Late(Duration),
    /// The connection is closed after so many bytes of the answer's body.
    CutAnswer(usize),
    /// The answer says and holds only so many bytes.
    Truncate(usize),
    /// One byte of the answer's body is another.
    Corrupt,
    /// It is carried out and answered, and then undone, as by another writer who knew nothing of it.
    Undone,
    /// One byte of the request's body is another.
    CorruptUpload,
    /// The token that came with the request is no longer good: 401 with a challenge.
    ExpireToken,
    /// A mount becomes an ordinary upload (202), as registries are free to do.
    DeclineMount,
    /// The answer has no `Location`.
    NoLocation,
    /// The answer's `Location` is a path.
    RelativeLocation,
    /// The answer's `Location` is a whole address.
    AbsoluteLocation,
}

impl Kind {
    /// Whether whoever asked cannot learn the address of an upload that was opened for it.
    #[must_use]
    pub fn hides_location(&self) -> bool {
        matches!(self, Self::CutBeforeAnswer | Self::CutUpload(_) | Self::NoLocation)
    }
}

impl Fault {
    /// Requests of `method` whose path or query contains `part` fail, always.
    #[must_use]
    pub fn new(method: &str, part: &str, kind: Kind) -> Self {
        Self { method: method.to_owned(), part: part.to_owned(), kind, times: usize::MAX, skip: 0 }
    }

    /// Only so many times.
    #[must_use]
    pub fn times(self, times: usize) -> Self {
        Self { times, ..self }
    }

    /// Not before so many matching requests went well.
    #[must_use]
    pub fn after(self, skip: usize) -> Self {
        Self { skip, ..self }
    }

    fn matches(&self, method: &str, target: &str) -> bool {
        self.times > 0 && self.method == method && target.contains(&self.part)
    }
}

/// The fault that a request meets, counted down.
pub(super) fn meet(faults: &mut [Fault], method: &str, target: &str) -> Option<Kind> {
    for fault in faults.iter_mut().filter(|fault| fault.matches(method, target)) {
        if fault.skip > 0 {
            fault.skip -= 1;
            continue;
        }
        if fault.times != usize::MAX {
            fault.times -= 1;
        }
        return Some(fault.kind.clone());
    }
    None
}

/// What clients of a registry ask for, as [`Fault`]s match it.
const REQUESTS: &[(&str, &str)] = &[
    ("GET", "/manifests/"),
    ("HEAD", "/manifests/"),
    ("PUT", "/manifests/"),
    ("GET", "/referrers/"),
    ("HEAD", "/blobs/"),
    ("GET", "/blobs/"),
    ("POST", "/blobs/uploads/"),
    ("POST", "mount="),
    ("PATCH", "/blobs/upload"),
    ("PUT", "/blobs/upload"),
    ("GET", "/token"),
];

/// Up to six faults: the same ones for the same seed.
///
/// Most pass after a few times; about one in ten never does. None is of a kind that only time could end.
#[must_use]
pub fn schedule(seed: u64) -> Vec<Fault> {
    let mut dice = Dice(seed);
    let count = 1 + dice.below(6);
    (0..count)
        .map(|_| {
            let (method, part) = REQUESTS[dice.below(REQUESTS.len())];
            let fault = Fault::new(method, part, dice.kind(method)).after(dice.below(4));
            if dice.below(10) == 0 { fault } else { fault.times(1 + dice.below(3)) }
        })
        .collect()
}

/// `SplitMix64`: small, and the same on every machine.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    fn kind(&mut self, method: &str) -> Kind {
        let bytes = [0, 1, 40, 1000][self.below(4)];
        let any = [
            Kind::Status(429),
            Kind::Status(500),
            Kind::Status(502),
            Kind::Status(503),
            Kind::RetryAfter(429, "3".to_owned()),
            Kind::RetryAfter(503, "Wed, 21 Oct 2099 07:28:00 GMT".to_owned()),
            Kind::Status(403),
            Kind::Cut,
            Kind::CutBeforeAnswer,
            Kind::ExpireToken,
        ];
        let own = match method {
            "GET" => vec![Kind::CutAnswer(bytes), Kind::Truncate(bytes), Kind::Corrupt],
            "POST" => vec![Kind::DeclineMount, Kind::NoLocation, Kind::RelativeLocation, Kind::AbsoluteLocation],
            "PATCH" => vec![Kind::CutUpload(bytes), Kind::CorruptUpload, Kind::NoLocation, Kind::AbsoluteLocation],
            "PUT" => vec![Kind::CutUpload(bytes), Kind::CorruptUpload],
            _ => Vec::new(),
        };
        let all: Vec<Kind> = any.into_iter().chain(own).collect();
        all[self.below(all.len())].clone()
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn a_seed_gives_the_same_schedule_and_seeds_give_all_kinds() {
        assert_eq!(format!("{:?}", schedule(7)), format!("{:?}", schedule(7)));
        let seen: std::collections::BTreeSet<String> = (0..500)
            .flat_map(schedule)
            .map(|fault| format!("{:?}", fault.kind).chars().take_while(|c| c.is_alphabetic()).collect())
            .collect();
        assert_eq!(seen.len(), 14, "all but the one that only ends with time: {seen:?}");
    }
}
