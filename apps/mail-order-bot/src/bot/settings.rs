//! The section `[mail_order_bot]`: what an operator may set, each value with its default. What a value does in detail is
//! told where it is used.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use jiff::SignedDuration;
use plba::lease::MAXIMUM_TTL;
use plba::mail::smtp::SmtpSettings;
use plba::prelude::*;
use plba::tasks::queue_rules::QueuesConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::services::QUEUES;
use super::webhooks::WebhookConfig;
use crate::authentication::AuthenticationOptions;
use crate::desk::DeskOptions;
use crate::store::Keep;

/// Where the embedded default keeps what it has, each in the state directory.
const SOURCE: &str = "maildir:var/inbox";
/// What the source of `source` is called.
const MAIN: &str = "mail";
const STORE: &str = "sqlite:var/orders.db";
const REPLIES: &str = "maildir:var/outbox";

/// A source that changes hands more often does little else.
const SHORTEST_LEASE: Duration = Duration::from_secs(1);

/// Settings of the bot.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BotConfig {
    /// Where orders come from: `maildir:PATH`, `imap://USER@HOST/FOLDER` or `imaps://USER@HOST/FOLDER`, each with options
    /// after a `?`, such as `mode=poll|idle`, `since=now|unseen|all|DATE`, `interval=30s`, `password_file=FILE`,
    /// `ca=FILE`. The default lies in the state directory, wherever that is, and is filled with sample orders.
    pub source: Location,
    /// More folders and accounts, each in a table of its name: `[mail_order_bot.sources.shop] url = "imaps://…"`. With some,
    /// `source` counts only if it is set.
    pub sources: BTreeMap<String, SourceConfig>,
    /// The mailbox's password; better given by the environment, or as `password_file` in `source`, than in a file.
    pub password: Option<Secret>,
    /// Where tasks wait: `memory:`, `sqlite:PATH` to keep them on disk, or `redis://HOST` or
    /// `postgres://USER:PASSWORD@HOST/DATABASE` to share them with other machines, each with options after a `?`, such as
    /// `capacity=10000`. With the file of `store`, orders and tasks change in one transaction. Bots that share a queue share
    /// source, store and replies too, but not the state directory: all of them work on orders, one of them runs the source.
    pub queue: Location,
    /// Where the queue is shared: how long the bot that runs the source may be out of touch before another one takes the
    /// source over; 1 s or more.
    pub source_lease: TimeSpan,
    /// Rules of the queues `orders`, `replies` and `webhooks`, each in a table of its name: `concurrency`,
    /// `rate = "100/1m"`, `key_concurrency`, `key_rate`, `dead_age`, `dead_limit`.
    pub queues: QueuesConfig,
    /// Where orders are stored: `sqlite:PATH`, or `postgres://USER:PASSWORD@HOST/DATABASE` with the schema
    /// `mail_order_bot`. In the queue's own file or database, an order, the end of its task and its reply are one
    /// transaction. The default lies in the state directory.
    pub store: Location,
    /// Where replies go: `maildir:PATH`, or a mail server, `smtps://USER@HOST` or `smtp://USER@HOST`, with options after a
    /// `?`, such as `password_file=FILE`, `starttls=required|off`, `ca=FILE`, `hello=NAME`. How many go in a minute is a rule
    /// of the queue `replies`. The default lies in the state directory.
    pub replies: Location,
    /// The mail server's password; better given by the environment, or as `password_file` in `replies`, than in a file.
    pub replies_password: Option<Secret>,
    /// Who is told of accepted, amended and cancelled orders by signed requests: `[[mail_order_bot.webhooks]]`.
    pub webhooks: Vec<WebhookConfig>,
    /// For how long mails and what was sent are kept. Orders are kept for ever.
    pub keep: KeepConfig,
    /// How many orders are worked on at a time, 1 to 256.
    pub workers: u32,
    /// How long one order may take before it counts as failed and is tried again.
    pub timeout: TimeSpan,
    /// How often an order that fails for technical reasons is tried before it becomes a dead letter.
    pub attempts: u32,
    /// What is sold: `csv:FILE`, `sqlite:FILE?table=NAME`, or `embedded:` for the sample catalogue.
    pub catalogue: Location,
    /// Whether a mail comes from where it says, and what is done if not.
    pub authentication: AuthenticationOptions,
    /// How orders are read, checked and answered.
    pub desk: DeskOptions,
}

