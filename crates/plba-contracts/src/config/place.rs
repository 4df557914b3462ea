//! Values that name places: paths, and locations of adapters.

use std::fmt;
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::secret::without_credentials;

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
/// `Debug` and `Display` mask a password in it, for logs and messages; whoever opens the place takes [`as_str`](Self::as_str).
///
/// ```
/// use plba_contracts::config::Location;
///
/// let inbox = Location::from("maildir:var/inbox?since=all");
/// assert_eq!(inbox.scheme(), "maildir");
/// assert_eq!(inbox.rest(), "var/inbox?since=all");
/// assert_eq!(inbox.path(), Some("var/inbox"));
/// assert_eq!(Location::from("imaps://host/INBOX").path(), None);
/// assert_eq!(Location::from("postgres://bot:hunter2@db/shop").to_string(), "postgres://bot:***@db/shop");
/// ```
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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
        out.write_str(&without_credentials(&self.0))
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Location({:?})", without_credentials(&self.0))
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
