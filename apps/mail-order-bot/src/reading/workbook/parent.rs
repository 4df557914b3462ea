//! Having a workbook parsed: by a child process under limits, started for this one workbook and gone when it is read. What
//! the child does is `child`'s. Blocking, and bounded in time.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::Signal;

use super::{SparseSheet, WorkbookProblem, cells, child};
use crate::reading::ReadingLimits;

/// How much of what a child writes to standard error is looked at.
const ERROR_BYTES: usize = 4096;
/// On the clock a child may take this many times its processor time: the machine may have other work.
const CLOCK_FACTOR: u32 = 2;
/// The most children at a time, whatever the machine has.
const MAX_CHILDREN: usize = 8;
/// A process refers to its own program by this name even if the file was replaced by a newer one.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// Where workbooks are parsed. Cheap to clone; clones share how many children there may be.
#[derive(Clone, Default)]
pub struct WorkbookParser(Option<Arc<Children>>);

/// The program to start, and how many of it may still be started.
struct Children {
    program: PathBuf,
    free: Mutex<usize>,
    freed: Condvar,
}

impl fmt::Debug for WorkbookParser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("WorkbookParser(here)"),
            Some(children) => write!(f, "WorkbookParser({})", children.program.display()),
        }
    }
}

impl WorkbookParser {
    /// Parses in this process, behind the guard only: for workbooks of one's own, such as a test's.
    #[must_use]
    pub fn here() -> Self {
        Self::default()
    }

    /// Parses in child processes of `program`, which is a mail-order-bot; at most one for each processor at a time, and
    /// never more than 8.
    #[must_use]
    pub fn in_child_of(program: &Path) -> Self {
        let free = std::thread::available_parallelism().map_or(1, |count| count.get().min(MAX_CHILDREN));
        Self(Some(Arc::new(Children {
            program: program.to_owned(),
            free: Mutex::new(free),
            freed: Condvar::new(),
        })))
    }

    /// Parses in child processes of the running program, which has to be a mail-order-bot.
    ///
    /// # Errors
    /// The system doesn't say where its file lies.
    pub fn in_child() -> io::Result<Self> {
        if Path::new(OWN_PROGRAM).exists() {
            return Ok(Self::in_child_of(Path::new(OWN_PROGRAM)));
        }
        Ok(Self::in_child_of(&std::env::current_exe()?))
    }

    /// The sheets of a workbook. Takes at most two times `workbook_seconds`, waiting for its turn aside.
    ///
    /// # Errors
    /// No child can be started now, or it broke off without a reason; try again later.
    pub(super) fn sheets(
        &self,
        workbook: &[u8],
        limits: &ReadingLimits,
    ) -> io::Result<Result<Vec<SparseSheet>, WorkbookProblem>> {
        let Some(children) = &self.0 else {
            return Ok(cells::sheets(workbook, limits));
        };
        let _turn = children.turn();
        let mut child = Running::start(&children.program, limits)?;
        let ended = child.converse(workbook, limits)?;
        judge(&ended, limits)
    }
}

impl Children {
    fn turn(&self) -> Turn<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let free = self.freed.wait_while(free, |free| *free == 0);
        *free.unwrap_or_else(PoisonError::into_inner) -= 1;
        Turn(self)
    }
}

/// One of the children that may be started.
struct Turn<'c>(&'c Children);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

/// How a child ended.
enum Ended {
    ByItself {
        status: ExitStatus,
        answer: Vec<u8>,
        complaint: Vec<u8>,
    },
    /// It was killed for taking too long.
    Late,
    /// It was killed for saying too much.
    Verbose,
}