/// One of several sources.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SourceConfig {
    /// As `source`.
    pub url: Location,
    /// The mailbox's password; without one that of `mail_order_bot.password`.
    pub password: Option<Secret>,
}

/// A source that is to run: as its worker and the view `sources` call it, where it is, and its password.
#[derive(Clone, Debug)]
pub struct NamedSource {
    /// `mail` for `source`, the table's name for others.
    pub name: String,
    /// Where it is.
    pub url: Location,
    /// Its password.
    pub password: Option<Secret>,
}

impl Default for BotConfig {
    fn default() -> Self {
        Self {
            source: Location::from(SOURCE),
            sources: BTreeMap::new(),
            password: None,
            queue: Location::from("memory:"),
            source_lease: TimeSpan::seconds(30),
            queues: QueuesConfig::default(),
            store: Location::from(STORE),
            replies: Location::from(REPLIES),
            replies_password: None,
            webhooks: Vec::new(),
            keep: KeepConfig::default(),
            workers: 4,
            timeout: TimeSpan::seconds(60),
            attempts: 10,
            catalogue: Location::from("embedded:"),
            authentication: AuthenticationOptions::default(),
            desk: DeskOptions::for_samples(),
        }
    }
}

impl ConfigSection for BotConfig {
    fn validate(&self, faults: &mut Faults) {
        self.validate_sources(faults);
        let backends = plba::queue_backends();
        let queues: Vec<&str> = backends
            .iter()
            .flat_map(|backend| backend.schemes().iter().copied())
            .collect();
        scheme(faults, "queue", &self.queue, &queues);
        if self.queue.scheme() == "memory"
            && let Err(fault) = plba::tasks::backend::memory_settings(&self.queue)
        {
            faults.report("queue", fault);
        }
        if self.queue.scheme() == "sqlite"
            && let Err(fault) = plba::sql::sqlite::SqliteSettings::read(&self.queue)
        {
            faults.report("queue", fault);
        }
        if matches!(self.queue.scheme(), "postgres" | "postgresql")
            && let Err(fault) = plba::sql::postgres::PostgresSettings::from_location(&self.queue)
        {
            faults.report("queue", fault);
        }
        if self.queue.scheme().starts_with("redis")
            && let Err(fault) = plba::redis::RedisSettings::read(&self.queue)
        {
            faults.report("queue", fault);
        }
        let lease: Duration = self.source_lease.into();
        faults.require(
            (SHORTEST_LEASE..=MAXIMUM_TTL).contains(&lease),
            "source_lease",
            "a span of 1s to 1 day is needed",
        );
        self.validate_queues(faults);
        // A bare path is a CSV file.
        if !self.catalogue.scheme().is_empty() {
            scheme(faults, "catalogue", &self.catalogue, &["csv", "sqlite", "embedded"]);
        }
        self.validate_store(faults);
        self.validate_replies(faults);
        self.validate_webhooks(faults);
        self.keep.validate(faults);
        if let Err(fault) = self.authentication.validate() {
            faults.report("authentication", fault.to_string());
        }
        faults.require(
            (1..=256).contains(&self.workers),
            "workers",
            "1 to 256 workers are possible",
        );
        faults.require(
            (1..=1_000).contains(&self.attempts),
            "attempts",
            "1 to 1000 attempts are possible",
        );
        faults.require(!self.timeout.0.is_zero(), "timeout", "a span longer than 0 is needed");
        for fault in self.desk.validate().err().into_iter().flatten() {
            faults.report("desk", fault.to_string());
        }
    }
}

