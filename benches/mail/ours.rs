//! plba's part: the checked client by itself, and the source with queue, ledger and workers, all as in production.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use plba_benches::load::QUEUE;
use plba_contracts::clock::Clock;
use plba_contracts::stop::StopHandle;
use plba_contracts::worker::{Activity, Worker, WorkerContext};
use plba_mail::imap::{Account, Authentication, Timing};
use plba_mail::{MailSource, SourceSettings, open};
use plba_net::{ConnectSettings, TlsSettings};
use plba_runtime::clock::SystemClock;
use plba_tasks::batch::{BatchContext, BatchHandler, BatchOutcome, BatchSettings, BatchTask, BatchWorker};
use plba_tasks::file_ledger::{FileLedger, FileLedgerSettings};
use plba_tasks::handler::HandlerError;
use plba_tasks::intake::Intake;
use plba_tasks::ledger::SourceLedger;
use plba_tasks::memory::{InMemoryTaskQueue, MemorySettings};
use plba_tasks::queue::{ConsumerId, Incarnation, TaskQueue};
use plba_tasks::source::TaskSource;
use plba_testservers::Dovecot;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::store::Store;
use crate::{Link, MESSAGES, Result};

/// How many messages one command asks for, here as there.
const RANGE: usize = 100;

pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

/// Fetches all bodies with the client below the source, which keeps the next command under way.
pub(crate) async fn fetch(dovecot: &Dovecot, link: Link) -> Result<Duration> {
    let (host, tls) = match link {
        Link::Plain => ("127.0.0.1", None),
        Link::Tls => {
            let tls = TlsSettings {
                ca: Some(dovecot.ca_path().into()),
                only_ca: true,
            };
            ("localhost", Some(tls.client_config()?))
        }
    };
    let account = Account {
        host: host.into(),
        port: link.port(dovecot),
        tls,
        authentication: Authentication::Password {
            user: dovecot.user().into(),
            password: dovecot.password().into(),
        },
        connect: ConnectSettings::default(),
        timing: Timing::default(),
    };
    let mut session = account.log_in().await?;
    session.open_folder("INBOX").await?;
    let uids: Vec<u32> = (1..=MESSAGES as u32).collect();
    let (began, mut count) = (Instant::now(), 0);
    let mut ranges = uids.chunks(RANGE);
    let first = ranges.next().unwrap_or_default();
    session.fetch_begin(first, 1 << 20, 1 << 20).await?;
    for range in ranges.map(Some).chain([None]) {
        if let Some(range) = range {
            session.fetch_begin(range, 1 << 20, 1 << 20).await?;
        }
        let fetched = session.fetch_end().await;
        fetched.ended?;
        count += fetched.here.len();
    }
    match count {
        MESSAGES => Ok(began.elapsed()),
        _ => Err(format!("{count} bodies came").into()),
    }
}

/// A queue in memory with a ledger on the disk, and a source that publishes to it.
pub(crate) struct Works {
    pub(crate) queue: Arc<dyn TaskQueue>,
    pub(crate) source: Arc<MailSource>,
    running: JoinHandle<()>,
    stop: StopHandle,
    _directory: TempDir,
}

impl Works {
    pub(crate) async fn start(dovecot: &Dovecot, link: Link, options: &str) -> Result<Self> {
        Self::start_at(dovecot, link, link.port(dovecot), options).await
    }

    /// The same, through this port.
    pub(crate) async fn start_at(dovecot: &Dovecot, link: Link, port: u16, options: &str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let ledger = FileLedger::open(directory.path().join("ledger"), FileLedgerSettings::default()).await?;
        let ledger: Arc<dyn SourceLedger> = Arc::new(ledger);
        let settings = MemorySettings {
            capacity: MESSAGES,
            ..MemorySettings::default()
        };
        let queue = InMemoryTaskQueue::with_ledger(settings, clock(), Arc::clone(&ledger))?;
        let queue: Arc<dyn TaskQueue> = Arc::new(queue);
        let (user, ca) = (dovecot.user(), dovecot.ca_path().display());
        let url = match link {
            Link::Plain => format!("imap://{user}@127.0.0.1:{port}/INBOX?{options}"),
            Link::Tls => format!("imaps://{user}@localhost:{port}/INBOX?ca={ca}&only_ca=true&{options}"),
        };
        let mut settings = SourceSettings::new(QUEUE, "order.received", clock());
        settings.password = Some(dovecot.password().into());
        let source = Arc::new(open(&url, settings)?);
        let consumer = ConsumerId::new(Incarnation::of_this_process(1), "bench");
        let intake = Intake::new(source.name(), Arc::clone(&queue), ledger, consumer);
        let stop = StopHandle::new();
        let (run, signal) = (Arc::clone(&source), stop.signal());
        let running = tokio::spawn(async move {
            run.run(intake, signal).await.expect("the source runs");
        });
        Ok(Self {
            queue,
            source,
            running,
            stop,
            _directory: directory,
        })
    }

    pub(crate) async fn stop(self) -> Result<()> {
        self.stop.stop(false);
        Ok(self.running.await?)
    }
}

/// Takes all messages in: found, sizes looked at, fetched, recorded on the disk and published.
pub(crate) async fn take_in(dovecot: &Dovecot, link: Link) -> Result<Duration> {
    let began = Instant::now();
    let works = Works::start(dovecot, link, "since=all&mark=none").await?;
    until(|| works.source.status().published >= MESSAGES as u64).await;
    let took = began.elapsed();
    works.stop().await?;
    Ok(took)
}

/// Takes all messages in, parses and stores them, and marks them as seen, until the last mark is proven.
pub(crate) async fn whole_path(dovecot: &Dovecot, link: Link) -> Result<Duration> {
    let began = Instant::now();
    let works = Works::start(dovecot, link, "since=all").await?;
    let handler: Arc<dyn BatchHandler> = Arc::new(Keeper(Store::open()?));
    let settings = BatchSettings {
        wait: Duration::from_millis(10),
        ..BatchSettings::default()
    };
    let worker = BatchWorker::new(Arc::clone(&works.queue), QUEUE.into(), handler, None, settings);
    let worker = Arc::new(worker);
    let context = WorkerContext {
        name: "bench".into(),
        slot: 0,
        incarnation: 1,
        activity: Activity::new(clock()),
        clock: clock(),
    };
    let running = Arc::clone(&worker).start(context).await?;
    let attempt = tokio::spawn(running.into_future());
    until(|| works.source.status().settled >= MESSAGES as u64).await;
    let took = began.elapsed();
    worker.stop(false);
    attempt.await?;
    works.stop().await?;
    Ok(took)
}

async fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

struct Keeper(Store);

#[async_trait]
impl BatchHandler for Keeper {
    async fn handle(&self, batch: &[BatchTask], _: &BatchContext) -> std::result::Result<BatchOutcome, HandlerError> {
        let messages = batch.iter().map(|item| item.task.payload.as_ref());
        let kept = tokio::task::block_in_place(|| self.0.keep(messages));
        kept.map_err(|error| std::io::Error::other(error.to_string()))?;
        Ok(BatchOutcome::Done)
    }
}
