//! Where lines go: a thread for each stream and file, so that a full disk, a lost file or a stopped terminal never holds
//! up or ends the process. What can't be written is counted, and said once.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_appender::rolling::{RollingFileAppender, Rotation as Rolling};

use super::LoggingError;
use super::config::{LogFileConfig, Rotation};

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
    pub(super) fn file(path: &Path, config: &LogFileConfig) -> Result<Self, LoggingError> {
        let appender = appender(path, config).map_err(|error| LoggingError::File {
            path: path.display().to_string(),
            reason: plba_contracts::describe(&error),
        })?;
        Ok(Self::start(Box::new(appender), Some(path.display().to_string())))
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

fn appender(path: &Path, config: &LogFileConfig) -> Result<RollingFileAppender, tracing_appender::rolling::InitError> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let text =
        |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned()).unwrap_or_default();
    let builder = RollingFileAppender::builder();
    // Without rotation the name is kept as it was configured; with it, the date goes before the extension.
    let builder = match config.rotation {
        Rotation::Never => {
            return builder
                .rotation(Rolling::NEVER)
                .filename_prefix(text(path.file_name()))
                .build(directory);
        }
        Rotation::Hourly => builder.rotation(Rolling::HOURLY),
        Rotation::Daily => builder.rotation(Rolling::DAILY),
    };
    let builder = builder
        .filename_prefix(text(path.file_stem()))
        .max_log_files(config.max_files as usize);
    match path.extension() {
        Some(extension) => builder.filename_suffix(text(Some(extension))).build(directory),
        None => builder.build(directory),
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
