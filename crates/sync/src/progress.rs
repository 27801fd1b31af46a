//! How long work tells of itself: a trait for whoever shows it, and the one that shows nothing.

/// Hears of a copy's progress. Called from several threads at once, and often: implementations return quickly.
pub trait Progress: Sync {
    /// A copy begins. `total_bytes` of file content and `total_files` entries of any kind are ahead of it.
    fn start(&self, total_bytes: u64, total_files: u64);

    /// That much more is done: `bytes` of content, `files` entries.
    fn advance(&self, bytes: u64, files: u64);

    /// Something a user may want to read as it happens: a wait for another instance, what is being copied.
    fn message(&self, text: &str);

    /// Something that did not go as it should, though the work goes on: the target keeps no ownership, say.
    fn warning(&self, text: &str) {
        self.message(text);
    }

    /// The copy that [`Progress::start`] announced is over, well or badly.
    fn finish(&self) {}
}

/// Shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn start(&self, _total_bytes: u64, _total_files: u64) {}
    fn advance(&self, _bytes: u64, _files: u64) {}
    fn message(&self, _text: &str) {}
}
