//! `vast-boot plan`.

use std::process::ExitCode;

use serde::Serialize;
use vast_boot::error::Error;
use vast_boot::plan::{self, Plan};
use vast_boot::replacement;
use vast_boot::root::Root;
use vast_boot::stages::{BUILT_IN, FIRST_BOOT_COMPLETE};

use crate::report::Exit;

pub(super) fn print(root: &Root, json: bool) -> ExitCode {
    match Shown::read(root) {
        Err(error) => super::fail(&error),
        Ok(shown) if json => super::print_json(&shown),
        Ok(shown) => {
            anstream::print!("{}", shown.text());
            Exit::Success.into()
        }
    }
}

/// All that a boot would run.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    plan: Plan,
    /// What stage 25 runs, once.
    first_boot: Plan,
    /// It ran on an earlier boot.
    first_boot_complete: bool,
    /// What takes the place of the whole sequence.
    replaced_by: Option<&'static str>,
}

impl Shown {
    fn read(root: &Root) -> Result<Self, Error> {
        let mut shown = Self {
            plan: plan::read(root, BUILT_IN.iter().map(|stage| stage.name))?,
            first_boot: plan::read_first_boot(root)?,
            first_boot_complete: root.join(FIRST_BOOT_COMPLETE).exists(),
            replaced_by: replacement::named(root, &std::env::vars_os().collect()),
        };
        for plan in [&mut shown.plan, &mut shown.first_boot] {
            plan::look_into(plan, root);
        }
        Ok(shown)
    }

    fn text(&self) -> String {
        let mut text = table(&self.plan, "");
        let first_boot = table(&self.first_boot, "  ");
        if !first_boot.is_empty() {
            let ran = if self.first_boot_complete {
                "ran on an earlier boot, and no more"
            } else {
                "runs, on this boot alone"
            };
            text.extend(["25-first-boot.sh ", ran, ":\n", &first_boot]);
        }
        if let Some(name) = self.replaced_by {
            text.extend([name, " replaces all of this\n"]);
        }
        text
    }
}

/// A line for each stage and each file that is none, after `indent`.
fn table(plan: &Plan, indent: &str) -> String {
    let names = plan.stages.iter().map(|stage| &stage.name).chain(plan.ignored.iter().map(|ignored| &ignored.name));
    let width = names.map(|name| name.chars().count()).max().unwrap_or(0);
    let line = |name: &str, why: &str, rest: String| {
        format!("{indent}{name:width$}  {why:9} {rest}").trim_end().to_owned() + "\n"
    };
    let mut lines: Vec<String> = Vec::new();
    for stage in &plan.stages {
        let source = match &stage.source {
            plan::Source::BuiltIn => String::new(),
            file @ plan::Source::File(_) => file.to_string(),
        };
        let note = stage.note.as_ref().map_or_else(String::new, |note| format!(" ({note})"));
        lines.push(line(&stage.name, stage.why.as_str(), source + &note));
    }
    lines.extend(plan.ignored.iter().map(|ignored| line(&ignored.name, "ignored", ignored.reason.to_owned())));
    lines.concat()
}

#[cfg(test)]
mod tests {
    use vast_boot::plan::{Found, Kind};

    use super::*;

    #[test]
    fn the_table_says_why_each_stage_is_there() {
        let found = |name: &str, kind| Found { name: name.to_owned(), kind };
        let files = [
            found("05-app-env.sh", Kind::File),
            found("10-prep-env.sh", Kind::File),
            found("11-log-dirs.sh", Kind::Mask),
            found("notes.txt", Kind::File),
        ];
        let built_in = ["10-prep-env.sh", "11-log-dirs.sh", "15-hotfix.sh"];
        let mut plan = plan::plan(built_in, files, plan::DIRECTORY.as_ref());
        plan.stages[1].note = Some("its line ends are mended".to_owned());
        let first_boot = plan::plan([], [found("10-once.sh", Kind::File)], "/etc/vast_boot.d/first_boot".as_ref());
        let shown = Shown { plan, first_boot, first_boot_complete: false, replaced_by: Some("boot_custom.sh") };
        assert_eq!(
            shown.text(),
            "05-app-env.sh   inserted  /etc/vast_boot.d/05-app-env.sh\n\
             10-prep-env.sh  replaced  /etc/vast_boot.d/10-prep-env.sh (its line ends are mended)\n\
             11-log-dirs.sh  masked    /etc/vast_boot.d/11-log-dirs.sh\n\
             15-hotfix.sh    built-in\n\
             notes.txt       ignored   its name is not of the form NN-name.sh\n\
             25-first-boot.sh runs, on this boot alone:\n  \
             10-once.sh  inserted  /etc/vast_boot.d/first_boot/10-once.sh\n\
             boot_custom.sh replaces all of this\n"
        );
        let again = Shown { first_boot_complete: true, ..shown };
        assert!(again.text().contains("25-first-boot.sh ran on an earlier boot, and no more:\n  10-once.sh"));
    }
}
