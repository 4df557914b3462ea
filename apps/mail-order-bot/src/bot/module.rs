//! The module itself: what it declares and what it assembles, in one place and in order.

use std::path::Path;
use std::sync::Arc;

use plba::lease::{LeaseSource, Singleton, SingletonOptions};
use plba::mail::MailSources;
use plba::mail::maildir::Maildir;
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
use super::replies::ReplyHandler;
use super::services::{self, ORDERS, OneFile};
use super::settings::{BotConfig, NamedSource};
use super::views;
use crate::OrderDesk;
use crate::store::OrderStore;

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
        let one_file = OneFile::of(&config);
        assembly.worker(orders(&config, one_file));
        assembly.worker(replies(one_file));
        if !one_file.0 {
            assembly.worker(one_at_a_time(outbox(), "outbox".to_owned(), &config));
        }
        for source in config.all_sources() {
            let (mail, name) = mail(&source, one_file)?;
            assembly.worker(one_at_a_time(mail, name, &config));
        }
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
fn orders(config: &BotConfig, one_file: OneFile) -> WorkerDefinition {
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
        let handler = OrderHandler::new(OrderDesk::clone(&desk), bell, traces, one_file);
        Ok(Arc::new(handler) as Arc<dyn TaskHandler>)
    };
    task_worker("orders", ORDERS, settings, handler).concurrency(config.workers)
}

/// Sends replies. One at a time: a Maildir is quick, and a server wants one connection.
fn replies(one_file: OneFile) -> WorkerDefinition {
    task_worker(
        "replies",
        relay::QUEUE,
        TaskWorkerSettings::default(),
        move |services: Services| async move {
            let (store, replies) = (services.get::<OrderStore>().await?, services.get::<Maildir>().await?);
            if one_file.0 {
                let queue = services.get::<dyn TaskQueue>().await?;
                relay::publish_waiting(&store.outbox(), queue.as_ref()).await?;
            }
            let handler = ReplyHandler::new(store.outbox(), Maildir::clone(&replies), one_file);
            Ok(Arc::new(handler) as Arc<dyn TaskHandler>)
        },
    )
}

/// Brings replies from the outbox into their queue.
fn outbox() -> WorkerDefinition {
    let source = |services: Services| async move {
        let (store, bell) = (services.get::<OrderStore>().await?, services.get::<Bell>().await?);
        Ok(Arc::new(OutboxRelay::new(store.outbox(), bell)) as Arc<dyn TaskSource>)
    };
    source_worker("outbox", SourceWorkerSettings::default(), source).after("replies")
}

/// Takes order mails in, and tells the mailbox once their orders are stored. The outbox is ready before the first order.
/// The source's name with it.
fn mail(source: &NamedSource, one_file: OneFile) -> Result<(WorkerDefinition, String), BoxError> {
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
            let sources = services.get::<MailSources>().await?;
            Ok(sources.get(Some(&short))?.clone().into_source())
        }
    };
    let first = if one_file.0 { "replies" } else { "outbox" };
    let worker = match source.name.as_str() {
        "mail" => "mail".to_owned(),
        other => format!("mail-{other}"),
    };
    let worker = source_worker(worker, settings, build).after("orders").after(first);
    Ok((worker, name))
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
