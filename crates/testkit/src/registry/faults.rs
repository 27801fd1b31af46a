//! Misbehaviour to order.

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
    /// The connection is closed after so many bytes of the request's body.
    CutUpload(usize),
    /// The connection is closed after so many bytes of the answer's body.
    CutAnswer(usize),
    /// The answer says and holds only so many bytes.
    Truncate(usize),
    /// One byte of the answer's body is another.
    Corrupt,
    /// It is carried out and answered, and then undone, as by another writer who knew nothing of it.
    Undone,
    /// The token that came with the request is no longer good: 401 with a challenge.
    ExpireToken,
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
