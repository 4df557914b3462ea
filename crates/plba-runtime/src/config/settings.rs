//! The section `[platform.config]`: how the configuration itself is read, watched and replaced. Read before everything else,
//! from files, environment and command line: a database or an override can't say where it is to be found.

use std::time::Duration;

use plba_contracts::config::{Faults, FilePath, Location, TimeSpan};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest probation, and the longest time that subscribers may take: an operator waits for both.
const MAXIMUM_WAIT: Duration = Duration::from_secs(600);

/// The section `[platform.config]`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ConfigSettings {
    /// Whether files are watched, so that a change is applied without a signal.
    pub watch: bool,
    /// What a start does when the configuration is wrong: `strict` refuses, `last_good` takes the last one that ran.
    pub on_invalid_start: OnInvalidStart,
    /// How long a new configuration is watched after it was applied: if workers fail by it meanwhile, the one before comes
    /// back. `0s` for not at all, at most 10m.
    pub probation: TimeSpan,
    /// How long those who are asked whether a new configuration will do may take in all, at most 10m; then it is refused.
    pub prepare_timeout: TimeSpan,
    /// A directory whose files are values, as Kubernetes and Docker mount secrets: each is named by its key, such as
    /// `mail_order_bot.password`. Besides it, systemd's `CREDENTIALS_DIRECTORY` is read.
    pub secrets: Option<FilePath>,
    /// A database with values, such as `sqlite:var/config.db` or `postgres://user@host/database`. Its values lie above files
    /// and below the environment.
    pub database: Option<Location>,
}

/// What a start does with a configuration that is wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnInvalidStart {
    /// It refuses, and says what is wrong.
    #[default]
    Strict,
    /// It takes the last one that ran, and says so in its health.
    LastGood,
}

impl Default for ConfigSettings {
    fn default() -> Self {
        Self {
            watch: true,
            on_invalid_start: OnInvalidStart::default(),
            probation: TimeSpan::seconds(30),
            prepare_timeout: TimeSpan::seconds(10),
            secrets: None,
            database: None,
        }
    }
}

impl ConfigSettings {
    pub(crate) fn validate(&self, faults: &mut Faults) {
        let within = |span: TimeSpan| span.0 <= MAXIMUM_WAIT;
        faults.require(
            within(self.probation),
            "config.probation",
            "at most 10m; an operator waits for its end",
        );
        faults.require(
            within(self.prepare_timeout) && !self.prepare_timeout.0.is_zero(),
            "config.prepare_timeout",
            "a span longer than 0 and of at most 10m is needed",
        );
    }
}
