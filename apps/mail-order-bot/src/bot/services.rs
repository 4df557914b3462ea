//! The bot's services: what is opened, from which setting, and in which type others ask for it.

use std::path::PathBuf;
use std::sync::Arc;

use plba::clock::Clock;
use plba::lease::{InProcessLease, Lease};
use plba::mail::maildir::Maildir;
use plba::mail::{MailSources, SourceSettings};
use plba::prelude::*;
use plba::tasks::backend::{BackendContext, QueueBackend, open_leases, open_ledger, open_queue};
use plba::tasks::file_ledger::{FileLedger, FileLedgerSettings};
use plba::tasks::ledger::SourceLedger;
use plba::tasks::queue::TaskQueue;

use super::relay::Bell;
use super::settings::{BotConfig, NamedSource};
use crate::OrderDesk;
use crate::domain::Catalogue;
use crate::reading::WorkbookParser;
use crate::samples;
use crate::store::{OrderReads, OrderStore, StoreError};

/// The queue of order mails.
pub const ORDERS: &str = "orders";

/// The kind of its tasks; the payload is the raw message.
pub const ORDER_MAIL: &str = "order.received";

/// The file in which orders are stored, for reading beside whoever writes it.
pub struct OrderFile(PathBuf);

impl OrderFile {
    /// A reader; `None` while nothing was ever stored.
    ///
    /// # Errors
    /// The file can't be read, or a newer program wrote it.
    pub fn reads(&self) -> Result<Option<OrderReads>, BoxError> {
        if !self.0.exists() {
            return Ok(None);
        }
        match OrderReads::open(&self.0) {
            Ok(reads) => Ok(Some(reads)),
            // The file was made a moment ago, and its tables are about to be.
            Err(StoreError::Older { found: 0, .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether the queue keeps its tasks in the file in which orders are stored. Then an order is stored, its task completed
/// and its reply's task published in one transaction; otherwise a relay brings replies from the outbox into the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OneFile(pub bool);

impl OneFile {
    /// Decided by the configuration.
    pub fn of(config: &BotConfig) -> Self {
        let queue = file(&config.queue);
        Self(queue.is_some() && queue == file(&config.store))
    }
}

/// The file of an SQLite location, under one name however it is written.
fn file(location: &Location) -> Option<PathBuf> {
    let path = location.path().filter(|_| location.scheme() == "sqlite")?;
    let path = std::path::absolute(path).ok()?;
    let directory = path.parent()?;
    let directory = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    Some(directory.join(path.file_name()?))
}

/// The queues that a location can name. The same for queue and ledger, which may share a database.
type Backends = Arc<Vec<Arc<dyn QueueBackend>>>;

/// All services of the bot.
pub fn definitions(config: &Arc<BotConfig>, with_samples: bool, state_dir: PathBuf) -> Vec<ServiceDefinition> {
    let bell = Arc::new(Bell::default());
    let backends: Backends = Arc::new(plba::queue_backends());
    vec![
        ready::<Bell>(bell),
        ready(Arc::new(config.queues.clone())),
        ready(Arc::new(OrderFile(path(&config.store)))),
        blocking(config, |config| Ok(OrderStore::open(&path(&config.store))?)),
        blocking(config, |config| Ok(Catalogue::open(config.catalogue.as_str())?)),
        blocking(config, |config| Ok(Maildir::create(path(&config.replies))?)),
        desk(config),
        samples(config, with_samples),
        ledger(config, &backends, state_dir),
        queue(config, &backends),
        leases(config, &backends),
        sources(config),
    ]
}

fn path(location: &Location) -> PathBuf {
    location.path().unwrap_or_default().into()
}

fn ready<T: Send + Sync + 'static>(service: Arc<T>) -> ServiceDefinition {
    ServiceDefinition::new::<T, _, _>(move |_| std::future::ready(Ok(Arc::clone(&service))))
}

/// A service whose opening blocks the thread.
fn blocking<T, F>(config: &Arc<BotConfig>, open: F) -> ServiceDefinition
where
    T: Send + Sync + 'static,
    F: Fn(&BotConfig) -> Result<T, BoxError> + Clone + Send + Sync + 'static,
{
    let config = Arc::clone(config);
    ServiceDefinition::new::<T, _, _>(move |_| {
        let (config, open) = (Arc::clone(&config), open.clone());
        async move { Ok(Arc::new(tokio::task::spawn_blocking(move || open(&config)).await??)) }
    })
}

fn desk(config: &Arc<BotConfig>) -> ServiceDefinition {
    let config = Arc::clone(config);
    ServiceDefinition::new::<OrderDesk, _, _>(move |services| {
        let config = Arc::clone(&config);
        async move {
            let (catalogue, store) = (services.get::<Catalogue>().await?, services.get::<OrderStore>().await?);
            let faults = |faults: Vec<_>| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            let settings = config.desk.validate().map_err(faults)?;
            let settings = settings.with_parser(WorkbookParser::in_child()?);
            Ok(Arc::new(OrderDesk::new(
                catalogue,
                Arc::new(settings),
                OrderStore::clone(&store),
            )))
        }
    })
}

/// The sample orders in the embedded default's inbox. They are laid there when the bot starts, because a start builds
/// every service, and not when a command looks at the source.
struct Samples;

fn samples(config: &Arc<BotConfig>, with_samples: bool) -> ServiceDefinition {
    blocking(config, move |config| {
        if with_samples {
            samples::fill(&path(&config.source))?;
        }
        Ok(Samples)
    })
}

/// The ledger that goes with the queue, or one on a file.
fn ledger(config: &Arc<BotConfig>, backends: &Backends, state_dir: PathBuf) -> ServiceDefinition {
    let (config, backends) = (Arc::clone(config), Arc::clone(backends));
    ServiceDefinition::new::<dyn SourceLedger, _, _>(move |services| {
        let path = state_dir.join("ledger");
        let (config, backends) = (Arc::clone(&config), Arc::clone(&backends));
        async move {
            let context = BackendContext {
                clock: services.get::<dyn Clock>().await?,
                ledger: None,
                seed: None,
            };
            if let Some(ledger) = open_ledger(&backends, &config.queue, context).await? {
                return Ok(ledger);
            }
            let ledger = FileLedger::open(path, FileLedgerSettings::default()).await?;
            Ok(Arc::new(ledger) as Arc<dyn SourceLedger>)
        }
    })
}

fn queue(config: &Arc<BotConfig>, backends: &Backends) -> ServiceDefinition {
    let (config, backends) = (Arc::clone(config), Arc::clone(backends));
    ServiceDefinition::new::<dyn TaskQueue, _, _>(move |services| {
        let (config, backends) = (Arc::clone(&config), Arc::clone(&backends));
        async move {
            let (clock, ledger) = (
                services.get::<dyn Clock>().await?,
                services.get::<dyn SourceLedger>().await?,
            );
            let context = BackendContext {
                clock,
                ledger: Some(ledger),
                seed: None,
            };
            let queue = open_queue(&backends, &config.queue, context).await?;
            config.queues.govern(queue.as_ref());
            Ok(queue)
        }
    })
}

/// The leases that go with the queue; where nobody can share it, those of this process.
fn leases(config: &Arc<BotConfig>, backends: &Backends) -> ServiceDefinition {
    let (config, backends) = (Arc::clone(config), Arc::clone(backends));
    ServiceDefinition::new::<dyn Lease, _, _>(move |services| {
        let (config, backends) = (Arc::clone(&config), Arc::clone(&backends));
        async move {
            let clock = services.get::<dyn Clock>().await?;
            let context = BackendContext {
                clock: Arc::clone(&clock),
                ledger: None,
                seed: None,
            };
            let shared = open_leases(&backends, &config.queue, context).await?;
            Ok(shared.unwrap_or_else(|| Arc::new(InProcessLease::new(clock))))
        }
    })
}

fn sources(config: &Arc<BotConfig>) -> ServiceDefinition {
    let config = Arc::clone(config);
    ServiceDefinition::new::<MailSources, _, _>(move |services| {
        let config = Arc::clone(&config);
        async move {
            let clock = services.get::<dyn Clock>().await?;
            let mut sources = Vec::new();
            for NamedSource { name, url, password } in config.all_sources() {
                let mut settings = SourceSettings::new(ORDERS, ORDER_MAIL, Arc::clone(&clock));
                settings.password = password;
                sources.push((name, plba::mail::open(url.as_str(), settings)?));
            }
            Ok(Arc::new(MailSources::new(sources)))
        }
    })
}
