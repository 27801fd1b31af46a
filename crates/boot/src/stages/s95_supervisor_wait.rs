//! Stage 95: the instance is set up; Supervisor decides how long it lives.

use std::os::unix::process::ExitStatusExt;

use crate::error::Error;
use crate::files;
use crate::process;
use crate::stage::{Boot, Verdict};
use crate::supervisor::{End, Supervisor};

use super::s65_supervisor_launch::PROVISIONING;

pub(super) fn run(boot: &mut Boot<'_>) -> Result<Verdict, Error> {
    // Applications that wait for the marker would wait for ever; whatever becomes of Supervisor, it goes first.
    let unmarked = files::unmark(&boot.root.join(PROVISIONING));
    if let Supervisor::NotStarted = boot.supervisor {
        unmarked?;
        return Ok(Verdict::skipped("Supervisor was not started"));
    }
    if let Supervisor::Failed = boot.supervisor {
        boot.say("Supervisor does not run; the container stays up so that it can be looked at");
    }
    let end = boot.supervisor.wait(&boot.cancel);
    unmarked?;
    match end {
        // The stop reached it before it was ready to be stopped.
        End::Itself(Some(status))
            if boot.cancel.stop().is_some_and(|stop| status.signal() == Some(stop.signal.as_raw())) =>
        {
            Ok(Verdict::said("Supervisor was stopped while it started"))
        }
        End::Itself(Some(status)) if !status.success() => {
            Err(Error::Ended { program: "supervisord".to_owned(), ended: process::describe(status) })
        }
        End::Itself(_) => Ok(Verdict::said("Supervisor ended")),
        End::Overdue => Ok(Verdict::GaveUp("Supervisor did not end in time and was killed".to_owned())),
        End::Stopped => Err(Error::Cancelled),
    }
}
