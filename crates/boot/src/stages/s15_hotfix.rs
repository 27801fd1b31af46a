//! Stage 15: `HOTFIX_SCRIPT`, at every boot.

use crate::env_vars;
use crate::error::Error;
use crate::script;
use crate::stage::{Boot, Verdict};

const KEPT: &str = "/hotfix.sh";
const LOG: &str = "/var/log/hotfix.log";

pub(super) fn run(boot: &mut Boot<'_>) -> Result<Verdict, Error> {
    let Some(address) = boot.env.non_empty(env_vars::HOTFIX_SCRIPT) else {
        return Ok(Verdict::skipped("no HOTFIX_SCRIPT"));
    };
    let script = script::obtain(boot, address, KEPT)?;
    script::run(boot, &script, Some(LOG))?;
    Ok(Verdict::said(format!("ran {}", script.shown)))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fake;
    use super::*;

    #[test]
    fn a_hotfix_runs_at_every_boot_with_its_output_in_the_log() {
        let fake = Fake::new();
        fake.write("/fix.sh", "echo fixed $WHAT\r\n");
        for _ in 0..2 {
            fake.run(run, &[("HOTFIX_SCRIPT", "/fix.sh"), ("WHAT", "it")]).unwrap();
        }
        assert_eq!(fake.read("/var/log/hotfix.log"), "fixed it\nfixed it\n");
        assert_eq!(fake.run(run, &[]).unwrap(), Verdict::skipped("no HOTFIX_SCRIPT"));
    }
}
