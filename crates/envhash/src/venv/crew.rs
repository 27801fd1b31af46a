//! Reading many small files: one after the other where they are in memory, many at a time where each waits for a disk.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How many items tell whether reading waits.
const PROBES: usize = 4;

/// What an item from memory never takes. A disk's answer takes longer, a volume's in the network much longer.
const WAITING: Duration = Duration::from_micros(250);

/// How many items are read at a time: as deep as a disk's queue is worth it, whatever the number of cores.
const WORKERS: usize = 16;

/// Applies `read` to every item and gives the results in their order.
///
/// A system that allows no more threads gets by with fewer; the calling one always works.
pub(super) fn read_each<T: Sync, R: Send>(items: &[T], read: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let (probes, rest) = items.split_at(items.len().min(PROBES));
    let start = Instant::now();
    let mut results: Vec<R> = probes.iter().map(&read).collect();
    let waits = start.elapsed() > WAITING * u32::try_from(probes.len()).unwrap_or(u32::MAX);
    if waits {
        results.extend(together(rest, &read));
    } else {
        results.extend(rest.iter().map(&read));
    }
    results
}

fn together<T: Sync, R: Send>(items: &[T], read: &(impl Fn(&T) -> R + Sync)) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return done };
            done.push((index, read(item)));
        }
    };
    let mut done = thread::scope(|scope| {
        let helpers = 1..WORKERS.min(items.len());
        let helpers: Vec<_> = helpers.map_while(|_| thread::Builder::new().spawn_scoped(scope, work).ok()).collect();
        let mut done = work();
        for helper in helpers {
            done.extend(helper.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        done
    });
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_items_however_they_are_read() {
        for count in [0, 1, 3, 4, 5, 200] {
            let items: Vec<usize> = (0..count).collect();
            let expected: Vec<usize> = items.iter().map(|item| item * 2).collect();
            assert_eq!(read_each(&items, |item| item * 2), expected);
            assert_eq!(together(&items, &|item: &usize| item * 2), expected);
        }
    }

    #[test]
    fn several_items_are_read_at_a_time() {
        // Nobody gets on before another one is there: with one worker this would not end.
        let meeting = std::sync::Barrier::new(2);
        let together = together(&[(), ()], &|()| meeting.wait().is_leader());
        assert_eq!(together.iter().filter(|leader| **leader).count(), 1);
    }
}
