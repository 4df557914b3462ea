//! Work that comes by the clock and by webhooks, and is carried out in batches: three schedules, one signed webhook and one
//! batch worker on a queue, with views and commands for all of them.
//!
//! ```text
//! cargo run -p plba --features tasks --example clockwork
//! cargo run -p plba --features tasks --example clockwork -- schedules       (or `queues`, `tasks`, `dead` …)
//! cargo run -p plba --features tasks --example clockwork -- sign 17 '{"tea": 2}'
//! ```
//!
//! The last one prints a `curl` command that sends this body with the id 17, signed; sent again, it becomes no second task.
//! A body that contains `poison` makes the batch that it is in panic.

use std::sync::Arc;

use plba::clock::Clock;
use plba::control::ControlError;
use plba::http::webhook::{SigningSecret, WebhooksConfig, webhooks};
use plba::prelude::*;
use plba::tasks::backend::{BackendContext, open_queue};
use plba::tasks::batch::{BatchContext, BatchHandler, BatchOutcome, BatchSettings, BatchTask, batch_worker};
use plba::tasks::endpoints;
use plba::tasks::file_ledger::{FileLedger, FileLedgerSettings};
use plba::tasks::handler::HandlerError;
use plba::tasks::ledger::SourceLedger;
use plba::tasks::queue::TaskQueue;
use plba::tasks::queue_rules::QueuesConfig;
use plba::tasks::retry::RetryPolicy;
use plba::tasks::schedule::{ScheduleConfig, Schedules};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// A secret that everybody knows: for this example, and for nothing else.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn main() -> ExitCode {
    App::new("clockwork").module(Clockwork).run()
}

/// The section `[clockwork]`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct ClockworkConfig {
    /// Where tasks wait: `memory:`, or `sqlite:PATH` and others that outlive the process.
    queue: Location,
    /// Rules of the queue `work`.
    queues: QueuesConfig,
    /// When tasks come by the clock.
    schedules: Vec<ScheduleConfig>,
    /// Who may send tasks.
    webhooks: WebhooksConfig,
}

impl Default for ClockworkConfig {
    fn default() -> Self {
        let written = json!({
            "queue": "memory:",
            "queues": { "work": { "rate": "600/1m" } },
            "schedules": [
                { "name": "tick", "cron": "*/5 * * * * *", "queue": "work", "kind": "tick", "grace": "3s" },
                { "name": "report", "cron": "30 6 * * MON-FRI", "zone": "Europe/Berlin", "queue": "work", "kind": "report",
                  "misfire": "once", "jitter": "5m" },
                { "name": "month", "cron": "0 0 1 * *", "queue": "work", "kind": "month", "misfire": { "all": { "limit": 12 } } },
            ],
            // The queue in memory ends with the process: good enough to try webhooks, and for nothing else.
            "webhooks": { "listen": "127.0.0.1:8090", "allow_loss": true, "hooks": [
                { "name": "shop", "path": "/shop", "secrets": [], "queue": "work", "kind": "order" },
            ] },
        });
        let unlike = |error| unreachable!("the defaults are written as a file would be: {error}");
        let mut config: Self = Defaults::deserialize(written).map_or_else(unlike, Self::from);
        config.webhooks.hooks[0].secrets = vec![Secret::from(SECRET)];
        config
    }
}

/// The section without defaults, from which the defaults are read.
#[derive(Deserialize)]
struct Defaults {
    queue: Location,
    queues: QueuesConfig,
    schedules: Vec<ScheduleConfig>,
    webhooks: WebhooksConfig,
}

impl From<Defaults> for ClockworkConfig {
    fn from(defaults: Defaults) -> Self {
        Self {
            queue: defaults.queue,
            queues: defaults.queues,
            schedules: defaults.schedules,
            webhooks: defaults.webhooks,
        }
    }
}

impl ConfigSection for ClockworkConfig {
    fn validate(&self, faults: &mut Faults) {
        self.queues.validate("queues", faults);
        ScheduleConfig::validate_all(&self.schedules, "schedules", faults);
        self.webhooks.validate("webhooks", faults);
    }
}

struct Clockwork;

impl ApplicationModule for Clockwork {
    fn name(&self) -> &str {
        "clockwork"
    }

    fn declare(&self, declaration: &mut Declaration) {
        declaration.section::<ClockworkConfig>();
    }

