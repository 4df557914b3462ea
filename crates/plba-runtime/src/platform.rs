//! The section `[platform]`: everything about the platform that an operator may set. What each value does is told where
//! it is used.

use std::time::Duration;

use plba_contracts::config::{ConfigSection, Faults, FilePath, Secret, TimeSpan};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::ConfigSettings;
use crate::logging::LoggingConfig;
use crate::supervisor::WatchdogOptions;
use crate::trace::TraceConfig;
use crate::tuning::Settings;

/// The platform's own settings.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PlatformConfig {
    /// Where state is kept. One process owns it at a time.
    #[schemars(extend("x-needs-restart" = true))]
    pub state_dir: FilePath,
    /// How long a stop may take in all: finish, then interrupt, then leave behind.
    pub stop_budget: TimeSpan,
    /// Whether the system may write core dumps of the process, and debuggers of the same user may look into it: both show
    /// secrets in plain text.
    #[schemars(extend("x-needs-restart" = true))]
    pub core_dumps: bool,
    /// The configuration itself.
    pub config: ConfigSettings,
    /// The executor that workers run on.
    #[schemars(extend("x-needs-restart" = true))]
    pub executor: ExecutorConfig,
    /// Single workers, by name: what stands in place of what their modules say. Applied to running workers by a reload.
    pub workers: Settings,
    /// The control plane: probes, views and actions for operators.
    pub control: ControlConfig,
    /// The log.
    pub logging: LoggingConfig,
    /// Traces.
    pub trace: TraceConfig,
    /// Health.
    pub health: HealthConfig,
}

/// The section `[platform.executor]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ExecutorConfig {
    /// How many threads run workers, 1 to 512. Without it one for each core, and at least two, so that a worker that
    /// blocks one leaves another.
    pub threads: Option<u32>,
}

/// The section `[platform.control]`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ControlConfig {
    /// Whether there is a control plane.
    #[schemars(extend("x-needs-restart" = true))]
    pub enabled: bool,
    /// Address and port to listen on; port 0 takes any free one. Anything but a loopback address needs `token_file`.
    #[schemars(extend("x-needs-restart" = true))]
    pub listen: String,
    /// Host names that requests may name, besides the loopback ones.
    #[schemars(extend("x-needs-restart" = true))]
    pub hosts: Vec<String>,
    /// A file that holds the admin's token, at least 32 characters; read again at each reload. Without it a random token is
    /// made at first start and kept in `control.token` in the state directory.
    pub token_file: Option<FilePath>,
    /// The admin's token itself, at least 32 characters; better given by the environment than in a file.
    pub token: Option<Secret>,
}

/// The section `[platform.health]`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HealthConfig {
    /// How long the workers' executor may be stalled before the process counts as not live.
    pub stall_limit: TimeSpan,
    /// How often the stall watchdog looks, 20 ms to 1 min; sooner where a worker's `stall_after` asks for it. A hung worker
    /// is found within two such intervals, an executor that runs nothing within six.
    #[schemars(extend("x-needs-restart" = true))]
    pub watchdog_interval: TimeSpan,
}

impl Default for PlatformConfig {
    fn default() -> Self {
        Self {
            state_dir: FilePath::from("var"),
            stop_budget: TimeSpan::seconds(25),
            core_dumps: false,
            config: ConfigSettings::default(),
            executor: ExecutorConfig::default(),
            workers: Settings::new(),
            control: ControlConfig::default(),
            logging: LoggingConfig::default(),
            trace: TraceConfig::default(),
            health: HealthConfig::default(),
        }
    }
}

impl Default for ControlConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: "127.0.0.1:8080".into(),
            hosts: Vec::new(),
            token_file: None,
            token: None,
        }
    }
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            stall_limit: TimeSpan::seconds(60),
            watchdog_interval: TimeSpan::seconds(1),
        }
    }
}

impl HealthConfig {
    /// How the watchdog looks by these settings.
    pub fn watchdog(&self) -> WatchdogOptions {
        let interval = self.watchdog_interval.0;
        WatchdogOptions {
            look_every: interval,
            heartbeat: interval,
            stalled_after: interval * 5,
        }
    }
}

impl ConfigSection for PlatformConfig {
    fn validate(&self, faults: &mut Faults) {
        let positive = "a span longer than 0 is needed";
        faults.require(!self.stop_budget.0.is_zero(), "stop_budget", positive);
        faults.require(!self.health.stall_limit.0.is_zero(), "health.stall_limit", positive);
        let interval = (Duration::from_millis(20)..=Duration::from_secs(60)).contains(&self.health.watchdog_interval.0);
        faults.require(interval, "health.watchdog_interval", "a span from 20ms to 1m is needed");
        let threads = self.executor.threads.is_none_or(|threads| (1..=512).contains(&threads));
        faults.require(threads, "executor.threads", "1 to 512 threads are possible");
        faults.require(
            (0.0..=1.0).contains(&self.trace.sample),
            "trace.sample",
            "a share lies between 0 and 1",
        );
        faults.require(
            self.trace.keep <= 100_000,
            "trace.keep",
            "at most 100,000 spans can be kept in memory",
        );
        self.workers
            .iter()
            .for_each(|(name, worker)| worker.validate(name, faults));
        self.config.validate(faults);
        self.control.validate(faults);
        self.logging.validate(faults);
    }
}

impl ControlConfig {
    /// Whether only this machine can reach the address.
    pub fn is_loopback(&self) -> bool {
        let host = self
            .listen
            .rsplit_once(':')
            .map_or(self.listen.as_str(), |(host, _)| host);
        let address = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<std::net::IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }

    fn validate(&self, faults: &mut Faults) {
        let port = self
            .listen
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse::<u16>().ok());
        let message = "an address with a port is needed, such as \"127.0.0.1:8080\"";
        faults.require(port.is_some(), "control.listen", message);
        let credentials = self.token_file.is_some() || self.token.is_some();
        if self.enabled && port.is_some() && !self.is_loopback() && !credentials {
            let message = "others than this machine could reach this address, so credentials must be configured: \
                           set platform.control.token_file, or listen on 127.0.0.1";
            faults.report("control.listen", message);
        }
        let short = self.token.as_ref().is_some_and(|token| token.expose().len() < 32);
        faults.require(!short, "control.token", "a token has at least 32 characters");
        let both = self.token_file.is_some() && self.token.is_some();
        faults.require(!both, "control.token", "either token or token_file is set, not both");
    }
}
