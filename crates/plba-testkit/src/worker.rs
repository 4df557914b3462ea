//! Workers in tests: one run by hand, as a supervisor would, and one whose behaviour is scripted.

use std::sync::Arc;

use async_trait::async_trait;
use plba_contracts::clock::Clock;
use plba_contracts::health::Health;
use plba_contracts::stop::StopHandle;
use plba_contracts::worker::{Activity, Exit, Running, StartError, Worker, WorkerContext, WorkerStatus};
use tokio::task::JoinHandle;

/// The context of slot 0's first incarnation of a worker.
pub fn context(name: &str, clock: Arc<dyn Clock>) -> WorkerContext {
    WorkerContext {
        name: name.into(),
        slot: 0,
        incarnation: 1,
        activity: Activity::new(Arc::clone(&clock)),
        clock,
    }
}

/// A worker that runs on the test's runtime.
pub struct Supervised {
    /// The instance.
    pub worker: Arc<dyn Worker>,
    /// What it has in hand.
    pub activity: Activity,
    attempt: JoinHandle<Exit>,
}

impl Supervised {
    /// Starts an instance and polls its attempt.
    ///
    /// # Errors
    /// What `start` fails with.
    pub async fn start(worker: Arc<dyn Worker>, context: WorkerContext) -> Result<Self, StartError> {
        let activity = context.activity.clone();
        let running = Arc::clone(&worker).start(context).await?;
        Ok(Self {
            worker,
            activity,
            attempt: tokio::spawn(running.into_future()),
        })
    }

    /// Asks for a stop and waits for the end; a panic of the attempt goes on here.
    pub async fn stop(self, force: bool) -> Exit {
        self.worker.stop(force);
        self.ended().await
    }

    /// Waits for the end; a panic of the attempt goes on here.
    pub async fn ended(self) -> Exit {
        match self.attempt.await {
            Ok(exit) => exit,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Exit::Stopped,
            },
        }
    }

    /// Drops the attempt where it stands, as a killed process would.
    pub async fn kill(self) {
        self.attempt.abort();
        drop(self.attempt.await);
    }
}

/// How a [`FakeWorker`] behaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// Runs until asked to stop.
    #[default]
    Waits,
    /// Does not start.
    RefusesToStart,
    /// Finishes at once.
    Finishes,
    /// Fails at once.
    Fails,
    /// Panics at once.
    Panics,
    /// Runs on, whatever it is asked.
    IgnoresStop,
}

/// A worker that behaves as told.
#[derive(Default)]
pub struct FakeWorker {
    behaviour: Behaviour,
    stop: StopHandle,
}

impl FakeWorker {
    /// A worker with this behaviour.
    pub fn new(behaviour: Behaviour) -> Arc<Self> {
        let stop = StopHandle::new();
        Arc::new(Self { behaviour, stop })
    }
}

#[async_trait]
impl Worker for FakeWorker {
    async fn start(self: Arc<Self>, _: WorkerContext) -> Result<Running, StartError> {
        if self.behaviour == Behaviour::RefusesToStart {
            return Err(StartError::new("it was told not to start"));
        }
        Ok(Running::new(async move {
            match self.behaviour {
                Behaviour::Waits | Behaviour::RefusesToStart => {
                    self.stop.signal().requested().await;
                    Exit::Stopped
                }
                Behaviour::Finishes => Exit::Finished,
                Behaviour::Fails => Exit::Failed("it was told to fail".into()),
                Behaviour::Panics => panic!("it was told to panic"),
                Behaviour::IgnoresStop => std::future::pending().await,
            }
        }))
    }

    fn stop(&self, force: bool) {
        self.stop.stop(force);
    }

    fn health(&self) -> Health {
        Health::Ok
    }

    fn status(&self) -> WorkerStatus {
        WorkerStatus::default()
    }
}
