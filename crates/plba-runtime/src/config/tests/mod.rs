//! Tests of the configuration: a bot's section, files in a directory of their own, and what all tests share.

mod broken;
mod database;
mod diff;
mod layers;
mod mutation;
mod overrides;
mod printed;
mod probation;
mod providers;
mod records;
mod reload;
mod reports;
mod secrets;
mod trial;
mod watch;

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use plba_contracts::clock::Clock;
use plba_contracts::config::{FilePath, Location, Secret};
use plba_contracts::section::{ConfigSection, Faults, SectionDefinition};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::*;
use crate::clock::SystemClock;
use crate::config::change::{ReloadOutcome, Transactions, Trigger};

/// The orders of a shop.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Bot {
    /// How many orders are handled at once, 1 to 64.
    workers: u32,
    /// Where orders come from.
    source: Location,
    /// Articles and prices.
    catalogue: FilePath,
    /// The mailbox's password.
    password: Option<Secret>,
    /// A file that holds the mailbox's password.
    password_file: Option<FilePath>,
    /// How often to look.
    pace: Pace,
    /// Answers to customers.
    replies: Replies,
    /// Customers with rules of their own.
    rules: Vec<Rule>,
}

/// How often to look.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Pace {
    Slow,
    Fast,
}

/// Answers to customers.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Replies {
    /// The sender.
    from: String,
    copies: u8,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct Rule {
    sender: String,
    priority: u8,
}

/// The process itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Process {
    /// Where state is kept.
    #[schemars(extend("x-needs-restart" = true))]
    state_dir: FilePath,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<f64>,
}

impl Default for Bot {
    fn default() -> Self {
        Self {
            workers: 4,
            source: "maildir:var/inbox".into(),
            catalogue: "catalogue.csv".into(),
            password: None,
            password_file: None,
            pace: Pace::Slow,
            replies: Replies::default(),
            rules: Vec::new(),
        }
    }
}

impl ConfigSection for Bot {
    fn validate(&self, faults: &mut Faults) {
        faults.require(
            (1..=64).contains(&self.workers),
            "workers",
            "between 1 and 64 workers are possible",
        );
        let needs_password = self.source.scheme() == "imaps" && self.password.is_none() && self.password_file.is_none();
        faults.require(
            !needs_password,
            "password_file",
            "an imaps source needs password_file or password",
        );
    }
}

impl ConfigSection for Process {}

/// Reloads where no part of a process has to follow.
async fn reload(manager: &Arc<ConfigurationManager>) -> ReloadOutcome {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let mut transactions = Transactions::new(Arc::clone(manager), clock, Vec::new());
    transactions.reload(vec![Trigger::Signal]).await.outcome
}

fn definitions() -> Vec<SectionDefinition> {
    vec![
        SectionDefinition::new::<Process>("platform"),
        SectionDefinition::new::<Bot>("bot"),
    ]
}

/// The same bot on the platform as it really is.
fn on_the_platform() -> Vec<SectionDefinition> {
    vec![
        SectionDefinition::new::<crate::platform::PlatformConfig>("platform"),
        SectionDefinition::new::<Bot>("bot"),
    ]
}

/// A directory of files that goes away with it.
struct Directory {
    path: PathBuf,
    sources: ConfigurationSources,
    definitions: fn() -> Vec<SectionDefinition>,
}

impl Directory {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("plba-config-{}-{count}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self {
            path,
            sources: ConfigurationSources::default(),
            definitions,
        }
    }

    /// Writes a file and makes it part of the configuration.
    fn file(mut self, name: &str, text: impl AsRef<[u8]>) -> Self {
        let path = self.path.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        self.sources.files.push(path);
        self
    }

    fn variable(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.sources.environment.push((name.into(), value.into()));
        self
    }

    fn set(mut self, argument: &str) -> Self {
        self.sources.overrides.push(argument.into());
        self
    }

    fn load(&self) -> Result<ConfigurationManager, ConfigReport> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(ConfigurationManager::load((self.definitions)(), self.sources.clone()))
    }

    /// The report of a configuration that is refused, with the directory's name left out.
    fn report(&self) -> String {
        self.relative(&self.load().unwrap_err().to_string())
    }

    fn relative(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.path.display()), "")
    }

    fn bot(&self) -> Arc<Bot> {
        let manager = self.load().unwrap_or_else(|report| panic!("{report}"));
        manager.current().typed::<Bot>("bot").unwrap()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}