/// A child process. Dropped, it is killed and waited for.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended; then both do nothing.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Running {
    fn start(program: &Path, limits: &ReadingLimits) -> io::Result<Self> {
        let child = Command::new(program)
            .arg(child::COMMAND)
            .arg(serde_json::to_string(limits)?)
            // Neither secrets in the environment nor a working directory are its business.
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| {
                let program = program.display();
                io::Error::new(
                    error.kind(),
                    format!("cannot start {program} to read a workbook: {error}"),
                )
            })?;
        Ok(Self(child))
    }

    /// Hands the workbook over and takes the answer, both at once so that neither side waits for the other for ever.
    fn converse(&mut self, workbook: &[u8], limits: &ReadingLimits) -> io::Result<Ended> {
        let deadline = Instant::now() + Duration::from_secs(limits.workbook_seconds.max(1)) * CLOCK_FACTOR;
        let mut input = self.0.stdin.take().map(|pipe| Feed::new(pipe, workbook)).transpose()?;
        let mut output = Drain::new(self.0.stdout.take(), most_output(limits))?;
        let mut errors = Drain::new(self.0.stderr.take(), ERROR_BYTES)?;
        while output.pipe.is_some() || errors.pipe.is_some() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Ended::Late);
            }
            let mut waiting = Vec::with_capacity(3);
            waiting.extend(input.as_ref().map(|feed| PollFd::new(&feed.pipe, PollFlags::OUT)));
            waiting.extend(output.pipe.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
            waiting.extend(errors.pipe.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
            match poll(&mut waiting, Some(&Timespec::try_from(left).map_err(io::Error::other)?)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            drop(waiting);
            input = input.and_then(Feed::go_on);
            if !output.go_on()? {
                return Ok(Ended::Verbose);
            }
            errors.go_on()?;
        }
        // Both pipes are closed, so it is ending. Should it have closed them to live on, this is its end.
        self.0.kill()?;
        Ok(Ended::ByItself {
            status: self.0.wait()?,
            answer: output.bytes,
            complaint: errors.bytes,
        })
    }
}

/// The workbook on its way into the child.
struct Feed<'w> {
    pipe: ChildStdin,
    rest: &'w [u8],
}

impl<'w> Feed<'w> {
    fn new(pipe: ChildStdin, rest: &'w [u8]) -> io::Result<Self> {
        fcntl_setfl(&pipe, OFlags::NONBLOCK)?;
        Ok(Self { pipe, rest })
    }

    /// Writes what the pipe takes; `None`, which closes the pipe, at the end or when the child doesn't listen any more.
    fn go_on(mut self) -> Option<Self> {
        match self.pipe.write(self.rest) {
            Ok(written) => self.rest = &self.rest[written..],
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => return None,
        }
        (!self.rest.is_empty()).then_some(self)
    }
}

/// What comes out of the child.
struct Drain<P> {
    /// `None` once it is closed.
    pipe: Option<P>,
    bytes: Vec<u8>,
    most: usize,
}

impl<P: Read + AsFd> Drain<P> {
    fn new(pipe: Option<P>, most: usize) -> io::Result<Self> {
        if let Some(pipe) = &pipe {
            fcntl_setfl(pipe, OFlags::NONBLOCK)?;
        }
        Ok(Self {
            pipe,
            bytes: Vec::new(),
            most,
        })
    }

    /// Reads what there is and keeps `most` bytes of it; whether that was all.
    fn go_on(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 16 << 10];
        let Some(pipe) = &mut self.pipe else { return Ok(true) };
        match pipe.read(&mut buffer) {
            Ok(0) => self.pipe = None,
            Ok(read) => {
                let room = self.most - self.bytes.len();
                self.bytes.extend_from_slice(&buffer[..read.min(room)]);
                return Ok(read <= room);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
        Ok(true)
    }
}

/// The longest answer that a child within its limits gives: each byte of text may take six as JSON.
fn most_output(limits: &ReadingLimits) -> usize {
    let text = limits.text_bytes.saturating_mul(6);
    let cells = limits.cells.saturating_mul(64);
    text.saturating_add(cells).saturating_add(64 << 10)
}

fn judge(ended: &Ended, limits: &ReadingLimits) -> io::Result<Result<Vec<SparseSheet>, WorkbookProblem>> {
    let too_long = WorkbookProblem::TooLong {
        limit: limits.workbook_seconds,
    };
    let too_much = WorkbookProblem::TooMuchMemory {
        limit: limits.workbook_memory,
    };
    let (status, answer, complaint) = match ended {
        Ended::Late => return Ok(Err(too_long)),
        Ended::Verbose => return Ok(Err(WorkbookProblem::Crashed)),
        Ended::ByItself {
            status,
            answer,
            complaint,
        } => (status, answer, String::from_utf8_lossy(complaint)),
    };
    let signal = |signal: Signal| status.signal() == Some(signal.as_raw());
    if status.success() {
        // Only a child whose parser was taken over would write anything else.
        return Ok(serde_json::from_slice(answer).unwrap_or(Err(WorkbookProblem::Crashed)));
    }
    if signal(Signal::XCPU) {
        return Ok(Err(too_long));
    }
    // The standard library says so before it aborts; the system's out-of-memory killer doesn't say anything.
    if complaint.contains("memory allocation of") || signal(Signal::KILL) {
        return Ok(Err(too_much));
    }
    if status.signal().is_some() {
        return Ok(Err(WorkbookProblem::Crashed));
    }
    let complaint: String = complaint
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    Err(io::Error::other(format!(
        "the process that reads workbooks gave up ({status}): {complaint}"
    )))
}
