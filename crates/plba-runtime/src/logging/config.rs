//! The section `[platform.logging]`.

use std::collections::BTreeMap;

use plba_contracts::config::{Faults, FilePath};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::LevelFilter;

/// How many rotated files may be kept.
const MAXIMUM_FILES: u32 = 10_000;

/// What is logged, how it looks and where it goes. Levels follow a reload; everything else needs a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LoggingConfig {
    /// How lines look: `pretty` for people, `compact` with the spans around an event, `json` for programs.
    #[schemars(extend("x-needs-restart" = true))]
    pub format: LogFormat,
    /// What is logged: this level and those more severe.
    pub level: LogLevel,
    /// Levels of single targets, such as `"plba_runtime::supervisor" = "debug"`; the longest matching prefix counts.
    pub levels: BTreeMap<String, LogLevel>,
    /// Whether lines are coloured; `auto` colours on a terminal unless NO_COLOR is set. Files never are.
    #[schemars(extend("x-needs-restart" = true))]
    pub color: Color,
    /// Which stream lines go to; `none` leaves the file alone.
    #[schemars(extend("x-needs-restart" = true))]
    pub output: LogOutput,
    /// In which time zone times are written.
    #[schemars(extend("x-needs-restart" = true))]
    pub time: LogTime,
    /// A log file, besides the stream.
    #[schemars(extend("x-needs-restart" = true))]
    pub file: LogFileConfig,
}

/// A log file. Rotation goes by time; by size it is left to tools such as logrotate with `copytruncate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LogFileConfig {
    /// The file; without it none is written. Rotated files carry their date before the extension.
    pub path: Option<FilePath>,
    /// When a new file is begun, in UTC.
    pub rotation: Rotation,
    /// How many files are kept when they rotate, 1 to 10000; the oldest is deleted.
    pub max_files: u32,
    /// How lines in the file look.
    pub format: LogFormat,
}

impl Default for LogFileConfig {
    fn default() -> Self {
        Self {
            path: None,
            rotation: Rotation::Daily,
            max_files: 14,
            format: LogFormat::Json,
        }
    }
}

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(
    missing_docs,
    reason = "the field that holds it says what each is, and its schema stays a plain choice"
)]
pub enum LogFormat {
    #[default]
    Pretty,
    Compact,
    Json,
}

/// How severe an event is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(
    missing_docs,
    reason = "the usual names; a description each would make a choice of schemas"
)]
pub enum LogLevel {
    Off,
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

/// Whether lines are coloured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the field that holds it says what each is")]
pub enum Color {
    #[default]
    Auto,
    Always,
    Never,
}

/// Which stream lines go to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the field that holds it says what each is")]
pub enum LogOutput {
    #[default]
    Stderr,
    Stdout,
    None,
}

/// In which time zone times are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the field that holds it says what each is")]
pub enum LogTime {
    #[default]
    Local,
    Utc,
}

/// When a new file is begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the field that holds it says what each is")]
pub enum Rotation {
    Never,
    Hourly,
    #[default]
    Daily,
}

impl LoggingConfig {
    /// Checks what types can't; faults are reported under `logging.`, for the section that holds this table.
    pub fn validate(&self, faults: &mut Faults) {
        let files = (1..=MAXIMUM_FILES).contains(&self.file.max_files);
        faults.require(files, "logging.file.max_files", "between 1 and 10000 files can be kept");
        if let Some(path) = &self.file.path {
            let named = path.as_path().file_name().is_some_and(|name| name.to_str().is_some());
            faults.require(named, "logging.file.path", "the path must end in a file name");
        }
        let silent = self.output == LogOutput::None && self.file.path.is_none();
        let message =
            "nothing would be logged at all: set platform.logging.file.path, or choose \"stderr\" or \"stdout\"";
        faults.require(!silent, "logging.output", message);
    }
}

impl Color {
    /// Whether to colour a stream.
    pub(super) fn applies(self, terminal: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        }
    }
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Off => Self::OFF,
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}
