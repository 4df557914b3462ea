//! The platform's own metrics: a consumer of the supervisor's events counts, and a source tells how the workers are when it
//! is asked. Instruments and their limits live in `plba_contracts::metrics`, the text format with the wire.

use std::collections::BTreeMap;
use std::sync::Arc;

use plba_contracts::health::Health;
use plba_contracts::metrics::{
    Counter, Gauge, Histogram, MetricError, MetricFamily, MetricKind, MetricSource, MetricValue, Metrics, SECONDS,
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::health::HealthRegistry;
use crate::supervisor::{AttemptEnd, SlotState, SupervisorEvent, WorkerSupervisor, WorkerView};
use crate::trace::TraceService;

/// A figure as the view tells it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct MetricLine {
    /// The name.
    pub metric: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What it is.
    pub kind: MetricKind,
    /// The figure, or a distribution.
    pub value: MetricValue,
}

/// All figures, a line each.
pub fn lines(metrics: &Metrics) -> Vec<MetricLine> {
    let families = metrics.families().into_iter();
    let told = |family: MetricFamily| {
        let (name, kind) = (family.name, family.kind);
        family.samples.into_iter().map(move |sample| MetricLine {
            metric: name.clone(),
            labels: sample.labels.into_iter().collect(),
            kind,
            value: sample.value,
        })
    };
    families.flat_map(told).collect()
}

/// What the supervisor's events are counted by.
struct Counts {
    starts: Counter,
    exits: Counter,
    hangs: Counter,
    given_up: Counter,
    stalls: Counter,
    start_seconds: Gauge,
    stop_seconds: Gauge,
    stopped: Counter,
    hung_seconds: Histogram,
}

impl Counts {
    fn new(metrics: &Metrics) -> Result<Self, MetricError> {
        let by_worker = ["worker"];
        Ok(Self {
            starts: metrics.counter("plba_worker_starts_total", "Attempts begun, by worker.", &by_worker)?,
            exits: metrics.counter(
                "plba_worker_exits_total",
                "Attempts ended, by worker and how.",
                &["worker", "how"],
            )?,
            hangs: metrics.counter(
                "plba_worker_hangs_total",
                "Instances found hung, by worker.",
                &by_worker,
            )?,
            given_up: metrics.counter("plba_worker_given_up_total", "Slots given up, by worker.", &by_worker)?,
            stalls: metrics.counter(
                "plba_executor_stalls_total",
                "How often the workers' executor ran nothing for too long.",
                &[],
            )?,
            start_seconds: metrics.gauge("plba_start_seconds", "How long the start of the workers took.", &[])?,
            stop_seconds: metrics.gauge("plba_stop_seconds", "How long the stop of the workers took.", &[])?,
            stopped: metrics.counter(
                "plba_stopped_instances_total",
                "Instances that came to rest in the stop of the process, by how.",
                &["how"],
            )?,
            hung_seconds: metrics.histogram(
                "plba_hung_seconds",
                "For how long an instance had the same thing in hand when it was found hung, by worker.",
                &by_worker,
                SECONDS,
            )?,
        })
    }

    fn count(&self, event: &SupervisorEvent) {
        match event {
            SupervisorEvent::Moved { worker, state, .. } => match state {
                SlotState::Starting => self.starts.with(&[worker]).add(1),
                SlotState::GivenUp => self.given_up.with(&[worker]).add(1),
                _ => {}
            },
            SupervisorEvent::Ended { worker, end, .. } => self.exits.with(&[worker, how(end)]).add(1),
            SupervisorEvent::Hung { worker, duration, .. } => {
                self.hangs.with(&[worker]).add(1);
                self.hung_seconds.with(&[worker]).record(duration.as_secs_f64());
            }
            SupervisorEvent::ExecutorStalled { .. } => self.stalls.with(&[]).add(1),
            SupervisorEvent::Started { took, .. } => self.start_seconds.with(&[]).set(took.as_secs_f64()),
            SupervisorEvent::StopEnded {
                drained,
                forced,
                abandoned,
                took,
            } => {
                self.stop_seconds.with(&[]).set(took.as_secs_f64());
                for (how, count) in [("drained", drained), ("forced", forced), ("abandoned", abandoned)] {
                    self.stopped.with(&[how]).add(*count as u64);
                }
            }
            _ => {}
        }
    }
}

fn how(end: &AttemptEnd) -> &'static str {
    match end {
        AttemptEnd::Finished => "finished",
        AttemptEnd::Stopped => "stopped",
        AttemptEnd::Failed(_) => "failed",
        AttemptEnd::Panicked(_) => "panicked",
        AttemptEnd::NotBuilt(_) => "not_built",
        AttemptEnd::NotStarted(_) => "not_started",
        AttemptEnd::StartTimedOut(_) => "start_timed_out",
        AttemptEnd::Hung => "hung",
        AttemptEnd::Dropped => "dropped",
    }
}

/// What the platform tells when it is asked.
struct Platform {
    supervisor: WorkerSupervisor,
    health: HealthRegistry,
    traces: TraceService,
}

/// Counts what the supervisor sees from now on, and tells how the workers are. To be held for as long as that is wanted.
///
/// # Errors
/// Somebody else has one of the names.
pub fn observe(
    metrics: &Metrics,
    supervisor: &WorkerSupervisor,
    health: &HealthRegistry,
    traces: &TraceService,
) -> Result<Arc<dyn MetricSource>, MetricError> {
    let counts = Counts::new(metrics)?;
    supervisor
        .events()
        .subscribe(move |recorded| counts.count(&recorded.event));
    let source: Arc<dyn MetricSource> = Arc::new(Platform {
        supervisor: supervisor.clone(),
        health: health.clone(),
        traces: traces.clone(),
    });
    metrics.source("platform", &source);
    Ok(source)
}

