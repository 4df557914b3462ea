//! The bot's services: what is opened, from which setting, and in which type others ask for it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use plba::clock::Clock;
use plba::lease::{InProcessLease, Lease};
use plba::mail::maildir::Maildir;
use plba::mail::smtp::{SmtpSender, SmtpSettings};
use plba::mail::{MailSource, MailSources, Parked, SourceSettings};
use plba::prelude::*;
use plba::tasks::backend::{BackendContext, QueueBackend, open_leases, open_ledger, open_queue};
use plba::tasks::file_ledger::{FileLedger, FileLedgerSettings};
use plba::tasks::ledger::SourceLedger;
use plba::tasks::queue::TaskQueue;
use plba::tasks::queue_rules::QueueRulesConfig;

use super::relay::{Bell, REPLIES, WEBHOOKS};
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

/// All queues of the bot.
pub const QUEUES: [&str; 3] = [ORDERS, REPLIES, WEBHOOKS];

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

/// All services of the bot. Each says what it is made from, so that a reload leaves those that would be the same.
pub fn definitions(config: &Arc<BotConfig>, with_samples: bool, state_dir: PathBuf) -> Vec<ServiceDefinition> {
    let bell = Arc::new(Bell::default());
    let backends: Backends = Arc::new(plba::queue_backends());
    let place = OnePlace::of(config);
    let articles = changed_at(config.catalogue.path().unwrap_or(config.catalogue.as_str()).as_ref());
    let replies = &config.desk.replies;
    let letters = replies
        .templates
        .as_ref()
        .map(|directory| changed_at(directory.as_path()));
    let mut definitions = vec![
        ready::<Bell>(bell).made_from("a bell"),
        ready(Arc::new(config.queues.clone())).made_from(&config.queues),
        ready(Arc::clone(config)).made_from(&**config),
        ready(Arc::new(place)).made_from(&format!("{place:?}")),
        ready(Arc::new(OrderPlace(config.store.clone()))).made_from(&config.store),
        blocking(config, |config| Ok(OrderStore::connect(&config.store)?)).made_from(&config.store),
        blocking(config, |config| Ok(Catalogue::open(config.catalogue.as_str())?))
            .made_from(&(&config.catalogue, articles)),
        blocking(config, reply_target).made_from(&(&config.replies, &config.replies_password)),
        blocking(config, |config| Targets::new(&config.webhooks)).made_from(&config.webhooks),
        blocking(config, templates).made_from(&(replies, letters)),
        authenticator(config),
        desk(config),
        samples(config, with_samples),
        ledger(config, &backends, state_dir.join("ledger")),
        queue(config, &backends),
        governor(config),
        leases(config, &backends),
        ready(Arc::new(Parked::new(state_dir.join("parked"), PARKED))).made_from(&state_dir),
    ];
    definitions.extend(sources(config));
    definitions
}

/// When a file, or what lies in a directory, was changed last, and how long it is. What is read from there is read again by a
/// reload that finds it otherwise than before.
fn changed_at(path: &Path) -> Vec<(PathBuf, Option<SystemTime>, u64)> {
    let entry = |path: PathBuf| {
        let metadata = std::fs::metadata(&path).ok();
        let changed = metadata.as_ref().and_then(|metadata| metadata.modified().ok());
        (path, changed, metadata.map_or(0, |metadata| metadata.len()))
    };
    let inside = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut entries: Vec<_> = inside.take(1_000).map(|inside| entry(inside.path())).collect();
    entries.push(entry(path.to_owned()));
    entries.sort_unstable();
    entries
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
    let made_from = (config.authentication.clone(), config.desk.limits.clone());
    let config = Arc::clone(config);
    ServiceDefinition::new::<Authenticator, _, _>(move |_| {
        let config = Arc::clone(&config);
        async move {
            let settings = config.authentication.validate()?;
            let authenticator = Authenticator::new(settings, config.desk.limits.clone())?;
            Ok(Arc::new(authenticator))
        }
    })
    .made_from(&made_from)
}

fn desk(config: &Arc<BotConfig>) -> ServiceDefinition {
    let hooks: Vec<String> = config.webhooks.iter().map(|webhook| webhook.name.clone()).collect();
    let made_from = (config.desk.clone(), config.authentication.clone(), hooks);
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
    .made_from(&made_from)
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
    .made_from(&(with_samples, &config.source))
}

/// The ledger that goes with the queue, or one on a file.
fn ledger(config: &Arc<BotConfig>, backends: &Backends, path: PathBuf) -> ServiceDefinition {
    let made_from = (config.queue.clone(), path.clone());
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
    .made_from(&made_from)
}

fn queue(config: &Arc<BotConfig>, backends: &Backends) -> ServiceDefinition {
    let made_from = config.queue.clone();
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
            Ok(open_queue(&backends, &config.queue, context).await?)
        }
    })
    .made_from(&made_from)
}

/// Gives the queue its rules. A service of its own: other rules count from the next delivery on, and the queue stays as it is.
struct Governor;

fn governor(config: &Arc<BotConfig>) -> ServiceDefinition {
    let rules = config.queues.clone();
    let made_from = rules.clone();
    ServiceDefinition::new::<Governor, _, _>(move |services| {
        let rules = rules.clone();
        async move {
            let queue = services.get::<dyn TaskQueue>().await?;
            // What has rules no more goes by the defaults again.
            for name in QUEUES {
                let rules = rules.0.get(name).map(QueueRulesConfig::rules);
                queue.govern(&name.into(), rules.unwrap_or_default());
            }
            Ok(Arc::new(Governor))
        }
    })
    .made_from(&made_from)
}

/// The leases that go with the queue; where nobody can share it, those of this process.
fn leases(config: &Arc<BotConfig>, backends: &Backends) -> ServiceDefinition {
    let made_from = config.queue.clone();
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
    .made_from(&made_from)
}

/// A service for each source, by its name, and one for all of them. So a source that comes, goes or changes is none of the
/// others' business.
fn sources(config: &BotConfig) -> Vec<ServiceDefinition> {
    let sources = config.all_sources();
    let names: Vec<String> = sources.iter().map(|source| source.name.clone()).collect();
    let made_from = names.clone();
    let all = ServiceDefinition::new::<MailSources, _, _>(move |services| {
        let names = names.clone();
        async move {
            let mut sources = Vec::with_capacity(names.len());
            for name in names {
                let source = services.get_named::<MailSource>(&name).await?;
                sources.push((name, MailSource::clone(&source)));
            }
            Ok(Arc::new(MailSources::new(sources)))
        }
    });
    let each = sources.into_iter().map(|NamedSource { name, url, password }| {
        let made_from = (url.clone(), password.clone());
        let one = ServiceDefinition::new::<MailSource, _, _>(move |services| {
            let (url, password) = (url.clone(), password.clone());
            async move {
                let (clock, parked) = (services.get::<dyn Clock>().await?, services.get::<Parked>().await?);
                let mut settings = SourceSettings::new(ORDERS, ORDER_MAIL, clock);
                settings.password = password;
                settings.parked = Some(Parked::clone(&parked));
                Ok(Arc::new(plba::mail::open(url.as_str(), settings)?))
            }
        });
        one.named(&name).made_from(&made_from)
    });
    each.chain([all.made_from(&made_from)]).collect()
}
