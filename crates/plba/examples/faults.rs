//! Work that goes wrong, in every way there is, beside work that goes well: a whole application on the task toolkit, with
//! a source, a queue, handlers and dead letters. What each part promises is told in `plba::tasks`.
//!
//! A piece of work is an empty file in the spool directory, and the first part of its name says what happens to it:
//!
//! ```text
//! cargo run -p plba --features tasks --example faults
//! touch var/spool/good.1 var/spool/panics.1 var/spool/hangs.1
//! cargo run -p plba --features tasks --example faults -- health     (or `workers`, `dead list`, `dead retry --all` …)
//! ```
//!
//! A file goes away when its work is done. Work that is given up keeps its file, and is tried again by `dead retry`.

use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use plba::clock::Clock;
use plba::prelude::*;
use plba::tasks::endpoints;
use plba::tasks::file_ledger::{FileLedger, FileLedgerSettings};
use plba::tasks::handler::{HandlerError, Outcome, TaskContext, TaskHandler};
use plba::tasks::intake::{Arrival, Intake};
use plba::tasks::ledger::SourceLedger;
use plba::tasks::memory::{InMemoryTaskQueue, MemorySettings};
use plba::tasks::queue::TaskQueue;
use plba::tasks::retry::RetryPolicy;
use plba::tasks::source::{SourceError, SourceStatus, TaskSource};
use plba::tasks::source_worker::{SourceWorkerSettings, source_worker};
use plba::tasks::task::{NewTask, Task};
use plba::tasks::worker::{TaskWorkerSettings, task_worker};
use plba::worker::{HangPolicy, WorkerDefinition};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

fn main() -> ExitCode {
    App::new("faults").module(FaultsModule).run()
}

/// The section `[faults]`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct FaultsConfig {
    /// The directory that work is dropped into.
    spool: FilePath,
    /// How long opening the spool takes: with more than a moment, a start can be watched.
    opening: TimeSpan,
    /// How many pieces of work each worker has in hand at a time, 1 to 256.
    workers: u32,
    /// How long one piece of work may take.
    timeout: TimeSpan,
    /// How long a worker may be busy with one piece of work before it counts as hung.
    stall_after: TimeSpan,
    /// How work blocks that blocks its thread.
    blocking: Blocking,
    /// For how long.
    blocked_for: TimeSpan,
    /// What follows when a worker hangs.
    on_hang: OnHang,
    /// How often a piece of work is tried before it becomes a dead letter, 1 to 100.
    attempts: u32,
    /// How often a piece of work may end the whole process before it becomes a dead letter, 1 to 100.
    crashes: u32,
}

/// How a call blocks its thread that should have been made on a thread of its own.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Blocking {
    /// It computes.
    Spin,
    /// It waits.
    Sleep,
}

/// What follows when a worker hangs.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum OnHang {
    /// It is told.
    Report,
    /// The instance is replaced.
    Replace,
    /// The process ends with exit code 71.
    EndProcess,
}

impl From<OnHang> for HangPolicy {
    fn from(policy: OnHang) -> Self {
        match policy {
            OnHang::Report => Self::Report,
            OnHang::Replace => Self::Replace,
            OnHang::EndProcess => Self::EndProcess { exit_code: 71 },
        }
    }
}

impl Default for FaultsConfig {
    fn default() -> Self {
        Self {
            spool: FilePath::from("var/spool"),
            opening: TimeSpan::seconds(0),
            workers: 1,
            timeout: TimeSpan::seconds(30),
            stall_after: TimeSpan::seconds(10),
            blocking: Blocking::Sleep,
            blocked_for: TimeSpan::seconds(3_600),
            on_hang: OnHang::Report,
            attempts: 3,
            crashes: 3,
        }
    }
}

impl ConfigSection for FaultsConfig {
    fn validate(&self, faults: &mut Faults) {
        let workers = (1..=256).contains(&self.workers);
        faults.require(workers, "workers", "1 to 256 workers are possible");
        faults.require(!self.timeout.0.is_zero(), "timeout", "a span longer than 0 is needed");
        let attempts = (1..=100).contains(&self.attempts);
        faults.require(attempts, "attempts", "1 to 100 attempts are possible");
        let crashes = (1..=100).contains(&self.crashes);
        faults.require(crashes, "crashes", "1 to 100 crashes are possible");
    }
}

