//! Running a program on a pseudo-terminal: `vast-pty`.
//!
//! Many programs draw progress bars and colours only on a terminal, and hold their output back when it goes to a pipe. On a
//! pseudo-terminal they show themselves as they are. The terminal changes nothing in the output (a newline stays one byte), and
//! does not echo the input.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::{LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Winsize};

const BUFFER_BYTES: usize = 64 << 10;

/// A program that runs on a pseudo-terminal of its own.
#[derive(Debug)]
pub struct Session {
    master: File,
    child: Child,
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters on a line.
    pub columns: u16,
}

impl Session {
    /// Starts a program as the leader of a new session, with the terminal as its input, output and error output.
    ///
    /// # Errors
    /// Where no pseudo-terminal is to be had, or the program cannot be started.
    pub fn start(mut command: Command, size: Size) -> io::Result<Self> {
        let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        rustix::pty::grantpt(&master)?;
        rustix::pty::unlockpt(&master)?;
        let name = rustix::pty::ptsname(&master, Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let terminal = rustix::fs::open(&*name, flags, Mode::empty())?;
        set_up(&terminal, size)?;

        command.stdin(terminal.try_clone()?).stdout(terminal.try_clone()?).stderr(terminal);
        #[allow(unsafe_code, reason = "only the child itself can make the terminal its own, between fork and exec")]
        // SAFETY: the closure makes two system calls, which POSIX calls safe after fork, and allocates nothing.
        unsafe {
            command.pre_exec(|| {
                rustix::process::setsid()?;
                rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
                Ok(())
            });
        }
        let child = command.spawn()?;
        // The command holds the terminal open on this side too.
        drop(command);
        Ok(Self { master: File::from(master), child })
    }

    /// The program's process id, which is its session's and its process group's too.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Copies the program's output to `output`, and `input` to the program, until the program has ended.
    ///
    /// The end of `input` is passed on as the terminal's end-of-file character. When `output` is closed, the program gets
    /// what it would get on a pipe: the end of its terminal.
    ///
    /// # Errors
    /// Where the terminal cannot be read, or the program not be waited for.
    pub fn run(mut self, input: &mut (impl Read + AsFd), output: &mut dyn Write) -> io::Result<ExitStatus> {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut input_open = true;
        loop {
            let (from_program, from_input) = wait(&self.master, input_open.then_some(&*input))?;
            if from_program {
                match self.master.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => {
                        if output.write_all(&buffer[..count]).and_then(|()| output.flush()).is_err() {
                            break;
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // The last process with the terminal open has closed it.
                    Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => break,
                    Err(error) => return Err(error),
                }
            }
            if from_input {
                input_open = self.forward(input, &mut buffer)?;
            }
        }
        drop(self.master);
        self.child.wait()
    }

    /// Passes input on; `false` at its end.
    fn forward(&mut self, input: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
        // No more at once than a terminal takes in without anybody reading.
        let count = match input.read(&mut buffer[..1024]) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
            Err(_) => 0,
        };
        if count > 0 {
            self.master.write_all(&buffer[..count])?;
            return Ok(true);
        }
        let terminal = rustix::termios::tcgetattr(&self.master)?;
        if terminal.local_modes.contains(LocalModes::ICANON) {
            self.master.write_all(&[terminal.special_codes[SpecialCodeIndex::VEOF]])?;
        }
        Ok(false)
    }
}

fn set_up(terminal: &OwnedFd, size: Size) -> io::Result<()> {
    let mut modes = rustix::termios::tcgetattr(terminal)?;
    modes.output_modes.remove(OutputModes::OPOST);
    modes.local_modes.remove(LocalModes::ECHO);
    rustix::termios::tcsetattr(terminal, OptionalActions::Now, &modes)?;
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(terminal, size)?)
}

/// Waits for output of the program or input for it.
fn wait(master: &File, input: Option<&impl AsFd>) -> io::Result<(bool, bool)> {
    let mut watched = vec![PollFd::new(master, PollFlags::IN)];
    watched.extend(input.map(|input| PollFd::new(input, PollFlags::IN)));
    loop {
        match poll(&mut watched, None) {
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let ready = |fd: Option<&PollFd<'_>>| fd.is_some_and(|fd| !fd.revents().is_empty());
    Ok((ready(watched.first()), ready(watched.get(1))))
}
