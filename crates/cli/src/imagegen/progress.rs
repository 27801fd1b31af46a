//! Blobs on their way: a bar for each on a terminal, a line for each elsewhere.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use oci_spec::image::Descriptor;
use vast_imagegen::publish::{Event, Progress};
use vast_imagegen::reference::Reference;
use vast_imagegen::sink::Placed;

use super::text::size;

/// Watches a publication on standard error.
pub(super) fn progress() -> Box<dyn Progress> {
    if std::io::stderr().is_terminal() { Box::new(Bars::default()) } else { Box::new(Lines(String::new())) }
}

/// Watches one of several publications on standard error: lines that begin with what they are about.
pub(super) fn lines_of(target: &Reference) -> Box<dyn Progress> {
    Box::new(Lines(format!("{target}: ")))
}

/// Lines, for logs, and what each begins with.
struct Lines(String);

impl Progress for Lines {
    fn blob(&self, descriptor: &Descriptor, event: Event) {
        if let Event::Done(placed) = event {
            eprintln!("{}{} {} ({})", self.0, short(descriptor), done(placed), size(descriptor.size()));
        }
    }
}

/// Bars, for people.
#[derive(Default)]
struct Bars {
    all: MultiProgress,
    by_digest: Mutex<HashMap<String, ProgressBar>>,
}

impl Progress for Bars {
    fn blob(&self, descriptor: &Descriptor, event: Event) {
        let mut bars = self.by_digest.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Started => {
                let style =
                    ProgressStyle::with_template("{prefix} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {msg}");
                let bar = ProgressBar::new(descriptor.size()).with_prefix(short(descriptor));
                let bar = self.all.add(style.map_or(bar.clone(), |style| bar.with_style(style)));
                bars.insert(descriptor.digest().to_string(), bar);
            }
            Event::Sent(bytes) => {
                if let Some(bar) = bars.get(descriptor.digest().as_ref()) {
                    bar.set_position(bytes);
                }
            }
            Event::Done(placed) => {
                if let Some(bar) = bars.remove(descriptor.digest().as_ref()) {
                    bar.set_position(descriptor.size());
                    bar.finish_with_message(done(placed));
                }
            }
        }
    }
}

/// The first digits of the digest.
fn short(descriptor: &Descriptor) -> String {
    descriptor.digest().digest().chars().take(12).collect()
}

fn done(placed: Placed) -> &'static str {
    match placed {
        Placed::Present => "is there",
        Placed::Mounted => "mounted",
        Placed::Written => "written",
    }
}
