//! Where a value of the configuration came from.

use std::fmt;
use std::path::PathBuf;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a value came from, kept for every value so that an operator can be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    /// An override that an operator has set while the process ran.
    Override {
        /// Who set it.
        by: String,
        /// When.
        #[schemars(with = "String")]
        at: Timestamp,
        /// Until when it holds; without it until it is taken back.
        #[schemars(with = "Option<String>")]
        until: Option<Timestamp>,
        /// What for.
        why: Option<String>,
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
            Self::Override { by, at, until, why } => {
                write!(out, "override by {by} at {at:.0}")?;
                if let Some(until) = until {
                    write!(out, " until {until:.0}")?;
                }
                match why {
                    Some(why) => write!(out, ": {why}"),
                    None => Ok(()),
                }
            }
        }
    }
}
