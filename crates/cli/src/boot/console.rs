//! The container's log.

use std::io::Write;

use vast_boot::console::Console;

/// Standard output. A reader that is gone must not end a boot, so what cannot be written is dropped.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stdout;

impl Console for Stdout {
    fn line(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{}: {text}", super::PROGRAM).and_then(|()| out.flush());
    }

    fn raw(&self, bytes: &[u8]) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(bytes).and_then(|()| out.flush());
    }
}
