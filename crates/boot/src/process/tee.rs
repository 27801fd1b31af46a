//! A pipe whose content goes to the console, and to a log if there is one.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use crate::console::SharedConsole;

/// How long [`Tee::drain`] waits for what a program left running and that keeps writing.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// The buffer is on the thread's stack.
const STACK_BYTES: usize = 64 * 1024;

/// The copying side. It goes on until every writer is gone, so that a server which a script leaves behind keeps its log.
#[derive(Debug)]
pub(super) struct Tee {
    /// Held while bytes are between the pipe and the log.
    copying: Arc<Mutex<()>>,
    reader: PipeReader,
}

impl Tee {
    /// Starts copying; gives the end to write to.
    pub(super) fn start(log: Option<File>, console: SharedConsole) -> io::Result<(Self, PipeWriter)> {
        let (reader, writer) = io::pipe()?;
        let copying = Arc::new(Mutex::new(()));
        let tee = Self { copying: copying.clone(), reader: reader.try_clone()? };
        std::thread::Builder::new()
            .name("tee".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || copy(reader, log, &console, &copying))?;
        Ok((tee, writer))
    }

    /// Waits until what is in the pipe now has arrived.
    pub(super) fn drain(self) {
        let deadline = Instant::now() + DRAIN_LIMIT;
        while Instant::now() < deadline {
            {
                let _idle = self.copying.lock().unwrap_or_else(PoisonError::into_inner);
                if rustix::io::ioctl_fionread(&self.reader).is_ok_and(|waiting| waiting == 0) {
                    return;
                }
            }
            std::thread::yield_now();
        }
    }
}

fn copy(mut reader: PipeReader, mut log: Option<File>, console: &SharedConsole, copying: &Mutex<()>) {
    let mut buffer = [0; 16 * 1024];
    loop {
        // Waiting happens outside the lock, or `drain` would wait for the next byte.
        let ready = {
            let mut ends = [PollFd::new(&reader, PollFlags::IN)];
            poll(&mut ends, None)
        };
        if ready == Err(rustix::io::Errno::INTR) {
            continue;
        }
        let _busy = copying.lock().unwrap_or_else(PoisonError::into_inner);
        match reader.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                let bytes = buffer.get(..count).unwrap_or_default();
                console.raw(bytes);
                // A full disk must not stop the program that writes.
                let _ = log.as_mut().map(|log| log.write_all(bytes));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
