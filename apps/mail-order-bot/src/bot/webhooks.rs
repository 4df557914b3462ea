//! The handler of webhooks: tells another system of an order, by a signed request. What the receiver does not confirm is
//! tried again for days; its id stays the same, so that the receiver can tell a second try from a second order.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use plba::http::webhook::{SendError, SigningSecret, TargetSettings, WebhookSender};
use plba::prelude::*;
use plba::tasks::handler::{HandlerError, Outcome, TaskContext, TaskHandler};
use plba::tasks::task::Task;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sent;
use super::services::OnePlace;
use crate::store::Outbox;

/// A webhook: whom to tell of accepted, amended and cancelled orders.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct WebhookConfig {
    /// Its name: 1 to 50 lower-case letters, digits, `-` and `_`. It must stay the same, because it is part of the ids of
    /// what is sent.
    pub name: String,
    /// Where to: `https://HOST/PATH`; `http://` only with `private`.
    pub url: String,
    /// What requests are signed with, `whsec_…`, after Standard Webhooks; two while they change.
    pub secrets: Vec<Secret>,
    /// Whether the address may be one of this machine or of the inner network.
    #[serde(default)]
    pub private: bool,
    /// A PEM file with the certificates of a private authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<FilePath>,
    /// For one request.
    #[serde(default = "timeout")]
    pub timeout: TimeSpan,
}

fn timeout() -> TimeSpan {
    TimeSpan::seconds(20)
}

impl WebhookConfig {
    /// What a sender takes.
    ///
    /// # Errors
    /// The field at fault, and the sentence that names what would do.
    pub fn target(&self) -> Result<TargetSettings, (&'static str, String)> {
        let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
        if !(1..=50).contains(&self.name.len()) || !self.name.bytes().all(letter) {
            let message = "1 to 50 lower-case letters, digits, '-' and '_' name a webhook";
            return Err(("name", message.into()));
        }
        let secrets = self.secrets.iter().map(|secret| SigningSecret::parse(secret.expose()));
        let secrets = secrets.collect::<Result<Vec<_>, _>>();
        let mut target = TargetSettings::new(
            self.url.clone(),
            secrets.map_err(|error| ("secrets", error.to_string()))?,
        );
        target.private = self.private;
        target.timeout = self.timeout.into();
        target.tls.ca = self.ca.as_ref().map(|file| file.as_path().to_owned());
        target.validate()?;
        Ok(target)
    }
}

/// Where each webhook goes.
pub struct Targets(HashMap<String, WebhookSender>);

impl Targets {
    /// Prepares a sender for each. Blocks for a moment.
    ///
    /// # Errors
    /// A webhook can't be used; which, and why.
    pub fn new(webhooks: &[WebhookConfig]) -> Result<Self, BoxError> {
        let mut targets = HashMap::new();
        for webhook in webhooks {
            let named = |fault: String| format!("webhook {:?}: {fault}", webhook.name);
            let target = webhook
                .target()
                .map_err(|(field, fault)| named(format!("{field}: {fault}")))?;
            let sender = WebhookSender::new(&target).map_err(|error| named(error.to_string()))?;
            targets.insert(webhook.name.clone(), sender);
        }
        Ok(Self(targets))
    }
}

/// Sends webhooks.
pub struct WebhookHandler {
    outbox: Outbox,
    targets: Arc<Targets>,
    /// Whether the outbox lies where the task is completed.
    place: OnePlace,
}

impl WebhookHandler {
    /// A handler that takes webhooks from `outbox` and sends them to `targets`.
    pub fn new(outbox: Outbox, targets: Arc<Targets>, place: OnePlace) -> Self {
        Self { outbox, targets, place }
    }
}

#[async_trait]
impl TaskHandler for WebhookHandler {
    async fn handle(&self, task: &Task, context: &TaskContext) -> Result<Outcome, HandlerError> {
        let row = match sent::asked_for(&self.outbox, task).await? {
            Ok(row) => row,
            Err(outcome) => return Ok(outcome),
        };
        let Some(sender) = self.targets.0.get(&row.recipient) else {
            let reason = format!(
                "no webhook is called {:?} any more; put it back and retry this",
                row.recipient
            );
            return Ok(Outcome::reject(reason));
        };
        let now = context.clock.now();
        let id = format!("msg_{}", row.id);
        match sender.send(&id, now.as_second(), row.message.into()).await {
            Ok(status) => info!(webhook = row.recipient, status, "webhook sent"),
            Err(error @ SendError::Gone { .. }) => return Ok(Outcome::reject(error.to_string())),
            Err(
                error @ SendError::Answered {
                    retry_after: Some(pause),
                    ..
                },
            ) => return Err(HandlerError::retry_after(pause, error)),
            Err(error) => return Err(HandlerError::retry(error)),
        }
        sent::mark(&self.outbox, self.place, row.id, now).await
    }
}
