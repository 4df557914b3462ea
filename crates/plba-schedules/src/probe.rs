//! Workers that notice when two of them are in one slot, and what else the scenarios are played with. What is played lives
//! in `scenario`.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::sync::{Arc, PoisonError};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use plba_contracts::clock::Clock;
use plba_contracts::health::Health;
use plba_contracts::services::{ErasedService, ServiceError, ServiceKey, ServiceSource, Services};
use plba_contracts::worker::{
    Exit, Restart, Running, StartError, Worker, WorkerContext, WorkerDefinition, WorkerStatus,
};

use crate::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use crate::sync::time::Instant;
use crate::sync::{AtomicWaker, Mutex, MutexGuard};

/// How a probe behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Does {
    /// It starts at once, and stops when it is told to.
    Obeys,
    /// The first one fails as soon as it runs.
    FailsOnce,
    /// It stops only when it is told to let go.
    IgnoresGraceful,
    /// It has to be dropped.
    IgnoresAll,
    /// It has to be forced while it starts.
    NeverStarts,
    /// It has to be stopped while it is built.
    NeverBuilt,
}

/// Those that live.
pub(crate) struct Stage(Mutex<Cast>);

#[derive(Default)]
struct Cast {
    alive: BTreeSet<(String, u32)>,
    /// Slots in which there were two at once. Remembered instead of panicked over, since supervision catches panics.
    doubled: BTreeSet<(String, u32)>,
}

impl Stage {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Cast::default())))
    }

    pub(crate) fn alive(&self) -> BTreeSet<(String, u32)> {
        self.lock().alive.clone()
    }

    fn enter(&self, place: &(String, u32)) {
        let mut cast = self.lock();
        if !cast.alive.insert(place.clone()) {
            cast.doubled.insert(place.clone());
        }
    }

    pub(crate) fn doubled(&self) -> BTreeSet<(String, u32)> {
        self.lock().doubled.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Cast> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker whose instances enter this stage. It restarts at once.
    pub(crate) fn worker(self: &Arc<Self>, name: &str, does: Does) -> WorkerDefinition {
        let (stage, failed) = (Arc::clone(self), Arc::new(AtomicBool::new(false)));
        let definition = WorkerDefinition::new(name, move |_| {
            let probe = Probe {
                stage: Arc::clone(&stage),
                does,
                failed: Arc::clone(&failed),
                place: Mutex::new(None),
                stop: AtomicU8::new(0),
                waiting: AtomicWaker::new(),
            };
            async move {
                if does == Does::NeverBuilt {
                    std::future::pending::<()>().await;
                }
                Ok(Arc::new(probe) as Arc<dyn Worker>)
            }
        });
        definition.restart(Restart {
            initial_delay: Duration::ZERO,
            maximum_delay: Duration::ZERO,
            ..Restart::default()
        })
    }
}

struct Probe {
    stage: Arc<Stage>,
    does: Does,
    failed: Arc<AtomicBool>,
    place: Mutex<Option<(String, u32)>>,
    stop: AtomicU8,
    waiting: AtomicWaker,
}

impl Probe {
    async fn told(&self, phase: u8) {
        poll_fn(|context| {
            self.waiting.register(context.waker());
            match self.stop.load(Ordering::SeqCst) >= phase {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }
}

#[async_trait]
impl Worker for Probe {
    async fn start(self: Arc<Self>, context: WorkerContext) -> Result<Running, StartError> {
        let place = (context.name.to_string(), context.slot);
        self.stage.enter(&place);
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(place);
        if self.does == Does::NeverStarts {
            std::future::pending::<()>().await;
        }
        Ok(Running::new(async move {
            match self.does {
                Does::FailsOnce if !self.failed.swap(true, Ordering::SeqCst) => return Exit::Failed("once".into()),
                Does::IgnoresGraceful => self.told(2).await,
                Does::IgnoresAll => std::future::pending().await,
                _ => self.told(1).await,
            }
            Exit::Stopped
        }))
    }

    fn stop(&self, force: bool) {
        self.stop.fetch_max(1 + u8::from(force), Ordering::SeqCst);
        self.waiting.wake();
    }

    fn health(&self) -> Health {
        Health::Ok
    }

    fn status(&self) -> WorkerStatus {
        WorkerStatus::default()
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        let place = self.place.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(place) = place {
            self.stage.lock().alive.remove(&place);
        }
    }
}

/// Time as the world of the schedules has it.
pub(crate) struct WorldClock;

impl Clock for WorldClock {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
            .checked_add(self.monotonic())
            .unwrap_or(Timestamp::MAX)
    }

    fn monotonic(&self) -> Duration {
        Instant::now() - Instant::BEGINNING
    }
}

struct NoServices;

#[async_trait]
impl ServiceSource for NoServices {
    async fn resolve(&self, key: &ServiceKey, _: &[ServiceKey]) -> Result<ErasedService, ServiceError> {
        let (key, asked_by) = (key.clone(), "a probe".into());
        Err(ServiceError::Missing { key, asked_by })
    }
}

pub(crate) fn services() -> Services {
    Services::new(Arc::new(NoServices), Vec::new())
}
