//! The module itself: what it declares and what it assembles, in one place and in order.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use plba::clock::Clock;
use plba::lease::{LeaseSource, Singleton, SingletonOptions};
use plba::mail::MailSource;
use plba::prelude::*;
use plba::tasks::handler::TaskHandler;
use plba::tasks::queue::TaskQueue;
use plba::tasks::retry::RetryPolicy;
use plba::tasks::source::TaskSource;
use plba::tasks::source_worker::{SourceWorkerSettings, source_worker};
use plba::tasks::worker::{TaskWorkerSettings, task_worker};
use plba::trace::TraceFactory;
use plba::worker::WorkerDefinition;

use super::explain;
use super::orders::OrderHandler;
use super::relay::{self, Bell, OutboxRelay};
use super::replies::{ReplyHandler, ReplyTarget};
use super::services::{self, ORDERS, OnePlace};
use super::settings::{BotConfig, NamedSource};
use super::views;
use super::webhooks::{Targets, WebhookHandler};
use crate::OrderDesk;
use crate::authentication::Authenticator;
use crate::store::mails::Forgotten;
use crate::store::{OrderStore, StoreError};

/// The bot as a module of the platform.
#[derive(Clone, Copy, Debug, Default)]
pub struct MailOrderBot;

impl ApplicationModule for MailOrderBot {
    fn name(&self) -> &str {
        "mail-order-bot"
    }

    fn declare(&self, declaration: &mut Declaration) {
        declaration.section::<BotConfig>();
    }

    fn assemble(&self, assembly: &mut Assembly) -> Result<(), BoxError> {
        let configured = assembly.section::<BotConfig>()?;
        let config = Arc::new(configured.placed_in(assembly.state_dir()));
        let state_dir = assembly.state_dir().to_owned();
        for service in services::definitions(&config, configured.has_default_source(), state_dir) {
            assembly.service(service);
        }
        assembly.service(explain::service(&config));
        let place = OnePlace::of(&config);
        assembly.worker(orders(&config, place));
        assembly.worker(replies(&config, place)?);
        if !config.webhooks.is_empty() {
            assembly.worker(webhooks(place));
        }
        if place == OnePlace::Apart {
            assembly.worker(one_at_a_time(outbox(), "outbox".to_owned(), &config));
        }
        for source in config.all_sources() {
            let (mail, name) = mail(&source, place)?;
            assembly.worker(one_at_a_time(mail, name, &config));
        }
        assembly.worker(one_at_a_time(retention(&config), "retention".to_owned(), &config));
        plba::tasks::endpoints::endpoints()
            .into_iter()
            .chain(plba::mail::endpoints())
            .chain(views::endpoints())
            .chain([explain::endpoint()])
            .for_each(|view| assembly.endpoint(view));
        let sources: Vec<String> = config
            .all_sources()
            .iter()
            .map(|source| source.url.to_string())
            .collect();
        assembly.greet(format!(
            "orders come from {}; drop a mail there, or see `mail-order-bot orders`",
            sources.join(", ")
        ));
        assembly.greet(format!(
            "orders are stored in {}, replies go to {}",
            config.store, config.replies
        ));
        Ok(())
    }
}

/// Works on order mails, several at a time.
fn orders(config: &BotConfig, place: OnePlace) -> WorkerDefinition {
    let settings = TaskWorkerSettings {
        timeout: config.timeout.into(),
        retry: RetryPolicy {
            maximum_attempts: config.attempts,
            ..RetryPolicy::default()
        },
        ..TaskWorkerSettings::default()
    };
    let handler = move |services: Services| async move {
        let (desk, bell) = (services.get::<OrderDesk>().await?, services.get::<Bell>().await?);
        let traces = services.get::<dyn TraceFactory>().await?;
        let authenticator = services.get::<Authenticator>().await?;
        let handler = OrderHandler::new(OrderDesk::clone(&desk), bell, traces, authenticator, place);
        Ok(Arc::new(handler) as Arc<dyn TaskHandler>)
    };
    let worker = task_worker("orders", ORDERS, settings, handler).concurrency(config.workers);
    worker.made_from(&format!("{place:?}"))
}

