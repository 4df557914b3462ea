//! The bot's services: what is opened, from which setting, and in which type others ask for it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use plba::clock::Clock;
use plba::lease::{InProcessLease, Lease};
use plba::mail::maildir::Maildir;
use plba::mail::smtp::{SmtpSender, SmtpSettings};
use plba::mail::{MailSources, Parked, SourceSettings};
use plba::prelude::*;
use plba::tasks::backend::{BackendContext, QueueBackend, open_leases, open_ledger, open_queue};
use plba::tasks::file_ledger::{FileLedger, FileLedgerSettings};
use plba::tasks::ledger::SourceLedger;
use plba::tasks::queue::TaskQueue;

use super::relay::Bell;
use super::replies::ReplyTarget;
use super::settings::{BotConfig, NamedSource};
use super::webhooks::Targets;
use crate::OrderDesk;
use crate::authentication::Authenticator;
use crate::domain::Catalogue;
use crate::reading::WorkbookParser;
use crate::reply::templates::Templates;
use crate::samples;
use crate::store::{OrderReads, OrderStore};

/// The queue of order mails.
pub const ORDERS: &str = "orders";

/// The kind of its tasks; the payload is the raw message.
pub const ORDER_MAIL: &str = "order.received";

/// How many bytes of messages are kept as they came because no server's answer about them could be read.
const PARKED: u64 = 256 * 1024 * 1024;

/// Where orders are stored, for reading beside whoever writes there.
pub struct OrderPlace(Location);

impl OrderPlace {
    /// A reader; `None` while nothing was ever stored. Blocks.
    ///
    /// # Errors
    /// The store can't be read, or a newer program wrote it.
    pub fn reads(&self) -> Result<Option<OrderReads>, BoxError> {
        Ok(OrderReads::connect(&self.0)?)
    }
}

/// Whether the queue keeps its tasks where orders are stored. Then an order is stored, its task completed and the tasks of
/// its reply and webhooks published in one transaction; otherwise a relay brings them from the outbox into their queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnePlace {
    /// They are apart.
    Apart,
    /// One SQLite file.
    Sqlite,
    /// One PostgreSQL database.
    Postgres,
}

impl OnePlace {
    /// Decided by the configuration.
    pub fn of(config: &BotConfig) -> Self {
        let queue = file(&config.queue);
        if queue.is_some() && queue == file(&config.store) {
            return Self::Sqlite;
        }
        match (database(&config.queue), database(&config.store)) {
            (Some(queue), Some(store)) if queue == store => Self::Postgres,
            _ => Self::Apart,
        }
    }
}

/// The database of a PostgreSQL location, and as whom it is entered: hosts, ports, name, user.
fn database(location: &Location) -> Option<(String, Vec<u16>, String, String)> {
    if !matches!(location.scheme(), "postgres" | "postgresql") {
        return None;
    }
    let server = crate::store::postgres_settings(location).ok()?.server;
    let user = server.get_user().unwrap_or_default().to_owned();
    let name = server.get_dbname().unwrap_or(&user).to_owned();
    Some((
        format!("{:?}", server.get_hosts()),
        server.get_ports().to_vec(),
        name,
        user,
    ))
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
        ready(Arc::clone(config)),
        ready(Arc::new(OnePlace::of(config))),
        ready(Arc::new(OrderPlace(config.store.clone()))),
        blocking(config, |config| Ok(OrderStore::connect(&config.store)?)),
        blocking(config, |config| Ok(Catalogue::open(config.catalogue.as_str())?)),
        blocking(config, reply_target),
        blocking(config, |config| Targets::new(&config.webhooks)),
        blocking(config, templates),
        authenticator(config),
        desk(config),
        samples(config, with_samples),
        ledger(config, &backends, state_dir.join("ledger")),
        queue(config, &backends),
        leases(config, &backends),
        sources(config, &state_dir),
    ]
}

/// Where replies go.
fn reply_target(config: &BotConfig) -> Result<ReplyTarget, BoxError> {
    if config.replies.scheme().starts_with("smtp") {
        let settings = SmtpSettings::parse(config.replies.as_str())?;
        let sender = SmtpSender::new(settings, config.replies_password.clone())?;
        return Ok(ReplyTarget::Smtp(Arc::new(sender)));
    }
    Ok(ReplyTarget::Maildir(Maildir::create(path(&config.replies))?))
}

/// The templates of replies, tried.
fn templates(config: &BotConfig) -> Result<Templates, BoxError> {
    let replies = &config.desk.replies;
    let directory = replies.templates.as_ref().map(|directory| directory.as_path());
    let loaded = Templates::load(directory, &replies.language);
    let faults = |faults: Vec<_>| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    Ok(loaded.map_err(faults)?)
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

/// Finds out who sent a mail, as far as the settings say how.
fn authenticator(config: &Arc<BotConfig>) -> ServiceDefinition {
    let config = Arc::clone(config);
    ServiceDefinition::new::<Authenticator, _, _>(move |_| {
        let config = Arc::clone(&config);
        async move {
            let settings = config.authentication.validate()?;
            let authenticator = Authenticator::new(settings, config.desk.limits.clone())?;
            Ok(Arc::new(authenticator))
        }
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
            let templates = services.get::<Templates>().await?;
            let desk = OrderDesk::new(catalogue, Arc::new(settings), OrderStore::clone(&store));
            let desk = desk.with_authentication(config.authentication.validate()?);
            let hooks = config.webhooks.iter().map(|webhook| webhook.name.clone()).collect();
            Ok(Arc::new(
                desk.with_templates(Templates::clone(&templates)).with_hooks(hooks),
            ))
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
fn ledger(config: &Arc<BotConfig>, backends: &Backends, path: PathBuf) -> ServiceDefinition {
    let (config, backends) = (Arc::clone(config), Arc::clone(backends));
    ServiceDefinition::new::<dyn SourceLedger, _, _>(move |services| {
        let (config, backends, path) = (Arc::clone(&config), Arc::clone(&backends), path.clone());
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

fn sources(config: &Arc<BotConfig>, state_dir: &Path) -> ServiceDefinition {
    let (config, parked) = (Arc::clone(config), Parked::new(state_dir.join("parked"), PARKED));
    ServiceDefinition::new::<MailSources, _, _>(move |services| {
        let (config, parked) = (Arc::clone(&config), parked.clone());
        async move {
            let clock = services.get::<dyn Clock>().await?;
            let mut sources = Vec::new();
            for NamedSource { name, url, password } in config.all_sources() {
                let mut settings = SourceSettings::new(ORDERS, ORDER_MAIL, Arc::clone(&clock));
                settings.password = password;
                settings.parked = Some(parked.clone());
                sources.push((name, plba::mail::open(url.as_str(), settings)?));
            }
            Ok(Arc::new(MailSources::new(sources)))
        }
    })
}
