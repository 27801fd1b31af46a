//! What an instance concludes from looking at a shared directory again and again. No clock, no file: what was read and how
//! much time has passed come in, what to do next comes out.

use std::time::Duration;

use super::text::Lease;

/// How long things take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How long an owner may be silent before it is held for dead. It speaks six times as often.
    pub lease: Duration,
    /// How long to wait for an owner who lives, or of whom nothing can be known.
    pub bound: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { lease: Duration::from_mins(1), bound: Duration::from_hours(1) }
    }
}

impl Timing {
    /// How often an owner gives a sign of life.
    pub(crate) fn beat(self) -> Duration {
        self.lease / 6
    }

    /// How often an observer looks.
    pub(crate) fn poll(self) -> Duration {
        (self.lease / 60).max(Duration::from_millis(1))
    }
}

/// What `.syncing` is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Syncing {
    /// A lease.
    Lease(Lease),
    /// Something without a sign of life: the empty file of an older image, or what a later version writes.
    Opaque,
}

/// A shared directory, as it was when it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is one thing that is there or not, in any combination")]
pub(crate) struct Reading {
    /// Whether the directory is there.
    pub(crate) exists: bool,
    /// Whether `.synced` is.
    pub(crate) synced: bool,
    pub(crate) syncing: Option<Syncing>,
    /// Whether the part by which a finished tree is known has entries.
    pub(crate) populated: bool,
    /// Whether it has entries that are no part of this protocol.
    pub(crate) foreign: bool,
    /// The highest number among the takeovers that were begun and are not finished.
    pub(crate) takeover: Option<u64>,
    /// Prepared directories beside it: each is of an owner who was about to claim, or died just then.
    pub(crate) claims: Vec<String>,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nobody has it: claim it.
    Claim,
    /// It is complete.
    Finished,
    /// It is an older image's complete tree without a mark: mark it.
    Adopt,
    /// Its owner is dead: take over, as the taker of that number.
    TakeOver(u64),
    /// Look again later.
    Wait,
    /// The time is up.
    GiveUp,
    /// It is something else, and nobody's to fill.
    Foreign,
}

/// What has to change for an owner to be alive.
type Sign = (Option<Lease>, Option<u64>, Vec<String>);

/// Remembers what it saw last.
#[derive(Debug)]
pub(crate) struct Observer {
    timing: Timing,
    sign: Option<Sign>,
    seen_at: Duration,
    /// For how long it has watched the sign stay as it is.
    still: Duration,
}

impl Observer {
    pub(crate) fn new(timing: Timing) -> Self {
        Self { timing, sign: None, seen_at: Duration::ZERO, still: Duration::ZERO }
    }

    /// Concludes from a reading made `now`, by a monotonic clock that began with the observer.
    pub(crate) fn observe(&mut self, reading: &Reading, now: Duration) -> Step {
        if !reading.exists {
            return Step::Claim;
        }
        if reading.synced {
            return Step::Finished;
        }
        let still = self.watch(reading, now);
        let is_dead = still >= self.timing.lease;
        let step = match &reading.syncing {
            Some(Syncing::Lease(lease)) => {
                let number = reading.takeover.map_or(lease.generation, |begun| lease.generation.max(begun + 1));
                // Of one who gave up there is nothing to wait for, unless someone is taking over already.
                let is_free = lease.released && number == lease.generation;
                if is_dead || is_free { Step::TakeOver(number) } else { Step::Wait }
            }
            None if reading.populated => Step::Adopt,
            None if reading.foreign => Step::Foreign,
            // Made, and not marked yet. An older image does both at once, and so leaves nothing beside it that could tell
            // of its death; one of ours does.
            None if is_dead && !reading.claims.is_empty() => {
                Step::TakeOver(reading.takeover.map_or(0, |begun| begun + 1))
            }
            Some(Syncing::Opaque) | None => Step::Wait,
        };
        if step == Step::Wait && now >= self.timing.bound { Step::GiveUp } else { step }
    }

