//! The platform's own views: status, workers, events, the start, health, traces, configuration. All answer from memory.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use plba_contracts::clock::Clock;
use plba_contracts::control::{ControlError, Endpoint, Parameters};
use plba_contracts::health::{Criticality, Health};
use plba_contracts::metrics::Metrics;
use plba_contracts::trace::FinishedSpan;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::config::ConfigurationManager;
use crate::config::change::{ConfigRecords, ConfigStanding, HEALTH_PART, MAXIMUM_ENTRIES};
use crate::control::{Lifecycle, Verdict};
use crate::health::{HealthRegistry, HealthReport, PartHealth};
use crate::metrics::lines;
use crate::previous_run::PreviousRun;
use crate::supervisor::{RecordedEvent, WorkerSupervisor, WorkerView};
use crate::timeline::Timeline;
use crate::trace::TraceService;

/// The most spans or events that one answer gives.
const MOST: usize = 1_000;

/// What the views tell of.
pub struct Facts {
    /// The application's name.
    pub application: String,
    /// When the process started.
    pub started: Timestamp,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The state directory.
    pub state_dir: PathBuf,
    /// Where the process stands.
    pub lifecycle: Lifecycle,
    /// The configuration.
    pub configuration: Arc<ConfigurationManager>,
    /// What there is to tell of its changes.
    pub records: Arc<ConfigRecords>,
    /// The workers.
    pub supervisor: WorkerSupervisor,
    /// Health.
    pub health: HealthRegistry,
    /// Traces.
    pub traces: TraceService,
    /// What there is to measure.
    pub metrics: Metrics,
    /// The run before this one.
    pub previous: Option<PreviousRun>,
    /// The start.
    pub timeline: Timeline,
}

/// The process at a glance.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Status {
    /// The application.
    pub application: String,
    /// `starting`, `ready` or `stopping`.
    pub stage: &'static str,
    /// How the whole is.
    #[serde(flatten)]
    pub health: Health,
    /// The process.
    pub pid: u32,
    /// When it started.
    #[schemars(with = "String")]
    pub started: Timestamp,
    /// Seconds since then.
    pub uptime: u64,
    /// Where state is kept.
    pub state_dir: PathBuf,
    /// Which configuration runs, counted from 1.
    pub configuration_generation: u64,
    /// How the configuration stands: whether it is proven, what is wrong with what is written, and the latest changes.
    pub configuration: ConfigStanding,
    /// Workers by state.
    pub workers: std::collections::BTreeMap<&'static str, u32>,
    /// Spans finished so far.
    pub spans_finished: u64,
    /// Spans that no transport got.
    pub spans_lost: u64,
    /// How the run before this one ended, in a sentence.
    pub last_run: Option<String>,
    /// The same with what is known of it.
    pub previous_run: Option<PreviousRun>,
}

/// The platform's own views.
pub fn own(facts: Facts) -> Vec<Endpoint> {
    let facts = Arc::new(facts);
    vec![
        view(
            &facts,
            "status",
            "Tells how the process is, at a glance.",
            |facts, _| Ok(facts.status()),
        ),
        view(
            &facts,
            "workers",
            "Lists the workers and what each does.",
            |facts, _| Ok(facts.workers()),
        ),
        view(
            &facts,
            "events",
            "Lists what the supervisor saw and did, the newest first.",
            |facts, parameters| facts.events(&parameters),
        )
        .parameter("limit", "how many at most, up to 1000; 100 when left out"),
        view(
            &facts,
            "startup",
            "Tells which step and which worker of the start took how long, in seconds.",
            |facts, _| Ok(facts.timeline.steps()),
        ),
        view(
            &facts,
            "health",
            "Tells how every part is, the worst first.",
            |facts, _| Ok(facts.health()),
        ),
        view(
            &facts,
            "traces",
            "Lists the latest finished spans.",
            |facts, parameters| facts.traces(&parameters),
        )
        .parameter("trace", "only spans of this journey (32 hexadecimal digits)")
        .parameter("limit", "how many at most, up to 1000; 100 when left out"),
        view(
            &facts,
            "metrics",
            "Lists every figure that is measured; `/metrics` tells the same as text, to be scraped.",
            |facts, _| Ok(lines(&facts.metrics)),
        ),
        view(
            &facts,
            "config",
            "Shows the running configuration with origins; secrets are masked.",
            |facts, _| {
                serde_json::to_value(facts.configuration.current().show())
                    .map_err(|error| ControlError::Failed(error.into()))
            },
        ),
        view(
            &facts,
            "config.history",
            "Lists the latest changes of the configuration over restarts, the newest first: what asked for each, what became \
             of it and why, and what changed; secrets are masked.",
            |facts, parameters| {
                let most = limit(&parameters, MAXIMUM_ENTRIES)?;
                Ok(facts.records.history(most))
            },
        )
        .parameter("limit", "how many at most; all 50 when left out"),
    ]
}