    fn assemble(&self, assembly: &mut Assembly) -> Result<(), BoxError> {
        let config = assembly.section::<ClockworkConfig>()?;
        let state_dir = assembly.state_dir().to_owned();
        let built = config
            .schedules
            .iter()
            .map(|schedule| schedule.build().map_err(|(_, fault)| fault));
        let schedules = Arc::new(Schedules::new(built.collect::<Result<Vec<_>, _>>()?)?);
        let (settings, hooks) = config
            .webhooks
            .build()
            .map_err(|(key, fault)| format!("{key}: {fault}"))?;

        assembly.service(ServiceDefinition::new::<dyn SourceLedger, _, _>(move |_| {
            let path = state_dir.join("ledger");
            async move { Ok(Arc::new(FileLedger::open(path, FileLedgerSettings::default()).await?) as _) }
        }));
        let rules = Arc::new(config.queues.clone());
        let (governing, location) = (Arc::clone(&rules), config.queue.clone());
        assembly.service(ServiceDefinition::new::<dyn TaskQueue, _, _>(move |services| {
            let (rules, location) = (Arc::clone(&governing), location.clone());
            async move {
                let context = BackendContext {
                    clock: services.get::<dyn Clock>().await?,
                    ledger: Some(services.get::<dyn SourceLedger>().await?),
                    seed: None,
                };
                let queue = open_queue(&plba::queue_backends(), &location, context).await?;
                rules.govern(queue.as_ref());
                Ok(queue)
            }
        }));
        assembly.service(ServiceDefinition::new::<QueuesConfig, _, _>(move |_| {
            std::future::ready(Ok(Arc::clone(&rules)))
        }));
        for worker in schedules.workers() {
            assembly.worker(worker.after("work"));
        }
        assembly.service(ServiceDefinition::new::<Schedules, _, _>(move |_| {
            std::future::ready(Ok(Arc::clone(&schedules)))
        }));
        assembly.worker(webhooks("webhooks", settings, hooks)?.after("work"));
        assembly.worker(batch_worker("work", "work", in_batches(), |_| async {
            Ok(Arc::new(Work) as _)
        }));
        endpoints::endpoints()
            .into_iter()
            .for_each(|endpoint| assembly.endpoint(endpoint));
        assembly.endpoint(signing(config.webhooks.listen.clone()));
        Ok(())
    }
}

fn in_batches() -> BatchSettings {
    BatchSettings {
        size: 20,
        wait: secs(2),
        retry: RetryPolicy {
            maximum_attempts: 2,
            ..RetryPolicy::default()
        },
        ..BatchSettings::default()
    }
}

/// Says what it was given.
struct Work;

#[async_trait::async_trait]
impl BatchHandler for Work {
    async fn handle(&self, batch: &[BatchTask], _: &BatchContext) -> Result<BatchOutcome, HandlerError> {
        let poison = |item: &BatchTask| item.task.payload.windows(6).any(|bytes| bytes == b"poison");
        assert!(!batch.iter().any(poison), "there is poison in it");
        let ids: Vec<&str> = batch.iter().map(|item| item.task.id.as_str()).collect();
        info!("carried out {}", ids.join(", "));
        Ok(BatchOutcome::Done)
    }
}

/// The command that signs: what a sender does.
fn signing(listen: String) -> Endpoint {
    let sign = move |services: Services, parameters: plba::control::Parameters| {
        let listen = listen.clone();
        async move {
            let words = parameters
                .get("words")
                .and_then(|words| words.as_array())
                .cloned()
                .unwrap_or_default();
            let words: Vec<&str> = words.iter().filter_map(|word| word.as_str()).collect();
            let [id, body] = words.as_slice() else {
                return Err(ControlError::Invalid("an id and a body are needed".into()));
            };
            let clock = services
                .get::<dyn Clock>()
                .await
                .map_err(|error| ControlError::Failed(error.into()))?;
            let secret = SigningSecret::parse(SECRET).map_err(|error| ControlError::Failed(error.into()))?;
            let timestamp = clock.now().as_second();
            let signature = secret.sign(id, timestamp, body.as_bytes());
            Ok(format!(
                "curl -i -H 'content-type: application/json' -H 'webhook-id: {id}' -H 'webhook-timestamp: {timestamp}' \
                 -H 'webhook-signature: {signature}' --data-raw '{body}' http://{listen}/shop"
            ))
        }
    };
    Endpoint::view("sign", "Prints the command that sends a signed webhook", sign).words("words", "an id and a body")
}
