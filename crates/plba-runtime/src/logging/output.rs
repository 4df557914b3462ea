//! Where lines go: a thread for each stream and file, so that a full disk, a lost file or a stopped terminal never holds
//! up or ends the process. What can't be written is counted, and said once.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use plba_contracts::clock::Clock;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

use super::LoggingError;
use super::config::LogFileConfig;
use super::file::LogFile;

/// How many lines wait for a slow stream or disk before further ones are lost.
const BUFFERED_LINES: usize = 16 * 1024;

/// What one layer writes its lines to.
pub(super) type Lines = NonBlocking;

/// A stream or file with its thread; dropping it writes out what waits.
pub(super) struct Output {
    lines: NonBlocking,
    overflown: ErrorCounter,
    pub(super) refused: Arc<AtomicU64>,
    _guard: WorkerGuard,
}

impl Output {
    /// A stream.
    pub(super) fn stream(writer: Box<dyn Write + Send>) -> Self {
        Self::start(writer, None)
    }

    /// A file with its rotation.
    pub(super) fn file(path: &Path, config: &LogFileConfig, clock: Arc<dyn Clock>) -> Result<Self, LoggingError> {
        let file = LogFile::open(path, config, clock).map_err(|error| LoggingError::File {
            path: path.display().to_string(),
            reason: plba_contracts::describe(&error),
        })?;
        Ok(Self::start(Box::new(file), Some(path.display().to_string())))
    }

    fn start(writer: Box<dyn Write + Send>, name: Option<String>) -> Self {
        let refused = Arc::new(AtomicU64::new(0));
        let tolerant = Tolerant {
            writer,
            name,
            refused: Arc::clone(&refused),
            failing: false,
        };
        let (lines, guard) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(BUFFERED_LINES)
            .thread_name("plba-log")
            .finish(tolerant);
        Self {
            overflown: lines.error_counter(),
            lines,
            refused,
            _guard: guard,
        }
    }

    pub(super) fn lines(&self) -> Lines {
        self.lines.clone()
    }

    pub(super) fn lost_lines(&self) -> u64 {
        self.overflown.dropped_lines() as u64 + self.refused.load(Ordering::Relaxed)
    }
}

/// A writer that never fails.
struct Tolerant {
    writer: Box<dyn Write + Send>,
    /// The file, to be named when it fails; streams fail in silence, for there is nowhere to say it.
    name: Option<String>,
    refused: Arc<AtomicU64>,
    failing: bool,
}

impl Write for Tolerant {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.writer.write_all(line) {
            Ok(()) if self.failing => {
                self.failing = false;
                let lost = self.refused.load(Ordering::Relaxed);
                self.say(&format!("can be written again; {lost} lines were lost so far"));
            }
            Ok(()) => {}
            Err(error) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                if !self.failing {
                    self.failing = true;
                    self.say(&format!("can't be written, lines are being lost: {error}"));
                }
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        // The next write says what is wrong.
        let _ = self.writer.flush();
        Ok(())
    }
}

impl Tolerant {
    /// Says it on standard error itself: the log is what fails.
    fn say(&self, what: &str) {
        if let Some(name) = &self.name {
            let _ = writeln!(io::stderr(), "the log file {name} {what}");
        }
    }
}
