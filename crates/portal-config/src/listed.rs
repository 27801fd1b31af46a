//! Is an application turned on? The question that every supervisor script asks before it starts one.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::OwnedFd;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use crate::yaml::{self, App, Document};

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed {
    /// An application's label holds the term.
    Yes,
    /// The file lists applications, or says that there are none, and no label holds the term.
    No,
    /// The file is absent, empty, unreadable or no portal.yaml: why, for people.
    Undecidable(String),
}

/// Whether a label of the portal.yaml at `path` holds `term`: in any case, and literally, whatever a pattern language would make of it.
///
/// A label is an application's key or its `name`. In a file that only lines tell apart
/// ([`Loaded::LinesOnly`](yaml::Loaded::LinesOnly)), it is any line that is not commented.
#[must_use]
pub fn listed(path: &Path, term: &str) -> Listed {
    let content = match fs::read(path) {
        Ok(content) => content,
        Err(error) => return Listed::Undecidable(format!("cannot read `{}`: {error}", path.display())),
    };
    let found = match Document::read(&content) {
        Document::Applications(apps) => {
            let term = term.to_lowercase();
            apps.iter().flat_map(App::names).any(|name| name.to_lowercase().contains(&term))
        }
        Document::Torn(text) => yaml::names(&text, term),
        Document::Bad(reason) => return Listed::Undecidable(format!("cannot use `{}`: {reason}", path.display())),
    };
    if found { Listed::Yes } else { Listed::No }
}

/// How long a change may go unnoticed where no watch tells it: a network file system, a directory that is not there yet.
const RECHECK: Duration = Duration::from_secs(1);

/// Waits until there is a non-empty file at `path`, for at most `limit`. Whether there is one.
#[must_use]
pub fn wait_for(path: &Path, limit: Duration) -> bool {
    let deadline = Instant::now().checked_add(limit);
    // Before the first look, so that no change falls between them.
    let watch = watch(path);
    loop {
        if fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0) {
            return true;
        }
        let left = deadline.map_or(RECHECK, |deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            return false;
        }
        pause(watch.as_ref(), left.min(RECHECK));
    }
}

/// Watches the directory of the file, and of the file that a link leads to. None where that is impossible.
fn watch(path: &Path) -> Option<OwnedFd> {
    let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
    let changes = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::MODIFY | WatchFlags::CLOSE_WRITE;
    let linked = fs::read_link(path).ok().map(|link| path.parent().map_or(link.clone(), |parent| parent.join(&link)));
    let directories = [Some(path.to_owned()), linked].into_iter().flatten();
    let watched = directories.filter_map(|file| inotify::add_watch(&watch, directory(&file), changes).ok()).count();
    (watched > 0).then_some(watch)
}

fn directory(file: &Path) -> PathBuf {
    file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

/// Until something changes in the watched directories, for at most `limit`.
fn pause(watch: Option<&OwnedFd>, limit: Duration) {
    let Some(watch) = watch else { return thread::sleep(limit) };
    let limit = Timespec::try_from(limit).ok();
    // An interrupted wait only looks once more.
    let _ = rustix::event::poll(&mut [PollFd::new(watch, PollFlags::IN)], limit.as_ref());
    // What changed does not matter, only that no old news ends the next wait.
    let mut news = [0_u8; 4096];
    while rustix::io::read(watch, &mut news).is_ok_and(|bytes| bytes > 0) {}
}