impl MetricSource for Platform {
    fn collect(&self) -> Vec<MetricFamily> {
        let views = self.supervisor.snapshot();
        let (finished, lost) = self.traces.counts();
        let stalled = self.supervisor.executor_stalled_for().unwrap_or_default();
        let starved = self.supervisor.watchdog_starved_for();
        let number = |name, kind, help, value: f64| MetricFamily::new(name, kind, help).with(&[], value);
        let mut families = vec![
            number(
                "plba_health",
                MetricKind::Gauge,
                "How the whole is: 1 ok, 0.5 degraded, 0 unhealthy.",
                figure(&self.health.report().health),
            ),
            number(
                "plba_executor_stalled_seconds",
                MetricKind::Gauge,
                "For how long the workers' executor has run nothing, once that is too long.",
                stalled.as_secs_f64(),
            ),
            number(
                "plba_watchdog_starved_seconds_total",
                MetricKind::Counter,
                "For how long in all the stall watchdog itself did not get to run; that time counts towards no verdict.",
                starved.as_secs_f64(),
            ),
            number(
                "plba_spans_total",
                MetricKind::Counter,
                "Spans finished.",
                finished as f64,
            ),
            number(
                "plba_spans_lost_total",
                MetricKind::Counter,
                "Spans that no transport got.",
                lost as f64,
            ),
        ];
        families.extend(of_workers(&views));
        families
    }
}

fn of_workers(views: &[WorkerView]) -> [MetricFamily; 5] {
    let family = |name, kind, help| MetricFamily::new(name, kind, help);
    let mut health = family(
        "plba_worker_health",
        MetricKind::Gauge,
        "How a worker is: 1 ok, 0.5 degraded, 0 unhealthy.",
    );
    let mut instances = family(
        "plba_worker_instances",
        MetricKind::Gauge,
        "Instances of a worker, by state.",
    );
    let mut hung = family(
        "plba_worker_hung_instances",
        MetricKind::Gauge,
        "Instances of a worker that hang.",
    );
    let mut restarts = family(
        "plba_worker_restarts_total",
        MetricKind::Counter,
        "Attempts that followed another in the same slot.",
    );
    let mut work = family(
        "plba_worker_work_total",
        MetricKind::Counter,
        "Pieces of work that a worker has ended, by outcome.",
    );
    for view in views {
        let name = view.name.as_str();
        health.push(&[("worker", name)], figure(&view.health));
        let mut states: BTreeMap<&str, u32> = BTreeMap::new();
        view.slots
            .iter()
            .for_each(|slot| *states.entry(slot.state.word()).or_default() += 1);
        for (state, count) in states {
            instances.push(&[("worker", name), ("state", state)], count.into());
        }
        let hanging = view.slots.iter().filter(|slot| slot.hung).count();
        hung.push(&[("worker", name)], hanging as f64);
        restarts.push(&[("worker", name)], view.restarts as f64);
        for (outcome, count) in [("succeeded", view.status.succeeded), ("failed", view.status.failed)] {
            work.push(&[("worker", name), ("outcome", outcome)], count as f64);
        }
    }
    [health, instances, hung, restarts, work]
}

fn figure(health: &Health) -> f64 {
    match health {
        Health::Ok => 1.0,
        Health::Degraded { .. } => 0.5,
        Health::Unhealthy { .. } => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn events_become_figures() {
        let metrics = Metrics::default();
        let counts = Counts::new(&metrics).unwrap();
        let (worker, slot, incarnation) = ("orders".to_owned(), 0, 1);
        counts.count(&SupervisorEvent::Moved {
            worker: worker.clone(),
            slot,
            state: SlotState::Starting,
            incarnation,
            lasts: None,
            cause: None,
        });
        counts.count(&SupervisorEvent::Moved {
            worker: worker.clone(),
            slot,
            state: SlotState::GivenUp,
            incarnation,
            lasts: None,
            cause: None,
        });
        counts.count(&SupervisorEvent::Hung {
            worker: worker.clone(),
            slot,
            busy_with: "task 7".to_owned(),
            span: None,
            since: jiff::Timestamp::UNIX_EPOCH,
            duration: Duration::from_secs(3),
        });
        counts.count(&SupervisorEvent::ExecutorStalled {
            duration: Duration::from_secs(5),
        });
        counts.count(&SupervisorEvent::Started {
            workers: 1,
            took: Duration::from_millis(250),
        });
        counts.count(&SupervisorEvent::Ended {
            worker,
            slot,
            incarnation,
            end: AttemptEnd::Panicked("oh".to_owned()),
        });
        counts.count(&SupervisorEvent::StopEnded {
            drained: 3,
            forced: 1,
            abandoned: 0,
            took: Duration::from_millis(1_500),
        });
        let told: Vec<String> = lines(&metrics)
            .iter()
            .map(|line| {
                let labels: Vec<&str> = line.labels.values().map(String::as_str).collect();
                format!(
                    "{} {labels:?} {}",
                    line.metric,
                    serde_json::to_string(&line.value).unwrap()
                )
            })
            .collect();
        for wanted in [
            r#"plba_worker_starts_total ["orders"] 1.0"#,
            r#"plba_worker_exits_total ["panicked", "orders"] 1.0"#,
            r#"plba_stopped_instances_total ["drained"] 3.0"#,
            r#"plba_worker_given_up_total ["orders"] 1.0"#,
            r#"plba_worker_hangs_total ["orders"] 1.0"#,
            r#"plba_executor_stalls_total [] 1.0"#,
            r#"plba_start_seconds [] 0.25"#,
            r#"plba_stop_seconds [] 1.5"#,
        ] {
            assert!(told.iter().any(|line| line == wanted), "no {wanted} in {told:#?}");
        }
    }
}