/// The module: a worker for each kind of work, and one for the spool they all come from.
struct FaultsModule;

impl ApplicationModule for FaultsModule {
    fn name(&self) -> &str {
        "faults"
    }

    fn declare(&self, declaration: &mut Declaration) {
        declaration.section::<FaultsConfig>();
    }

    fn assemble(&self, assembly: &mut Assembly) -> Result<(), BoxError> {
        let config = assembly.section::<FaultsConfig>()?;
        assembly.service(ledger(assembly.state_dir().join("ledger")));
        assembly.service(queue(&config));
        assembly.service(spool(&config));
        let mut source = source_worker(
            "spool",
            SourceWorkerSettings::default(),
            |services: Services| async move { Ok(services.get::<Spool>().await? as Arc<dyn TaskSource>) },
        );
        for kind in KINDS {
            assembly.worker(worker(kind, work(kind, &config), &config));
            source = source.after(kind);
        }
        assembly.worker(source);
        endpoints::endpoints()
            .into_iter()
            .for_each(|endpoint| assembly.endpoint(endpoint));
        assembly.greet(format!("drop work into {}", config.spool.as_path().display()));
        Ok(())
    }
}

/// What becomes of a piece of work.
#[derive(Clone, Copy)]
enum Work {
    Good,
    Panics,
    Fails,
    /// Waits for ever, as for a server that never answers.
    Hangs,
    /// Blocks its thread, as a call that should have been made on a thread of its own.
    Blocks(Blocking, Duration),
    /// Takes the whole process with it, as a fault in a C library would.
    Aborts,
}

/// Each kind of work has a name, which is its queue's and its worker's as well.
const KINDS: [&str; 6] = ["good", "panics", "fails", "hangs", "blocks", "aborts"];

fn work(kind: &str, config: &FaultsConfig) -> Work {
    match kind {
        "panics" => Work::Panics,
        "fails" => Work::Fails,
        "hangs" => Work::Hangs,
        "blocks" => Work::Blocks(config.blocking, config.blocked_for.into()),
        "aborts" => Work::Aborts,
        _ => Work::Good,
    }
}

/// What no asynchronous function should do.
#[instrument]
#[expect(clippy::disallowed_methods, reason = "to block a thread is what this is for")]
async fn price_list(blocking: Blocking, span: Duration) {
    let began = std::time::Instant::now();
    match blocking {
        Blocking::Spin => while began.elapsed() < span {},
        Blocking::Sleep => std::thread::sleep(span),
    }
}

#[async_trait::async_trait]
impl TaskHandler for Work {
    async fn handle(&self, task: &Task, context: &TaskContext) -> Result<Outcome, HandlerError> {
        info!(task = %task.id, attempt = context.attempt, delivery = context.deliveries, "at work");
        match self {
            Self::Good => Ok(Outcome::done()),
            Self::Panics => panic!("the parcel is empty"),
            Self::Fails => Err(HandlerError::retry("the warehouse does not answer")),
            Self::Hangs => pending().await,
            Self::Blocks(blocking, span) => {
                price_list(*blocking, *span).await;
                Ok(Outcome::done())
            }
            Self::Aborts => std::process::abort(),
        }
    }
}

fn worker(kind: &'static str, work: Work, config: &FaultsConfig) -> WorkerDefinition {
    let settings = TaskWorkerSettings {
        timeout: config.timeout.into(),
        retry: RetryPolicy {
            maximum_attempts: config.attempts,
            unit: millis(100),
            exponent: 1,
            ..RetryPolicy::default()
        },
        ..TaskWorkerSettings::default()
    };
    task_worker(kind, kind, settings, move |_| async move {
        Ok(Arc::new(work) as Arc<dyn TaskHandler>)
    })
    .concurrency(config.workers)
    .stall_after(config.stall_after.into())
    .on_hang(config.on_hang.into())
}

