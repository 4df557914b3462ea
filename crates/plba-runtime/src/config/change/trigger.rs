//! What asked for a change of the configuration: a value that stands in the log, in answers and in the history. Who raises
//! it, and how requests are gathered, lives in `requests`.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Why the configuration is read again, or another one takes its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "trigger", rename_all = "snake_case")]
pub enum Trigger {
    /// The process started.
    Start,
    /// SIGHUP.
    Signal,
    /// A file or directory that is read has changed, come or gone.
    File {
        /// Which, as it is watched.
        path: PathBuf,
    },
    /// A provider says that its layer may have changed, or answers again.
    Provider {
        /// Its name.
        name: String,
    },
    /// An operator asked, by the control plane or the command line.
    Action {
        /// Who, as the audit log has it.
        by: String,
    },
    /// The time of an override is over.
    Expired {
        /// The key that it had set.
        key: String,
    },
    /// The probation of the configuration that runs has failed, so the one before it comes back.
    Probation,
}

impl Trigger {
    /// Whether a person asked, who knows what they do: then also a configuration is tried that was taken back before.
    pub fn is_deliberate(&self) -> bool {
        matches!(self, Self::Signal | Self::Action { .. })
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => out.write_str("start"),
            Self::Signal => out.write_str("SIGHUP"),
            Self::File { path } => write!(out, "{} has changed", path.display()),
            Self::Provider { name } => write!(out, "{name} may have changed"),
            Self::Action { by } => write!(out, "asked by {by}"),
            Self::Expired { key } => write!(out, "the override of {key} is over"),
            Self::Probation => out.write_str("failed probation"),
        }
    }
}
