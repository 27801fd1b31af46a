//! `vast-boot plan`.

use std::process::ExitCode;

use serde::Serialize;
use vast_boot::plan::{self, Plan};
use vast_boot::replacement;
use vast_boot::root::Root;
use vast_boot::stages::BUILT_IN;

use crate::report::Exit;

pub(super) fn print(root: &Root, json: bool) -> ExitCode {
    match plan::read(root, BUILT_IN.iter().map(|stage| stage.name)) {
        Err(error) => super::fail(&error),
        Ok(plan) if json => super::print_json(&Shown { plan, replaced_by: replaced_by(root) }),
        Ok(plan) => {
            anstream::print!("{}", table(&plan));
            if let Some(name) = replaced_by(root) {
                println!("{name} replaces all of this");
            }
            Exit::Success.into()
        }
    }
}

/// The plan as JSON.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    plan: Plan,
    /// What takes the place of the whole sequence.
    replaced_by: Option<&'static str>,
}

fn replaced_by(root: &Root) -> Option<&'static str> {
    replacement::named(root, &std::env::vars_os().collect())
}

fn table(plan: &Plan) -> String {
    let width = plan.stages.iter().map(|stage| stage.name.len()).max().unwrap_or(0);
    let mut lines: Vec<String> = plan
        .stages
        .iter()
        .map(|stage| {
            format!("{:width$}  {:9} {}\n", stage.name, stage.why.as_str(), stage.source).replace(" built-in\n", "\n")
        })
        .map(|line| format!("{}\n", line.trim_end()))
        .collect();
    lines.extend(plan.ignored.iter().map(|ignored| format!("{:width$}  ignored   {}\n", ignored.name, ignored.reason)));
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
        let plan = plan::plan(built_in, files, plan::DIRECTORY.as_ref());
        assert_eq!(
            table(&plan),
            "05-app-env.sh   inserted  /etc/vast_boot.d/05-app-env.sh\n\
             10-prep-env.sh  replaced  /etc/vast_boot.d/10-prep-env.sh\n\
             11-log-dirs.sh  masked    /etc/vast_boot.d/11-log-dirs.sh\n\
             15-hotfix.sh    built-in\n\
             notes.txt       ignored   its name is not of the form NN-name.sh\n"
        );
    }
}
