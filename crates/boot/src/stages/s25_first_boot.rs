//! Stage 25: the scripts in `first_boot`, sourced once as stages are.

use crate::error::Error;
use crate::files;
use crate::plan::{self, Source, Why};
use crate::process::Output;
use crate::sequence;
use crate::stage::{Boot, Verdict};

/// Says that they ran.
pub const COMPLETE: &str = "/.first_boot_complete";

pub(super) fn run(boot: &mut Boot<'_>) -> Result<Verdict, Error> {
    let marker = boot.root.join(COMPLETE);
    if marker.exists() {
        return Ok(Verdict::skipped("not the first boot"));
    }
    let plan = plan::read_first_boot(&boot.root)?;
    for ignored in &plan.ignored {
        boot.say(&format!("ignoring {}/{}/{}: {}", plan::DIRECTORY, plan::FIRST_BOOT, ignored.name, ignored.reason));
    }
    let (mut ran, mut failures) = (0, Vec::new());
    for entry in &plan.stages {
        let Source::File(path) = &entry.source else { continue };
        if entry.why == Why::Masked {
            continue;
        }
        let (outcome, message) = sequence::run_file(boot, path, Output::Heard);
        if boot.cancel.is_fired() {
            // They run again on the next boot: one that was cut off may have done half of its work.
            return Err(Error::Cancelled);
        }
        ran += 1;
        if outcome.is_bad() {
            failures.push(format!("{}: {}", entry.name, message.unwrap_or_else(|| outcome.as_str().to_owned())));
        }
    }
    files::mark(&marker)?;
    match (ran, failures.is_empty()) {
        (0, _) => Ok(Verdict::skipped("nothing to do on the first boot")),
        (ran, true) => Ok(Verdict::said(format!("ran {ran}"))),
        (_, false) => Err(Error::Ended { program: plan::FIRST_BOOT.to_owned(), ended: failures.join("; ") }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fake;
    use super::*;

    #[test]
    fn first_boot_scripts_are_sourced_once_in_order_and_a_failing_one_costs_only_itself() {
        let fake = Fake::new();
        fake.write("/etc/vast_boot.d/first_boot/20-b.sh", "export X=$X-b; echo b >>ran");
        fake.write("/etc/vast_boot.d/first_boot/10-a.sh", "export X=a; echo a >>ran; exit 3");
        fake.boot(&[], |boot| {
            let error = run(boot).unwrap_err();
            assert_eq!(error.to_string(), "`first_boot` 10-a.sh: exited with 3");
            assert_eq!(boot.env.get("X"), Some("a-b"));
            assert_eq!(run(boot).unwrap(), Verdict::skipped("not the first boot"));
        });
        assert_eq!(fake.read("/ran"), "a\nb\n");
    }

    #[test]
    fn scripts_that_a_stop_cut_off_run_again() {
        let fake = Fake::new();
        fake.write("/etc/vast_boot.d/first_boot/10-a.sh", "sleep 600");
        fake.boot(&[], |boot| {
            boot.cancel.fire(rustix::process::Signal::TERM);
            assert!(matches!(run(boot), Err(Error::Cancelled)));
        });
        assert!(!fake.path(COMPLETE).exists());
    }
}