impl BotConfig {
    /// Whether orders come from the embedded default's inbox.
    pub fn has_default_source(&self) -> bool {
        self.source.as_str() == SOURCE && self.sources.is_empty()
    }

    /// The sources that run: `source`, unless it was left at its default beside others, and those others.
    pub fn all_sources(&self) -> Vec<NamedSource> {
        let first = NamedSource {
            name: MAIN.to_owned(),
            url: self.source.clone(),
            password: self.password.clone(),
        };
        let others = self.sources.iter().map(|(name, source)| NamedSource {
            name: name.clone(),
            url: source.url.clone(),
            password: source.password.clone().or_else(|| self.password.clone()),
        });
        let is_left = self.source.as_str() == SOURCE && !self.sources.is_empty();
        let first = Some(first).filter(|_| !is_left);
        first.into_iter().chain(others).collect()
    }

    /// These settings with what was left at its default in this state directory, so that two bots with a state directory
    /// each share nothing.
    #[must_use]
    pub fn placed_in(&self, state_dir: &Path) -> Self {
        let placed = |location: &Location, default: &str| match default.split_once(":var/") {
            Some((scheme, name)) if location.as_str() == default => {
                Location::from(format!("{scheme}:{}", state_dir.join(name).display()).as_str())
            }
            _ => location.clone(),
        };
        let source = match self.has_default_source() {
            true => placed(&self.source, SOURCE),
            false => self.source.clone(),
        };
        Self {
            source,
            store: placed(&self.store, STORE),
            replies: placed(&self.replies, REPLIES),
            ..self.clone()
        }
    }

    fn validate_queues(&self, faults: &mut Faults) {
        self.queues.validate("queues", faults);
        for name in self.queues.0.keys().filter(|name| !QUEUES.contains(&name.as_str())) {
            let fault = format!("the bot has no queue \"{name}\", but {}", QUEUES.join(" and "));
            faults.report(&format!("queues.{name}"), fault);
        }
    }

    fn validate_store(&self, faults: &mut Faults) {
        if !matches!(self.store.scheme(), "postgres" | "postgresql") {
            let fits = self.store.scheme() == "sqlite" && self.store.path().is_some();
            let message = format!(
                "\"{}\" has to be sqlite:PATH or postgres://USER:PASSWORD@HOST/DATABASE",
                self.store
            );
            faults.require(fits, "store", message);
        } else if let Err(fault) = crate::store::postgres_settings(&self.store) {
            faults.report("store", fault);
        }
    }

    fn validate_replies(&self, faults: &mut Faults) {
        if !self.replies.scheme().starts_with("smtp") {
            let fits = self.replies.scheme() == "maildir" && self.replies.path().is_some();
            let message = format!("\"{}\" has to be maildir:PATH or smtps://USER@HOST", self.replies);
            return faults.require(fits, "replies", message);
        }
        match SmtpSettings::parse(self.replies.as_str()) {
            Err(fault) => faults.report("replies", fault),
            Ok(settings) if settings.needs_password() && self.replies_password.is_none() => {
                let message = "this mail server needs a password: add password_file=FILE to the URL, or set the \
                               environment variable PLBA__MAIL_ORDER_BOT__REPLIES_PASSWORD";
                faults.report("replies", message);
            }
            Ok(_) => {}
        }
    }

    fn validate_webhooks(&self, faults: &mut Faults) {
        let mut names = BTreeSet::new();
        faults.require(
            self.webhooks.len() <= 20,
            "webhooks",
            "at most 20 webhooks are possible",
        );
        for (index, webhook) in self.webhooks.iter().enumerate() {
            if let Err((field, fault)) = webhook.target() {
                faults.report(&format!("webhooks.{index}.{field}"), fault);
            }
            let fault = format!("two webhooks are called {:?}", webhook.name);
            faults.require(names.insert(&webhook.name), &format!("webhooks.{index}.name"), fault);
        }
    }

