//! The boot sequence of a Vast.ai container: stages, environment, supervision and journal.
//!
//! # Model
//!
//! A boot is a [`plan`]: the [built-in stages](stages::BUILT_IN) merged with the files of `/etc/vast_boot.d`. The [`sequence`] runs it
//! stage by stage. A built-in stage is a function on a [`Boot`](stage::Boot); a file is [sourced by bash](shell), and what it exports
//! goes into the same [`Environment`](environment::Environment) that all later stages and Supervisor get. Whatever becomes of a stage
//! is written to the [`journal`], and the next one runs.
//!
//! ```text
//! init            process 1: reaps, passes signals on, ends with the sequence's code
//! └─ sequence     10-prep-env … 65-supervisor-launch … 95-supervisor-wait
//!    ├─ bash      a shell stage, a script
//!    └─ supervisord
//! ```
//!
//! Nothing here is global: a boot works on a [`Root`](root::Root), an environment map, a [`Runner`](process::Runner) that starts
//! programs and a [`Console`](console::Console) that shows messages. The same code boots a container, a directory and a test.
//!
//! # Example
//!
//! A sequence of one built-in stage and one file:
//!
//! ```
//! use std::sync::Arc;
//! use vast_boot::{cancel::Cancel, console::Silent, environment::Environment, journal::Journal, plan, process::SystemRunner};
//! use vast_boot::{root::Root, sequence::{self, Selection}, stage::{Boot, BuiltIn, Verdict}};
//!
//! let directory = tempfile::tempdir()?;
//! let root = Root::new(directory.path());
//! std::fs::create_dir_all(root.join(plan::DIRECTORY))?;
//! std::fs::write(root.join("/etc/vast_boot.d/05-app-env.sh"), "export GREETING='hello from a file'\nexit 0\n")?;
//!
//! const GREET: BuiltIn = BuiltIn {
//!     name: "10-greet.sh",
//!     run: |boot| Ok(Verdict::said(boot.env.get("GREETING").unwrap_or("nobody greets").to_owned())),
//! };
//! let plan = plan::read(&root, [GREET.name])?;
//! let cancel = Cancel::new();
//! let runner = SystemRunner::new(cancel.clone(), Arc::new(Silent));
//! let mut boot = Boot::new(root.clone(), Environment::new(), &runner, cancel, Arc::new(Silent));
//! let mut journal = Journal::start(&root, "1234", true);
//!
//! let exit_code = sequence::run(&mut boot, &plan, &[GREET], &Selection::default(), &mut journal);
//! assert_eq!(exit_code, 0);
//! assert_eq!(journal.record().stages[1].message.as_deref(), Some("hello from a file"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod cancel;
pub mod certificate;
pub mod console;
pub mod doctor;
pub mod env_vars;
pub mod environment;
pub mod error;
pub mod etc_environment;
pub mod fetch;
pub mod files;
pub mod flags;
pub mod init;
pub mod journal;
pub mod listeners;
pub mod plan;
pub mod process;
pub mod quote;
pub mod redact;
pub mod replacement;
mod resident;
pub mod root;
pub mod script;
pub mod sequence;
pub mod shell;
pub mod stage;
pub mod stages;
pub mod status_page;
pub mod supervisor;
pub mod users;
