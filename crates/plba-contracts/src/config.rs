//! Configuration as it crosses contracts: where a value came from, who provides values, and types for values that name
//! places. Merging, reloading and publishing live in the runtime's `ConfigurationManager`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::BoxError;

pub use crate::secret::Secret;
pub use crate::section::{ConfigSection, Fault, FaultKind, Faults, SectionDefinition};

/// Where a value came from, kept for every value so that an operator can be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum Origin {
    /// The built-in default.
    Default,
    /// A file, with the place of the value in it, counted from 1.
    File {
        /// The file as it was named.
        path: PathBuf,
        /// Line, from 1.
        line: u32,
        /// Column in characters, from 1.
        column: u32,
    },
    /// An environment variable.
    Environment {
        /// Its name.
        variable: String,
    },
    /// A `--set` on the command line.
    CommandLine {
        /// The argument as it was written; a secret's value is masked.
        argument: String,
    },
    /// A [`ConfigProvider`].
    Provider {
        /// The provider's name.
        provider: String,
        /// The place within it, such as a row's key.
        place: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => out.write_str("built-in default"),
            Self::File { path, line, column } => write!(out, "{}:{line}:{column}", path.display()),
            Self::Environment { variable } => write!(out, "environment variable {variable}"),
            Self::CommandLine { argument } => write!(out, "command line: {argument}"),
            Self::Provider { provider, place } => write!(out, "{provider}: {place}"),
        }
    }
}

/// A value from outside files, environment and command line.
#[derive(Clone, Debug, PartialEq)]
pub struct ProvidedValue {
    /// The path from the root, such as `["mail_order_bot", "workers"]`.
    pub path: Vec<String>,
    /// The value.
    pub value: Value,
    /// The place within the provider, for messages.
    pub place: String,
}

/// Provides configuration from elsewhere, such as a database; its layer lies above files and below the environment.
///
/// Called at start and at each reload, on the workers' executor, under the reload's time-out.
///
/// - **`Ok`**: the whole layer; values that are gone are left out.
/// - **`Err`**: the layer can't be read: at start that ends the start-up; a reload is refused and the running
///   configuration stays.
///
/// # Cancel safety
/// A dropped call must leave nothing behind.
///
/// ```
/// use plba_contracts::BoxError;
/// use plba_contracts::config::{ConfigProvider, ProvidedValue};
///
/// struct Table;
///
/// #[async_trait::async_trait]
/// impl ConfigProvider for Table {
///     fn name(&self) -> &str {
///         "settings table"
///     }
///     async fn load(&self) -> Result<Vec<ProvidedValue>, BoxError> {
///         let path = vec!["mail_order_bot".to_owned(), "workers".to_owned()];
///         Ok(vec![ProvidedValue { path, value: 8.into(), place: "row 17".into() }])
///     }
/// }
/// ```
#[async_trait]
pub trait ConfigProvider: Send + Sync + 'static {
    /// Its name in origins and messages.
    fn name(&self) -> &str;

    /// Reads the layer.
    async fn load(&self) -> Result<Vec<ProvidedValue>, BoxError>;
}

/// A path in the configuration. Written relative in a file, it is relative to that file's directory; elsewhere to the
/// working directory. What a section sees is already resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FilePath(pub PathBuf);

/// The `format` by which the configuration manager knows a [`FilePath`] in a schema.
pub const FILE_PATH_FORMAT: &str = "path";

/// The `format` by which the configuration manager knows a [`Location`] in a schema.
pub const LOCATION_FORMAT: &str = "location";

impl FilePath {
    /// The path.
    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

impl From<&str> for FilePath {
    fn from(path: &str) -> Self {
        Self(path.into())
    }
}

impl JsonSchema for FilePath {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "FilePath".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": FILE_PATH_FORMAT })
    }
}

/// Which adapter, and where: a URL such as `imaps://user@host/INBOX`, or a scheme with a path such as
/// `maildir:var/inbox`. A relative path after a scheme is resolved as for [`FilePath`].
///
/// ```
/// use plba_contracts::config::Location;
///
/// let inbox = Location::from("maildir:var/inbox?since=all");
/// assert_eq!(inbox.scheme(), "maildir");
/// assert_eq!(inbox.rest(), "var/inbox?since=all");
/// assert_eq!(inbox.path(), Some("var/inbox"));
/// assert_eq!(Location::from("imaps://host/INBOX").path(), None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Location(String);

impl Location {
    /// The text as it was configured, with its path resolved.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the first colon; empty when there is none.
    pub fn scheme(&self) -> &str {
        self.0.split_once(':').map_or("", |(scheme, _)| scheme)
    }

    /// What stands after the first colon; everything when there is none.
    pub fn rest(&self) -> &str {
        self.0.split_once(':').map_or(&self.0, |(_, rest)| rest)
    }

    /// The file path, for locations without an authority (`//host`): what stands between the scheme and a `?`.
    pub fn path(&self) -> Option<&str> {
        let rest = self.rest();
        let path = rest.split_once('?').map_or(rest, |(path, _)| path);
        (!rest.starts_with("//") && !path.is_empty()).then_some(path)
    }

    /// The query after a `?`, as pairs in order, percent-decoding left to the adapter.
    pub fn query(&self) -> impl Iterator<Item = (&str, &str)> {
        let query = self.0.split_once('?').map_or("", |(_, query)| query);
        query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }
}

impl From<&str> for Location {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Location {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl JsonSchema for Location {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Location".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": LOCATION_FORMAT })
    }
}

/// A span of time in the configuration, written with its unit: `25s`, `1m 30s`, `250ms`.
///
/// ```
/// use std::time::Duration;
/// use plba_contracts::config::TimeSpan;
///
/// let span: TimeSpan = serde_json::from_str("\"1m 30s\"").unwrap();
/// assert_eq!(Duration::from(span), Duration::from_secs(90));
/// assert!(serde_json::from_str::<TimeSpan>("90").is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeSpan(pub Duration);

impl TimeSpan {
    /// So many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl From<TimeSpan> for Duration {
    fn from(span: TimeSpan) -> Self {
        span.0
    }
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::SignedDuration::try_from(self.0) {
            Ok(span) => write!(out, "{span:#}"),
            Err(_) => write!(out, "{}s", self.0.as_secs()),
        }
    }
}

impl Serialize for TimeSpan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TimeSpan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let refused = |found: &str| {
            let message = format!(
                "{found} is no span of time; write a number with its unit, such as \"25s\", \"1m 30s\" or \"250ms\""
            );
            serde::de::Error::custom(message)
        };
        let text = String::deserialize(deserializer).map_err(|_| refused("the value"))?;
        let span: jiff::SignedDuration = text.parse().map_err(|_| refused(&format!("\"{text}\"")))?;
        Duration::try_from(span)
            .map(Self)
            .map_err(|_| refused(&format!("\"{text}\"")))
    }
}

impl JsonSchema for TimeSpan {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TimeSpan".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "time-span", "examples": ["25s", "1m 30s", "250ms"] })
    }
}