fn view<T: Serialize + JsonSchema + Send + 'static>(
    facts: &Arc<Facts>,
    name: &'static str,
    summary: &'static str,
    tell: fn(&Facts, Parameters) -> Result<T, ControlError>,
) -> Endpoint {
    let facts = Arc::clone(facts);
    Endpoint::view(name, summary, move |_, parameters| {
        std::future::ready(tell(&facts, parameters))
    })
}

impl Facts {
    fn status(&self) -> Status {
        let (spans_finished, spans_lost) = self.traces.counts();
        let mut workers = std::collections::BTreeMap::new();
        for worker in self.supervisor.snapshot() {
            *workers.entry(worker.state.word()).or_default() += 1;
        }
        let now = self.clock.now();
        Status {
            application: self.application.clone(),
            stage: self.lifecycle.stage().word(),
            health: self.health.report().health,
            pid: std::process::id(),
            started: self.started,
            uptime: u64::try_from(now.duration_since(self.started).as_secs()).unwrap_or(0),
            state_dir: self.state_dir.clone(),
            configuration_generation: self.configuration.current().generation(),
            configuration: self.records.standing(),
            workers,
            spans_finished,
            spans_lost,
            last_run: self.previous.as_ref().map(ToString::to_string),
            previous_run: self.previous.clone(),
        }
    }

    fn workers(&self) -> Vec<WorkerView> {
        self.supervisor.snapshot()
    }

    fn events(&self, parameters: &Parameters) -> Result<Vec<RecordedEvent>, ControlError> {
        let limit = limit(parameters, 100)?;
        let mut events = self.supervisor.events().history();
        events.reverse();
        events.truncate(limit);
        Ok(events)
    }

    fn health(&self) -> HealthReport {
        self.health.report()
    }

    fn traces(&self, parameters: &Parameters) -> Result<Vec<FinishedSpan>, ControlError> {
        let limit = limit(parameters, 100)?;
        Ok(self
            .traces
            .recent(parameters.get("trace").and_then(Value::as_str), limit))
    }
}

/// The parameter `limit`, a number or its text, within bounds.
fn limit(parameters: &Parameters, default: usize) -> Result<usize, ControlError> {
    let Some(given) = parameters.get("limit") else {
        return Ok(default);
    };
    let number = given.as_u64().or_else(|| given.as_str()?.parse().ok());
    let number = number
        .and_then(|number| usize::try_from(number).ok())
        .filter(|number| (1..=MOST).contains(number));
    number.ok_or_else(|| ControlError::Invalid(format!("limit takes a number from 1 to {MOST}, not {given}")))
}

/// How the platform's own parts are, for the health registry: the workers, their executor when it is stalled, and the
/// configuration.
pub fn health_of(
    supervisor: WorkerSupervisor,
    records: Arc<ConfigRecords>,
) -> impl Fn() -> Vec<PartHealth> + Send + Sync + 'static {
    move || {
        let told = |view: WorkerView| PartHealth {
            name: view.name,
            kind: "worker",
            health: view.health,
            criticality: view.criticality,
        };
        let stalled = supervisor.executor_stalled_for().map(|stalled| PartHealth {
            name: "executor".into(),
            kind: "worker",
            health: Health::unhealthy(format!("its threads have run nothing for {} s", stalled.as_secs())),
            criticality: Criticality::Critical,
        });
        let configuration = PartHealth {
            name: HEALTH_PART.into(),
            kind: "contributor",
            health: records.health(),
            criticality: Criticality::Optional,
        };
        let own = stalled.into_iter().chain([configuration]);
        supervisor.snapshot().into_iter().map(told).chain(own).collect()
    }
}

/// Whether the platform can make progress: the workers' executor moves, and no worker that liveness depends on is hung.
/// The limit is asked for each time: it may change while the process runs.
pub fn live(supervisor: WorkerSupervisor, stall_limit: impl Fn() -> Duration + Send + Sync + 'static) -> Box<Verdict> {
    Box::new(move || {
        let stalled = supervisor
            .executor_stalled_for()
            .is_some_and(|stalled| stalled > stall_limit());
        let hung = || {
            supervisor
                .snapshot()
                .iter()
                .any(|worker| worker.liveness && worker.is_hung())
        };
        !stalled && !hung()
    })
}

/// Whether every critical part is usable.
pub fn usable(health: HealthRegistry) -> Box<Verdict> {
    Box::new(move || health.report().health.is_usable())
}