/// Remembers what came in, on disk: the queue in memory ends with the process.
fn ledger(path: PathBuf) -> ServiceDefinition {
    ServiceDefinition::new::<dyn SourceLedger, _, _>(move |_| {
        let path = path.clone();
        async move {
            let ledger = FileLedger::open(path, FileLedgerSettings::default()).await?;
            Ok(Arc::new(ledger) as Arc<dyn SourceLedger>)
        }
    })
}

fn queue(config: &FaultsConfig) -> ServiceDefinition {
    let settings = MemorySettings {
        maximum_crashes: config.crashes,
        ..MemorySettings::default()
    };
    ServiceDefinition::new::<dyn TaskQueue, _, _>(move |services| {
        let settings = settings.clone();
        async move {
            let clock = services.get::<dyn Clock>().await?;
            let ledger = services.get::<dyn SourceLedger>().await?;
            let queue = InMemoryTaskQueue::with_ledger(settings, clock, ledger)?;
            Ok(Arc::new(queue) as Arc<dyn TaskQueue>)
        }
    })
}

fn spool(config: &Arc<FaultsConfig>) -> ServiceDefinition {
    let config = Arc::clone(config);
    ServiceDefinition::new::<Spool, _, _>(move |_| {
        let config = Arc::clone(&config);
        async move {
            tokio::time::sleep(config.opening.into()).await;
            let directory = config.spool.as_path().to_owned();
            tokio::fs::create_dir_all(&directory)
                .await
                .map_err(|error| format!("the spool {} can't be made: {error}", directory.display()))?;
            Ok(Arc::new(Spool::new(directory)))
        }
    })
}

/// How many files are taken in, or put away, in one go.
const BATCH: usize = 1_000;

/// The source: every file in the directory is a piece of work.
struct Spool {
    directory: PathBuf,
    published: AtomicU64,
    settled: AtomicU64,
}

impl Spool {
    fn new(directory: PathBuf) -> Self {
        let (published, settled) = (AtomicU64::new(0), AtomicU64::new(0));
        Self {
            directory,
            published,
            settled,
        }
    }

    /// Publishes what lies there. What is under way, done or dead is known to the ledger, and is skipped.
    async fn take_in(&self, intake: &Intake) -> Result<(), SourceError> {
        let mut files = tokio::fs::read_dir(&self.directory)
            .await
            .map_err(SourceError::transient)?;
        let mut arrivals = Vec::new();
        while let Some(file) = files.next_entry().await.map_err(SourceError::transient)? {
            let Ok(name) = file.file_name().into_string() else {
                continue;
            };
            let Some(kind) = KINDS.iter().find(|kind| name.split('.').next() == Some(kind)) else {
                continue;
            };
            arrivals.push(Arrival {
                key: name.into(),
                task: NewTask::new(*kind, *kind, ""),
            });
        }
        for batch in arrivals.chunks(BATCH) {
            let published = intake.publish(batch.to_vec()).await?.published;
            self.published.fetch_add(published as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The work is done, so its file may go, and with it the need to remember it.
    async fn put_away(&self, intake: &Intake, keys: &[Arc<str>]) -> Result<(), SourceError> {
        for key in keys {
            match tokio::fs::remove_file(self.directory.join(&**key)).await {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(SourceError::transient(error));
                }
                _ => self.settled.fetch_add(1, Ordering::Relaxed),
            };
        }
        intake.settle(keys).await?;
        Ok(intake.forget(keys).await?)
    }
}

#[async_trait::async_trait]
impl TaskSource for Spool {
    async fn run(&self, intake: Intake, stop: StopSignal) -> Result<(), SourceError> {
        let mut look = tokio::time::interval(millis(100));
        loop {
            tokio::select! {
                biased;
                () = stop.requested() => return Ok(()),
                _ = look.tick() => {
                    self.take_in(&intake).await?;
                    // What a killed process, or a look in the middle of `completions`, left over.
                    self.put_away(&intake, &intake.unsettled(BATCH).await?).await?;
                }
                done = intake.completions(BATCH) => self.put_away(&intake, &done?).await?,
            }
        }
    }

    fn status(&self) -> SourceStatus {
        SourceStatus {
            published: self.published.load(Ordering::Relaxed),
            settled: self.settled.load(Ordering::Relaxed),
            ..SourceStatus::default()
        }
    }
}