    fn validate_sources(&self, faults: &mut Faults) {
        let mut mailboxes = BTreeMap::new();
        for NamedSource { name, url, password } in self.all_sources() {
            let key = match self.sources.contains_key(&name) {
                true => format!("sources.{name}.url"),
                false => "source".to_owned(),
            };
            let is_name = |char: char| char.is_ascii_alphanumeric() || char == '-' || char == '_';
            if name.is_empty() || name.len() > 40 || !name.chars().all(is_name) || (name == MAIN && key != "source") {
                let message = "a source's name has 1 to 40 letters, digits, - or _, and is not `mail`, which is the name of \
                               `source`";
                faults.report(&format!("sources.{name}"), message);
            }
            match url.as_str().parse::<plba::mail::Location>() {
                Err(error) => faults.report(&key, error.to_string()),
                Ok(source) if source.needs_password() && password.is_none() => {
                    let message = "this mailbox needs a password: add password_file=FILE to the URL, or set the environment \
                                   variable PLBA__MAIL_ORDER_BOT__PASSWORD";
                    faults.report(&key, message);
                }
                // Two sources on one folder would take each message in twice.
                Ok(source) => {
                    if let Some(other) = mailboxes.insert(source.name(Path::new(".")), name) {
                        faults.report(
                            &key,
                            format!("`{other}` reads this folder already; one source is enough"),
                        );
                    }
                }
            }
        }
    }
}

fn scheme(faults: &mut Faults, key: &str, location: &Location, known: &[&str]) {
    if !known.contains(&location.scheme()) {
        let known: Vec<String> = known.iter().map(|scheme| format!("{scheme}:")).collect();
        faults.report(key, format!("\"{location}\" begins with none of: {}", known.join(", ")));
    }
}

/// For how long mails and what was sent are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct KeepConfig {
    /// How many days raw mails are kept; those on the review list are kept until somebody decides.
    pub mail_days: u32,
    /// How many raw mails are kept at most: the oldest go first.
    pub mails: u32,
    /// How many days attachments are kept.
    pub attachment_days: u32,
    /// How many days replies and webhooks are kept after they were sent.
    pub sent_days: u32,
}

impl Default for KeepConfig {
    fn default() -> Self {
        Self {
            mail_days: 90,
            mails: 100_000,
            attachment_days: 365,
            sent_days: 90,
        }
    }
}

impl KeepConfig {
    /// What the store takes.
    #[must_use]
    pub fn spans(&self) -> Keep {
        let days = |days: u32| SignedDuration::from_hours(24 * i64::from(days));
        Keep {
            mails: days(self.mail_days),
            most_mails: self.mails,
            attachments: days(self.attachment_days),
            sent: days(self.sent_days),
        }
    }

