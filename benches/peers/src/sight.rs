//! What handlers see of the tasks, and what is made of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::Result;

/// After so long without a task, a peer has stalled.
const STALLED: Duration = Duration::from_secs(6);
/// How often to look whether it goes on.
const LOOK: Duration = Duration::from_millis(2);
/// How long to leave a consumer alone, so that it waits.
const REST: Duration = Duration::from_millis(3);

/// What one measurement saw.
#[derive(Default)]
pub(crate) struct Seen {
    /// Tasks enqueued in a second.
    pub(crate) enqueue: Option<f64>,
    /// Tasks carried out in a second.
    pub(crate) process: Option<f64>,
    /// From before a task was enqueued to its handler's start.
    pub(crate) pickups: Vec<Duration>,
    /// What was out of the ordinary.
    pub(crate) note: Option<String>,
}

/// What the handlers share.
#[derive(Clone, Debug)]
pub(crate) struct Sight {
    count: Arc<AtomicUsize>,
    starts: Option<UnboundedSender<Instant>>,
    started: Arc<Mutex<Option<UnboundedReceiver<Instant>>>>,
}

impl Sight {
    /// Counts tasks.
    pub(crate) fn counting() -> Self {
        Self {
            count: Arc::default(),
            starts: None,
            started: Arc::default(),
        }
    }

    /// Remembers when each task was started.
    pub(crate) fn timing() -> Self {
        let (starts, started) = unbounded_channel();
        Self {
            count: Arc::default(),
            starts: Some(starts),
            started: Arc::new(Mutex::new(Some(started))),
        }
    }

    /// What a handler calls.
    pub(crate) fn task(&self, payload: &str) {
        std::hint::black_box(payload.as_bytes()[0]);
        if let Some(starts) = &self.starts {
            _ = starts.send(Instant::now());
        }
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// How many tasks are carried out in a second until `tasks` have been, or none has been for a while.
    pub(crate) async fn pace(&self, tasks: usize, began: Instant) -> Seen {
        let (mut seen, mut last) = (0, Instant::now());
        while seen < tasks && last.elapsed() < STALLED {
            tokio::time::sleep(LOOK).await;
            let now = self.count.load(Ordering::Relaxed);
            if now > seen {
                (seen, last) = (now, Instant::now());
            }
        }
        Seen {
            process: Some(seen as f64 / last.duration_since(began).as_secs_f64()),
            note: (seen < tasks).then(|| format!("stalled after {seen} of {tasks} tasks")),
            ..Seen::default()
        }
    }

    /// How long one task takes from `enqueue` to its handler, one after the other, with a rest in between.
    pub(crate) async fn pickups<F>(&self, count: usize, mut enqueue: impl FnMut() -> F) -> Result<Seen>
    where
        F: Future<Output = Result<()>>,
    {
        let mut started = self.started.lock().await.take().ok_or("this sight does not time")?;
        let mut pickups = Vec::with_capacity(count);
        // The first ones wait for the consumer to come up.
        for number in 0..count + 5 {
            tokio::time::sleep(REST).await;
            let began = Instant::now();
            enqueue().await?;
            let start = tokio::time::timeout(Duration::from_secs(60), started.recv());
            let start = start.await.map_err(|_| "a task was not picked up within a minute")?;
            let took = start.ok_or("no handler is left")?.saturating_duration_since(began);
            if number >= 5 {
                pickups.push(took);
            }
        }
        Ok(Seen {
            pickups,
            ..Seen::default()
        })
    }
}

/// What the tasks carry.
pub(crate) fn payload() -> String {
    "x".repeat(256)
}

/// Tasks in a second.
pub(crate) fn per_second(tasks: usize, began: Instant) -> f64 {
    tasks as f64 / began.elapsed().as_secs_f64()
}