/// Sends replies. One at a time: a Maildir is quick, and a server wants one connection.
fn replies(config: &BotConfig, place: OnePlace) -> Result<WorkerDefinition, BoxError> {
    let settings = TaskWorkerSettings {
        // A server that is away for a day or two gets its mails all the same.
        retry: RetryPolicy {
            maximum_delay: Duration::from_secs(3600),
            maximum_attempts: 60,
            ..RetryPolicy::default()
        },
        ..TaskWorkerSettings::default()
    };
    let from = config.desk.replies.sender()?;
    let made_from = (from.clone(), format!("{place:?}"));
    let handler = move |services: Services| {
        let from = from.clone();
        async move {
            let (store, target) = (
                services.get::<OrderStore>().await?,
                services.get::<ReplyTarget>().await?,
            );
            if place != OnePlace::Apart {
                let queue = services.get::<dyn TaskQueue>().await?;
                relay::publish_waiting(&store.outbox(), queue.as_ref()).await?;
            }
            let handler = ReplyHandler::new(store.outbox(), ReplyTarget::clone(&target), from, place);
            Ok(Arc::new(handler) as Arc<dyn TaskHandler>)
        }
    };
    Ok(task_worker("replies", relay::REPLIES, settings, handler).made_from(&made_from))
}

/// Tells other systems of orders. Who does not answer is asked again for days.
fn webhooks(place: OnePlace) -> WorkerDefinition {
    let settings = TaskWorkerSettings {
        retry: RetryPolicy {
            maximum_delay: Duration::from_secs(6 * 3600),
            ..RetryPolicy::default()
        },
        ..TaskWorkerSettings::default()
    };
    let handler = move |services: Services| async move {
        let (store, targets) = (services.get::<OrderStore>().await?, services.get::<Targets>().await?);
        let handler = WebhookHandler::new(store.outbox(), targets, place);
        Ok(Arc::new(handler) as Arc<dyn TaskHandler>)
    };
    let worker = task_worker("webhooks", relay::WEBHOOKS, settings, handler).concurrency(4);
    worker.made_from(&format!("{place:?}"))
}

/// Removes mails and sent replies whose time is up.
fn retention(config: &BotConfig) -> WorkerDefinition {
    let keep = config.keep.spans();
    let definition = worker::every_with(
        "retention",
        Duration::from_secs(3600),
        move |services: Services| async move {
            let (store, clock) = (services.get::<OrderStore>().await?, services.get::<dyn Clock>().await?);
            let forgetting = tokio::task::spawn_blocking(move || {
                // A few at a time, so that nobody waits long for the store.
                loop {
                    let forgotten = store.forget(&keep, clock.now())?;
                    if forgotten == Forgotten::default() {
                        return Ok::<_, StoreError>(());
                    }
                    info!(
                        mails = forgotten.mails,
                        attachments = forgotten.attachments,
                        sent = forgotten.sent,
                        "removed what is kept no longer"
                    );
                }
            });
            forgetting.await??;
            Ok(())
        },
    );
    definition.made_from(&config.keep).into()
}

/// Brings replies and webhooks from the outbox into their queues.
fn outbox() -> WorkerDefinition {
    let source = |services: Services| async move {
        let (store, bell) = (services.get::<OrderStore>().await?, services.get::<Bell>().await?);
        Ok(Arc::new(OutboxRelay::new(store.outbox(), bell)) as Arc<dyn TaskSource>)
    };
    let worker = source_worker("outbox", SourceWorkerSettings::default(), source).after("replies");
    worker.made_from("the store's outbox")
}

/// Takes order mails in, and tells the mailbox once their orders are stored. The outbox is ready before the first order.
/// The source's name with it.
fn mail(source: &NamedSource, place: OnePlace) -> Result<(WorkerDefinition, String), BoxError> {
    let location: plba::mail::Location = source.url.as_str().parse()?;
    let name = location.name(Path::new("."));
    let settings = SourceWorkerSettings {
        source: Some(name.clone()),
        ..SourceWorkerSettings::default()
    };
    let short = source.name.clone();
    let build = move |services: Services| {
        let short = short.clone();
        async move {
            let source = services.get_named::<MailSource>(&short).await?;
            Ok(MailSource::clone(&source).into_source())
        }
    };
    let first = if place == OnePlace::Apart { "outbox" } else { "replies" };
    let worker = match source.name.as_str() {
        "mail" => "mail".to_owned(),
        other => format!("mail-{other}"),
    };
    let worker = source_worker(worker, settings, build).after("orders").after(first);
    Ok((worker.made_from(&source.name), name))
}

/// A source that runs in one of the bots that share a queue, under the queue's lease of the source's name. Where nobody can
/// share the queue it just runs.
fn one_at_a_time(worker: WorkerDefinition, source: String, config: &BotConfig) -> WorkerDefinition {
    if config.queue.scheme() == "memory" {
        return worker;
    }
    let options = SingletonOptions {
        name: Some(source),
        ttl: config.source_lease.into(),
        ..SingletonOptions::default()
    };
    worker.singleton_with(LeaseSource::service(), options)
}
