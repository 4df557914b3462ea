//! What keeps an attempt going that panics again and again: the supervisor, and its peers. Each returns at once.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use kameo::error::Infallible;
use plba_contracts::stop::StopSignal;
use plba_contracts::worker::{Restart, WorkerDefinition};
use plba_runtime::clock::SystemClock;
use plba_runtime::services::{Provided, ServiceContainer};
use plba_runtime::supervisor::WorkerSupervisor;
use plba_runtime::worker;
use ractor::{ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::runtime::Runtime;

use crate::attempt;

type Report = Sender<(Instant, Instant)>;

/// A worker, with neither back-off nor a limit.
pub(crate) fn worker(runtime: &Runtime, report: Report) {
    let restart = Restart {
        initial_delay: Duration::ZERO,
        maximum_delay: Duration::ZERO,
        intensity: u32::MAX,
        ..Restart::default()
    };
    let routine = move |_: StopSignal| {
        let report = report.clone();
        async move {
            attempt(report).await;
            Ok(())
        }
    };
    let definition: WorkerDefinition = worker::service("panics", routine).restart(restart).into();
    runtime.spawn(async move {
        let supervisor = WorkerSupervisor::new(Arc::new(SystemClock::new()), 1);
        let container = ServiceContainer::new(Vec::new(), Provided::default()).expect("nothing is registered twice");
        let started = supervisor.start(vec![definition], Arc::new(container).services()).await;
        started.expect("the worker starts");
        std::future::pending::<()>().await;
    });
}

/// A task, spawned again by another.
pub(crate) fn task(runtime: &Runtime, report: Report) {
    runtime.spawn(async move {
        loop {
            let _panicked = tokio::spawn(attempt(report.clone())).await;
        }
    });
}

/// One of ractor's actors: it is asked to work as soon as it runs, and its supervisor spawns the next.
pub(crate) fn ractor(runtime: &Runtime, report: Report) {
    runtime.spawn(async move {
        let supervisor = ractor::Actor::spawn(None, Supervises, report).await;
        supervisor
            .expect("a supervisor starts")
            .1
            .await
            .expect("a supervisor stays");
    });
}

struct Supervises;

impl Supervises {
    async fn spawn(myself: &ActorRef<()>, report: &Report) -> Result<(), ActorProcessingErr> {
        let actor = <Panics as ractor::Actor>::spawn_linked(None, Panics, report.clone(), myself.get_cell()).await?;
        Ok(actor.0.send_message(())?)
    }
}

impl ractor::Actor for Supervises {
    type Msg = ();
    type State = Report;
    type Arguments = Report;

    async fn pre_start(&self, myself: ActorRef<()>, report: Report) -> Result<Report, ActorProcessingErr> {
        Self::spawn(&myself, &report).await?;
        Ok(report)
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<()>,
        event: SupervisionEvent,
        report: &mut Report,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(..) => Self::spawn(&myself, report).await,
            _ => Ok(()),
        }
    }
}

/// An actor that panics over its first message, or, kameo's, over the one it sends itself.
struct Panics;

impl ractor::Actor for Panics {
    type Msg = ();
    type State = Report;
    type Arguments = Report;

    async fn pre_start(&self, _myself: ActorRef<()>, report: Report) -> Result<Report, ActorProcessingErr> {
        Ok(report)
    }

    async fn handle(&self, _: ActorRef<()>, (): (), report: &mut Report) -> Result<(), ActorProcessingErr> {
        attempt(report.clone()).await;
        Ok(())
    }
}

/// One of kameo's actors, supervised by another.
pub(crate) fn kameo(runtime: &Runtime, report: Report) {
    runtime.spawn(async move {
        let supervisor = <Idles as kameo::actor::Spawn>::spawn(());
        let child = <Works as kameo::actor::Spawn>::supervise(&supervisor, SharedReport(report))
            .restart_limit(u32::MAX, Duration::from_secs(1))
            .spawn()
            .await;
        std::future::pending::<()>().await;
        drop((supervisor, child));
    });
}

/// Arguments that are cloned for each attempt.
#[derive(Clone)]
struct SharedReport(Report);

struct Idles;

impl kameo::Actor for Idles {
    type Args = ();
    type Error = Infallible;

    async fn on_start(_arguments: (), _myself: kameo::actor::ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(Self)
    }
}

struct Works(Report);

struct Work;

impl kameo::Actor for Works {
    type Args = SharedReport;
    type Error = Infallible;

    async fn on_start(report: SharedReport, myself: kameo::actor::ActorRef<Self>) -> Result<Self, Infallible> {
        // The mailbox of an actor that has just begun has room.
        let _ = myself.tell(Work).try_send();
        Ok(Self(report.0))
    }
}

impl kameo::message::Message<Work> for Works {
    type Reply = ();

    async fn handle(&mut self, _work: Work, _context: &mut kameo::message::Context<Self, ()>) {
        attempt(self.0.clone()).await;
    }
}