    /// For how long the sign was seen to stay as it is.
    ///
    /// An observer that was itself paused has not watched: of the time between two looks, no more counts than it would have
    /// let pass by itself.
    fn watch(&mut self, reading: &Reading, now: Duration) -> Duration {
        let lease = match &reading.syncing {
            Some(Syncing::Lease(lease)) => Some(lease.clone()),
            _ => None,
        };
        let sign = Some((lease, reading.takeover, reading.claims.clone()));
        if self.sign == sign {
            self.still += now.saturating_sub(self.seen_at).min(self.timing.poll() * 4);
        } else {
            self.sign = sign;
            self.still = Duration::ZERO;
        }
        self.seen_at = now;
        self.still
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::staging::owner::Owner;

    fn lease(generation: u64, counter: u64, released: bool) -> Syncing {
        let owner: Owner = "5a1c9e02-4711-88213-9f00ab12".parse().unwrap();
        Syncing::Lease(Lease { owner, instance: String::new(), generation, started: 0, released, counter })
    }

    fn there(syncing: impl Into<Option<Syncing>>) -> Reading {
        Reading { exists: true, syncing: syncing.into(), ..Reading::default() }
    }

    /// Shows an observer the same reading for that long, at its own pace, and returns its last step and the time then.
    fn show(observer: &mut Observer, reading: &Reading, from: Duration, lasting: Duration) -> (Step, Duration) {
        let mut now = from;
        let mut step = observer.observe(reading, now);
        while now < from + lasting {
            now += observer.timing.poll();
            step = observer.observe(reading, now);
        }
        (step, now)
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_seen_at_once() {
        let claims = vec![".claim.id.x".to_owned()];
        for (reading, step) in [
            (Reading::default(), Step::Claim),
            (Reading { synced: true, ..there(None) }, Step::Finished),
            (Reading { synced: true, ..there(lease(1, 1, false)) }, Step::Finished),
            (Reading { synced: true, ..there(Syncing::Opaque) }, Step::Finished),
            (Reading { populated: true, foreign: true, ..there(None) }, Step::Adopt),
            (Reading { populated: true, ..there(Syncing::Opaque) }, Step::Wait),
            (Reading { foreign: true, ..there(None) }, Step::Foreign),
            (there(None), Step::Wait),
            (Reading { claims, ..there(None) }, Step::Wait),
            (there(lease(1, 1, false)), Step::Wait),
            (there(lease(4, 1, true)), Step::TakeOver(4)),
            (Reading { takeover: Some(4), ..there(lease(4, 1, true)) }, Step::Wait),
        ] {
            assert_eq!(Observer::new(Timing::default()).observe(&reading, Duration::ZERO), step, "{reading:?}");
        }
    }

    #[test]
    fn an_owner_is_dead_when_its_counter_was_not_seen_to_move_for_a_minute() {
        let mut observer = Observer::new(Timing::default());
        let (step, now) = show(&mut observer, &there(lease(1, 1, false)), Duration::ZERO, 59 * SECOND);
        assert_eq!(step, Step::Wait);
        // It moves, and the minute begins anew, whatever the counter was before.
        let (step, now) = show(&mut observer, &there(lease(1, 0, false)), now, 59 * SECOND);
        assert_eq!(step, Step::Wait);
        let (step, _) = show(&mut observer, &there(lease(1, 0, false)), now, 2 * SECOND);
        assert_eq!(step, Step::TakeOver(1));
    }

    #[test]
    fn an_observer_that_was_paused_has_not_watched() {
        let mut observer = Observer::new(Timing::default());
        let reading = there(lease(1, 1, false));
        assert_eq!(observer.observe(&reading, Duration::ZERO), Step::Wait);
        assert_eq!(observer.observe(&reading, 500 * SECOND), Step::Wait);
        assert_eq!(show(&mut observer, &reading, 500 * SECOND, 60 * SECOND).0, Step::TakeOver(1));
    }

    #[test]
    fn a_taker_that_died_is_followed_by_one_of_a_higher_number() {
        let mut observer = Observer::new(Timing::default());
        let reading = Reading { takeover: Some(1), ..there(lease(1, 9, false)) };
        assert_eq!(show(&mut observer, &reading, Duration::ZERO, 61 * SECOND).0, Step::TakeOver(2));
        // A takeover that begins is a sign of life.
        let reading = Reading { takeover: Some(2), ..reading };
        assert_eq!(observer.observe(&reading, 62 * SECOND), Step::Wait);
    }

    #[test]
    fn a_mark_without_a_sign_of_life_is_waited_for_until_the_bound_and_never_taken_over() {
        let timing = Timing { bound: 200 * SECOND, ..Timing::default() };
        for reading in [there(Syncing::Opaque), there(None)] {
            let mut observer = Observer::new(timing);
            let (step, now) = show(&mut observer, &reading, Duration::ZERO, 199 * SECOND);
            assert_eq!(step, Step::Wait, "{reading:?}");
            assert_eq!(show(&mut observer, &reading, now, 2 * SECOND).0, Step::GiveUp, "{reading:?}");
        }
    }

    #[test]
    fn one_of_ours_that_died_between_making_the_directory_and_marking_it_is_taken_over() {
        let mut observer = Observer::new(Timing::default());
        let claimed = Reading { claims: vec![".claim.id.x".to_owned()], ..there(None) };
        assert_eq!(show(&mut observer, &claimed, Duration::ZERO, 61 * SECOND).0, Step::TakeOver(0));
        // An older image's mark appears after all.
        assert_eq!(observer.observe(&Reading { syncing: Some(Syncing::Opaque), ..claimed }, 62 * SECOND), Step::Wait);
    }

    #[test]
    fn an_owner_who_lives_is_not_waited_for_without_end() {
        let timing = Timing { bound: 100 * SECOND, ..Timing::default() };
        let mut observer = Observer::new(timing);
        for second in 0..100 {
            let step = observer.observe(&there(lease(1, second, false)), SECOND * u32::try_from(second).unwrap());
            assert_eq!(step, Step::Wait);
        }
        assert_eq!(observer.observe(&there(lease(1, 100, false)), 100 * SECOND), Step::GiveUp);
    }
}
