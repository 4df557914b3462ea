//! Logging: what `[platform.logging]` says, made into a `tracing` subscriber. What is logged is decided where it
//! happens; traces are a layer of their own, handed in here.

mod config;
mod file;
mod format;
mod output;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex, PoisonError};

use plba_contracts::clock::Clock;
use tracing::Dispatch;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, reload};

pub use self::config::{Color, LogFileConfig, LogFormat, LogLevel, LogOutput, LogTime, LoggingConfig, Rotation};
use self::format::{Calm, Time};
use self::output::{Lines, Output};

/// A layer beside the log, such as the one that records traces. It sees all spans and events, whatever the log's level.
pub type ExtraLayer = Box<dyn Layer<Registry> + Send + Sync>;

type FilterHandle = reload::Handle<Targets, Registry>;

/// Starts logging for the whole process.
///
/// # Errors
/// The log file can't be opened, or something else has set a global subscriber.
pub fn init(
    config: &LoggingConfig,
    clock: Arc<dyn Clock>,
    extra: Vec<ExtraLayer>,
) -> Result<LoggingHandle, LoggingError> {
    let (dispatch, handle) = prepare(config, clock, extra)?;
    tracing::dispatcher::set_global_default(dispatch).map_err(|_| LoggingError::AlreadyStarted)?;
    Ok(handle)
}

/// Prepares what [`init`] makes global, for tests and for programs that set it for a thread only.
///
/// # Errors
/// The log file can't be opened.
pub fn prepare(
    config: &LoggingConfig,
    clock: Arc<dyn Clock>,
    extra: Vec<ExtraLayer>,
) -> Result<(Dispatch, LoggingHandle), LoggingError> {
    let stream: Option<(Box<dyn io::Write + Send>, bool)> = match config.output {
        LogOutput::Stderr => Some((Box::new(io::stderr()), io::stderr().is_terminal())),
        LogOutput::Stdout => Some((Box::new(io::stdout()), io::stdout().is_terminal())),
        LogOutput::None => None,
    };
    build(config, clock, extra, stream)
}

/// As [`prepare`], writing to a given stream that is or is not a terminal.
fn build(
    config: &LoggingConfig,
    clock: Arc<dyn Clock>,
    extra: Vec<ExtraLayer>,
    stream: Option<(Box<dyn io::Write + Send>, bool)>,
) -> Result<(Dispatch, LoggingHandle), LoggingError> {
    let time = Time::new(Arc::clone(&clock), config.time);
    let mut layers = extra;
    let mut outputs = Vec::new();
    let mut filters = Vec::new();
    if let Some((writer, terminal)) = stream {
        let output = Output::stream(writer);
        let color = config.color.applies(terminal);
        layers.push(layer(config, config.format, &time, color, output.lines(), &mut filters));
        outputs.push(output);
    }
    if let Some(path) = &config.file.path {
        let output = Output::file(path.as_path(), &config.file, clock)?;
        layers.push(layer(
            config,
            config.file.format,
            &time,
            false,
            output.lines(),
            &mut filters,
        ));
        outputs.push(output);
    }
    let dispatch = Dispatch::new(tracing_subscriber::registry().with(layers));
    let handle = LoggingHandle {
        filters,
        outputs,
        applied: Mutex::new(config.clone()),
    };
    Ok((dispatch, handle))
}

fn layer(
    config: &LoggingConfig,
    format: LogFormat,
    time: &Time,
    color: bool,
    lines: Lines,
    filters: &mut Vec<FilterHandle>,
) -> ExtraLayer {
    let (filter, handle) = reload::Layer::new(targets(config.level, &config.levels));
    filters.push(handle);
    let layer = tracing_subscriber::fmt::layer()
        .with_ansi(color)
        .with_timer(time.clone())
        // It would be reported with a macro that panics when standard error is gone.
        .log_internal_errors(false)
        .with_writer(Writers(lines));
    match format {
        LogFormat::Pretty => layer.event_format(Calm::new(time.clone())).with_filter(filter).boxed(),
        LogFormat::Compact => layer.compact().with_filter(filter).boxed(),
        LogFormat::Json => layer
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_filter(filter)
            .boxed(),
    }
}

fn targets(level: LogLevel, levels: &BTreeMap<String, LogLevel>) -> Targets {
    let given = levels
        .iter()
        .map(|(target, level)| (target.clone(), LevelFilter::from(*level)));
    Targets::new()
        .with_default(LevelFilter::from(level))
        .with_targets(given)
}

struct Writers(Lines);

impl<'a> MakeWriter<'a> for Writers {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        self.0.clone()
    }
}

/// Keeps logging alive: dropping it writes out what is still buffered, for at most about a second.
pub struct LoggingHandle {
    filters: Vec<FilterHandle>,
    outputs: Vec<Output>,
    /// What is in force; levels change, the rest needs a restart.
    applied: Mutex<LoggingConfig>,
}

impl LoggingHandle {
    /// Applies new levels at once, and says whether there are any. What else the section says counts from the next start.
    pub fn reload(&self, config: &LoggingConfig) -> bool {
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        let levels_changed = applied.level != config.level || applied.levels != config.levels;
        if levels_changed {
            for filter in &self.filters {
                // The only error is that the subscriber is gone, and with it the need.
                let _ = filter.modify(|filter| *filter = targets(config.level, &config.levels));
            }
            applied.level = config.level;
            applied.levels.clone_from(&config.levels);
        }
        levels_changed
    }

    /// The levels that are in force: by default, and by target.
    pub fn levels(&self) -> (LogLevel, BTreeMap<String, LogLevel>) {
        let applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        (applied.level, applied.levels.clone())
    }

    /// How many lines could not be written since the start: the buffer was full, or a disk, or a file was taken away.
    pub fn lost_lines(&self) -> u64 {
        self.outputs.iter().map(Output::lost_lines).sum()
    }
}

/// Logging can't start.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The log file can't be opened.
    #[error("the log file {path} can't be opened: {reason}; set platform.logging.file.path to a writable place")]
    File {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// A global subscriber was set before.
    #[error("logging has already been started in this process; start it once, and leave it to the platform")]
    AlreadyStarted,
}
