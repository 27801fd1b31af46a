//! Stage 36: what the image brings for the workspace.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use vast_sync::Progress;
use vast_sync::workspace::{self, Options};

use crate::console::SharedConsole;
use crate::error::Error;
use crate::stage::{Boot, Verdict};

/// The image's items.
pub const INTERNAL: &str = "/opt/workspace-internal";

/// How often the container's log hears of a copy that takes long.
const TELL_EVERY: Duration = Duration::from_secs(10);

pub(super) fn run(boot: &mut Boot<'_>) -> Result<Verdict, Error> {
    let options = Options::new(boot.root.join(INTERNAL), boot.workspace());
    let plan = workspace::plan(&options)?;
    if plan.is_empty() {
        return Ok(Verdict::skipped("the workspace has all that the image brings"));
    }
    let told = Told::new(boot.console.clone());
    let report = boot.interruptible(move || workspace::apply(&plan, &options, &told))??;
    Ok(match report.published() {
        0 => Verdict::done(),
        1 => Verdict::said("published 1 item"),
        count => Verdict::said(format!("published {count} items")),
    })
}

/// Says how far a copy is, now and then.
struct Told {
    console: SharedConsole,
    total_bytes: AtomicU64,
    done_bytes: AtomicU64,
    clock: Mutex<Clock>,
}

struct Clock {
    started: Instant,
    said: Instant,
}

impl Told {
    fn new(console: SharedConsole) -> Self {
        let now = Instant::now();
        let clock = Mutex::new(Clock { started: now, said: now });
        Self { console, total_bytes: AtomicU64::new(0), done_bytes: AtomicU64::new(0), clock }
    }
}

impl Progress for Told {
    fn start(&self, total_bytes: u64, _total_files: u64) {
        self.total_bytes.store(total_bytes, Ordering::Relaxed);
        self.done_bytes.store(0, Ordering::Relaxed);
        let now = Instant::now();
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = Clock { started: now, said: now };
    }

    fn advance(&self, bytes: u64, _files: u64) {
        let done = self.done_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        // Whoever does not get the lock at once has a copy to go on with.
        let Ok(mut clock) = self.clock.try_lock() else { return };
        if clock.said.elapsed() >= TELL_EVERY {
            clock.said = Instant::now();
            let line = progress(done, self.total_bytes.load(Ordering::Relaxed), clock.started.elapsed());
            self.console.line(&format!("36-sync-workspace.sh: {line}"));
        }
    }

    fn message(&self, text: &str) {
        self.console.line(&format!("36-sync-workspace.sh: {text}"));
    }
}

/// "1.2 of 5.6 GB, 37 s left".
fn progress(done_bytes: u64, total_bytes: u64, elapsed: Duration) -> String {
    let gigabytes = |bytes: u64| bytes as f64 / 1e9;
    let rate = done_bytes as f64 / elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
    let left = total_bytes.saturating_sub(done_bytes) as f64 / rate.max(1.0);
    format!("{:.1} of {:.1} GB, {left:.0} s left", gigabytes(done_bytes), gigabytes(total_bytes))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fake;
    use super::*;

    #[test]
    fn progress_has_bytes_and_time_left() {
        assert_eq!(progress(1_000_000_000, 3_000_000_000, Duration::from_secs(10)), "1.0 of 3.0 GB, 20 s left");
        assert_eq!(progress(0, 0, Duration::ZERO), "0.0 of 0.0 GB, 0 s left");
    }

    #[test]
    fn an_image_without_items_has_nothing_to_publish() {
        let fake = Fake::new();
        assert!(matches!(fake.run(run, &[]).unwrap(), Verdict::Skipped(_)));
    }

    #[test]
    fn the_images_items_are_published_and_the_users_kept() {
        let fake = Fake::new();
        fake.write("/opt/workspace-internal/app/main.py", "new");
        fake.write("/opt/workspace-internal/mine/x", "image");
        fake.write("/workspace/mine/x", "user");
        assert_eq!(fake.run(run, &[]).unwrap(), Verdict::said("published 1 item"));
        assert_eq!(
            (fake.read("/workspace/app/main.py"), fake.read("/workspace/mine/x")),
            ("new".into(), "user".into())
        );
    }
}
