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
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::{LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Winsize};

const BUFFER_BYTES: usize = 64 << 10;

/// How long a terminal that processes in the background keep open is listened to after the program has ended. Its last
/// output is on the way through the kernel for a moment.
const REMAINDER: Duration = Duration::from_millis(100);

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
        // `None` on kernels before 5.3: there, the end is when the last process has closed the terminal.
        let end = Pid::from_raw(self.child.id().cast_signed())
            .and_then(|id| rustix::process::pidfd_open(id, PidfdFlags::empty()).ok());
        let (mut ended, mut input_open) = (None::<Instant>, true);
        loop {
            let watched = Watched {
                master: &self.master,
                input: (input_open && ended.is_none()).then_some(&*input),
                end: end.as_ref().filter(|_| ended.is_none()),
            };
            let ready = watched.wait(ended.map(|_| REMAINDER))?;
            if ready.none() || ended.is_some_and(|ended| ended.elapsed() > 10 * REMAINDER) {
                break;
            }
            if ready.end {
                ended = Some(Instant::now());
            }
            if ready.master && !self.pass(output, &mut buffer)? {
                break;
            }
            if ready.input {
                input_open = self.forward(input, &mut buffer)?;
            }
        }
        drop(self.master);
        self.child.wait()
    }

    /// Passes output on; `false` when there will be no more, or nobody to take it.
    fn pass(&mut self, output: &mut dyn Write, buffer: &mut [u8]) -> io::Result<bool> {
        match self.master.read(buffer) {
            Ok(0) => Ok(false),
            Ok(count) => Ok(output.write_all(&buffer[..count]).and_then(|()| output.flush()).is_ok()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            // The last process with the terminal open has closed it.
            Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => Ok(false),
            Err(error) => Err(error),
        }
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

/// What a session waits for.
struct Watched<'a, I> {
    master: &'a File,
    input: Option<&'a I>,
    /// Readable once the program has ended.
    end: Option<&'a OwnedFd>,
}

/// What has come.
#[derive(Debug, Clone, Copy)]
struct Ready {
    master: bool,
    input: bool,
    end: bool,
}

impl Ready {
    fn none(self) -> bool {
        !(self.master || self.input || self.end)
    }
}

impl<I: AsFd> Watched<'_, I> {
    fn wait(&self, limit: Option<Duration>) -> io::Result<Ready> {
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        let mut fds = vec![PollFd::new(self.master, PollFlags::IN)];
        fds.extend(self.input.map(|input| PollFd::new(input, PollFlags::IN)));
        fds.extend(self.end.map(|end| PollFd::new(end, PollFlags::IN)));
        loop {
            match poll(&mut fds, limit.as_ref()) {
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        let ready = |index: usize| fds.get(index).is_some_and(|fd| !fd.revents().is_empty());
        let inputs = usize::from(self.input.is_some());
        let (input, end) = (inputs > 0 && ready(1), self.end.is_some() && ready(1 + inputs));
        Ok(Ready { master: ready(0), input, end })
    }
}
