//! The supervisor as a whole, on paused time: instances that start, fail, panic, hang and stop on real tasks. Here live
//! the instances and what all tests need.

mod changing;
mod hanging;
mod many;
mod restarting;
mod starting;
mod stopping;
mod telling;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use plba_contracts::BoxError;
use plba_contracts::clock::Clock;
use plba_contracts::health::Health;
use plba_contracts::services::{ErasedService, ServiceError, ServiceKey, ServiceSource, Services};
use plba_contracts::stop::{StopHandle, StopSignal};
use plba_contracts::worker::{
    Exit, Restart, RestartPolicy, Running, StartError, Worker, WorkerContext, WorkerDefinition, WorkerStatus,
};
use tokio::time::Instant;

use super::*;
use crate::clock::SystemClock;

/// Time as tokio has it, which tests pause.
pub(crate) struct TokioClock(pub(crate) Instant);

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        "2026-01-10T12:00:00Z".parse::<Timestamp>().unwrap() + self.0.elapsed()
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

struct NoServices;

#[async_trait]
impl ServiceSource for NoServices {
    async fn resolve(&self, key: &ServiceKey, _: &[ServiceKey]) -> Result<ErasedService, ServiceError> {
        Err(ServiceError::Missing {
            key: key.clone(),
            asked_by: "a test".into(),
        })
    }
}

pub(crate) fn services() -> Services {
    Services::new(Arc::new(NoServices), Vec::new())
}

pub(crate) fn supervisor() -> WorkerSupervisor {
    WorkerSupervisor::new(Arc::new(TokioClock(Instant::now())), 7)
}

fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn never_forced() -> StopSignal {
    StopHandle::new().signal()
}

/// What an instance does once it runs.
#[derive(Clone, Copy, PartialEq)]
enum Does {
    Waits,
    IgnoresGraceful,
    IgnoresAll,
    Panics,
    PanicsWithANumber,
    Fails,
    NeverStarts,
    CantStart,
}

struct Acts {
    does: Does,
    stop: StopHandle,
    log: Log,
    name: &'static str,
}

type Log = Arc<Mutex<Vec<String>>>;

#[async_trait]
impl Worker for Acts {
    async fn start(self: Arc<Self>, context: WorkerContext) -> Result<Running, StartError> {
        match self.does {
            Does::NeverStarts => std::future::pending().await,
            Does::CantStart => return Err(StartError::new("port 8080 is in use; stop what uses it")),
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
        self.log.lock().unwrap().push(format!("+{}", self.name));
        Ok(Running::new(async move {
            let stop = self.stop.signal();
            let _busy = (self.does == Does::IgnoresGraceful).then(|| context.activity.begin("order 17".into()));
            match self.does {
                Does::Panics => panic!("no such {}", "shelf"),
                Does::PanicsWithANumber => std::panic::panic_any(42),
                Does::Fails => return Exit::Failed("disk full".into()),
                Does::IgnoresGraceful => stop.forced().await,
                Does::IgnoresAll => std::future::pending().await,
                _ => stop.requested().await,
            }
            self.log.lock().unwrap().push(format!("-{}", self.name));
            Exit::Stopped
        }))
    }

    fn stop(&self, force: bool) {
        self.stop.stop(force);
    }

    fn health(&self) -> Health {
        Health::Ok
    }

    fn status(&self) -> WorkerStatus {
        WorkerStatus {
            succeeded: 1,
            ..WorkerStatus::default()
        }
    }
}

fn acts(name: &'static str, does: Does, log: &Log) -> WorkerDefinition {
    let log = Arc::clone(log);
    WorkerDefinition::new(name, move |_| {
        let worker = Acts {
            does,
            stop: StopHandle::new(),
            log: Arc::clone(&log),
            name,
        };
        async move { Ok(Arc::new(worker) as Arc<dyn Worker>) }
    })
}

fn view(supervisor: &WorkerSupervisor, name: &str) -> WorkerView {
    let views = supervisor.snapshot();
    views.into_iter().find(|view| view.name == name).unwrap()
}

fn outcomes(report: &[WorkerStop]) -> Vec<(&str, StopOutcome, Option<&str>)> {
    report
        .iter()
        .map(|stop| (stop.worker.as_str(), stop.how, stop.held.as_deref()))
        .collect()
}