    fn validate(&self, faults: &mut Faults) {
        for (name, days) in [
            ("mail_days", self.mail_days),
            ("attachment_days", self.attachment_days),
            ("sent_days", self.sent_days),
        ] {
            // Replies are counted within the hour, and a retry has to find what it sends.
            let fits = (1..=36_500).contains(&days);
            faults.require(fits, &format!("keep.{name}"), "1 to 36500 days are possible");
        }
        faults.require(self.mails > 0, "keep.mails", "at least 1 mail is kept");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_that_nothing_can_open_is_a_fault() {
        let faults = |config: BotConfig| {
            let mut faults = Faults::default();
            config.validate(&mut faults);
            let paths = faults.into_vec().into_iter().map(|fault| fault.path.join("."));
            paths.collect::<Vec<_>>()
        };
        assert!(faults(BotConfig::default()).is_empty());
        for (queue, catalogue, wrong) in [
            ("amqp://host", "embedded:", "queue"),
            ("redis://host?lease=soon", "embedded:", "queue"),
            ("memory:?capacity=many", "embedded:", "queue"),
            ("sqlite:var/queue.db?synchronous=off", "embedded:", "queue"),
            ("postgres://bot@db/shop?lease=soon", "embedded:", "queue"),
            ("memory:", "ftp://host/catalogue.csv", "catalogue"),
        ] {
            let config = BotConfig {
                queue: Location::from(queue),
                catalogue: Location::from(catalogue),
                ..BotConfig::default()
            };
            assert_eq!(faults(config), [wrong], "{queue} {catalogue}");
        }
    }

    #[test]
    fn sources_have_names_of_their_own_and_folders_of_their_own() {
        let read = |text: serde_json::Value| serde_json::from_value::<BotConfig>(text).unwrap();
        let names = |config: &BotConfig| {
            let sources = config.all_sources().into_iter();
            sources.map(|source| source.name).collect::<Vec<_>>()
        };
        let faults = |config: &BotConfig| {
            let mut faults = Faults::default();
            config.validate(&mut faults);
            let paths = faults.into_vec().into_iter().map(|fault| fault.path.join("."));
            paths.collect::<Vec<_>>()
        };
        assert_eq!(names(&BotConfig::default()), ["mail"]);
        let shops = serde_json::json!({ "shop": { "url": "maildir:a" }, "stand": { "url": "maildir:b" } });
        let two = read(serde_json::json!({ "sources": shops }));
        assert_eq!(
            (names(&two), faults(&two)),
            (vec!["shop".into(), "stand".into()], vec![])
        );
        assert!(!two.has_default_source(), "no samples where there are real sources");
        let three = read(serde_json::json!({ "source": "maildir:c", "sources": shops }));
        assert_eq!(names(&three), ["mail", "shop", "stand"]);
        let same = read(serde_json::json!({ "source": "maildir:a", "sources": shops }));
        assert_eq!(faults(&same), ["sources.shop.url"]);
        let bad = serde_json::json!({ "a b": { "url": "maildir:a" }, "mail": { "url": "maildir:b" } });
        assert_eq!(
            faults(&read(serde_json::json!({ "sources": bad }))),
            ["sources.a b", "sources.mail"]
        );
        let locked = serde_json::json!({ "shop": { "url": "imaps://bot@host/" } });
        assert_eq!(
            faults(&read(serde_json::json!({ "sources": locked }))),
            ["sources.shop.url"]
        );
        let shared = read(serde_json::json!({ "password": "x", "sources": locked }));
        assert!(faults(&shared).is_empty() && shared.all_sources()[0].password.is_some());
    }

    #[test]
    fn rules_are_for_queues_that_the_bot_has() {
        let read = |queues| serde_json::from_value::<BotConfig>(serde_json::json!({ "queues": queues })).unwrap();
        let faults = |config: BotConfig| {
            let mut faults = Faults::default();
            config.validate(&mut faults);
            let paths = faults.into_vec().into_iter().map(|fault| fault.path.join("."));
            paths.collect::<Vec<_>>()
        };
        let good = serde_json::json!({ "orders": { "concurrency": 4 }, "replies": { "rate": "30/1m" } });
        assert!(faults(read(good)).is_empty());
        let wrong = serde_json::json!({ "oders": {}, "replies": { "concurrency": 0 } });
        assert_eq!(faults(read(wrong)), ["queues.replies", "queues.oders"]);
    }

    #[test]
    fn defaults_follow_the_state_directory_and_what_was_set_stays() {
        let config = BotConfig {
            replies: Location::from("maildir:/srv/replies"),
            ..BotConfig::default()
        };
        let placed = config.placed_in(Path::new("/var/lib/bot"));
        assert_eq!(placed.source.as_str(), "maildir:/var/lib/bot/inbox");
        assert_eq!(placed.store.as_str(), "sqlite:/var/lib/bot/orders.db");
        assert_eq!(placed.replies.as_str(), "maildir:/srv/replies");
        assert_eq!(config.placed_in(Path::new("var")).source, config.source);
    }
}
