//! The source itself: a listener whose requests are published, and a stop that lets those in hand finish.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use plba_contracts::clock::Clock;
use plba_contracts::health::Health;
use plba_contracts::stop::StopSignal;
use plba_contracts::worker::WorkerDefinition;
use plba_tasks::intake::{Intake, IntakeError};
use plba_tasks::queue::{Durability, PublishError};
use plba_tasks::source::{SourceError, SourceStatus, TaskSource};
use plba_tasks::source_worker::{SourceWorkerSettings, source_worker};
use plba_tasks::task::Origin;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::Hook;
use super::request::{ID, Letterhead, TIMESTAMP};
use crate::body;
use crate::connection::Connections;
use crate::failure::Refusal;
use crate::limits::Limits;
use crate::transport::serve;

/// The header of a task that names the hook it came by.
pub const WEBHOOK: &str = "webhook";

/// Where and how webhooks are received.
#[derive(Clone, Debug)]
pub struct WebhookSettings {
    /// `address:port`; port 0 lets the system choose. Default: `127.0.0.1:8090`.
    pub listen: String,
    /// How long a request may wait for a full queue before it is answered 503. Default: 5 s.
    pub publish_within: Duration,
    /// Whether tasks may be accepted into a queue that ends with the process. Default: no.
    pub allow_loss: bool,
    /// The limits on connections and on the reading of requests; the size of a body is the hook's. Default: as the control
    /// plane's, but with 10 s for a body, 20 s for the requests in hand after a stop, and no fewer connections from one address than
    /// in all: behind a proxy everybody has the same one.
    pub limits: Limits,
}

impl Default for WebhookSettings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8090".to_owned(),
            publish_within: Duration::from_secs(5),
            allow_loss: false,
            limits: Limits {
                body: Duration::from_secs(10),
                drain: Duration::from_secs(20),
                connections_per_address: Limits::default().connections,
                ..Limits::default()
            },
        }
    }
}

/// A worker that receives webhooks and publishes their tasks; `name` is the source's name in their ids, and must stay the
/// same for ever. It asks for the services that every source asks for: `dyn TaskQueue`, `dyn SourceLedger` and `dyn Clock`.
///
/// Let it start after the workers that take its tasks: `.after("orders")`.
///
/// # Errors
/// A hook or a limit that can't be used; the sentence names it.
pub fn webhooks(
    name: impl Into<String>,
    settings: WebhookSettings,
    hooks: Vec<Hook>,
) -> Result<WorkerDefinition, String> {
    check(&settings, &hooks)?;
    let hooks: Arc<[Hook]> = hooks.into();
    Ok(source_worker(name, SourceWorkerSettings::default(), move |services| {
        let (settings, hooks) = (settings.clone(), hooks.to_vec());
        async move {
            let clock = services.get::<dyn Clock>().await?;
            Ok(Arc::new(WebhookSource::new(settings, hooks, clock)?) as Arc<dyn TaskSource>)
        }
    }))
}

fn check(settings: &WebhookSettings, hooks: &[Hook]) -> Result<(), String> {
    settings.limits.validate().map_err(|error| error.to_string())?;
    for (index, hook) in hooks.iter().enumerate() {
        hook.validate()
            .map_err(|(field, fault)| format!("webhook \"{}\", {field}: {fault}", hook.name))?;
        let same = |other: &Hook| other.name == hook.name || other.path == hook.path;
        if hooks[..index].iter().any(same) {
            return Err(format!(
                "there is another webhook \"{}\" or another one at {}",
                hook.name, hook.path
            ));
        }
    }
    Ok(())
}

/// Receives webhooks. [`webhooks`] makes the worker that runs it; tests may do so by hand.
pub struct WebhookSource {
    settings: WebhookSettings,
    hooks: Vec<Hook>,
    clock: Arc<dyn Clock>,
    status: Arc<Mutex<SourceStatus>>,
    address: watch::Sender<Option<String>>,
}

impl WebhookSource {
    /// A source that does not listen yet.
    ///
    /// # Errors
    /// A hook or a limit that can't be used; the sentence names it.
    pub fn new(settings: WebhookSettings, hooks: Vec<Hook>, clock: Arc<dyn Clock>) -> Result<Self, String> {
        check(&settings, &hooks)?;
        Ok(Self {
            settings,
            hooks,
            clock,
            status: Arc::default(),
            address: watch::Sender::new(None),
        })
    }

    /// Waits until it listens, and says where: `address:port`.
    pub async fn address(&self) -> String {
        let mut address = self.address.subscribe();
        let listening = address.wait_for(Option::is_some).await;
        listening.ok().and_then(|address| address.clone()).unwrap_or_default()
    }

    async fn bind(&self) -> Result<TcpListener, SourceError> {
        let listen = &self.settings.listen;
        TcpListener::bind(listen).await.map_err(|error| {
            let in_use = error.kind() == io::ErrorKind::AddrInUse;
            let error =
                format!("webhooks can't be received at {listen}: {error}; listen on another address, or see to it");
            // After a reload the one before may still be letting go.
            if in_use {
                SourceError::transient(error)
            } else {
                SourceError::fatal(error)
            }
        })
    }

    fn router(&self, intake: &Intake) -> Router {
        let mut router = Router::new();
        for hook in &self.hooks {
            let door = Arc::new(Door {
                places: Semaphore::new(hook.concurrency),
                in_hand: Mutex::default(),
                hook: hook.clone(),
                intake: intake.clone(),
                clock: Arc::clone(&self.clock),
                limits: self.settings.limits.clone(),
                publish_within: self.settings.publish_within,
                status: Arc::clone(&self.status),
            });
            let receive = move |request: Request| {
                let door = Arc::clone(&door);
                async move { door.answer(request).await }
            };
            let wrong_method = || async { Refusal::wrong_method("POST") };
            router = router.route(&hook.path, post(receive).fallback(wrong_method));
        }
        router.fallback(|| async { Refusal::unknown("webhook at this path") })
    }
}

#[async_trait]
impl TaskSource for WebhookSource {
    async fn run(&self, intake: Intake, stop: StopSignal) -> Result<(), SourceError> {
        if intake.durability() == Durability::Volatile && !self.settings.allow_loss {
            return Err(SourceError::fatal(
                "webhooks need a queue that outlives the process: a request that was answered 200 would be lost with it, and \
                 nobody can be asked for it again; choose another queue, such as sqlite:var/queue.db, or set allow_loss",
            ));
        }
        let listener = self.bind().await?;
        let address = listener.local_addr().map_err(SourceError::transient)?.to_string();
        tracing::info!(address, hooks = self.hooks.len(), "webhooks are received");
        lock(&self.status).note = Some(format!("listens on {address}"));
        self.address.send_replace(Some(address));
        let connections = Connections {
            router: self.router(&intake),
            limits: self.settings.limits.clone(),
            stop,
            of: "the webhook source",
        };
        serve(listener, connections).await;
        self.address.send_replace(None);
        lock(&self.status).note = None;
        Ok(())
    }

    fn status(&self) -> SourceStatus {
        lock(&self.status).clone()
    }
}

/// One hook at work.
struct Door {
    hook: Hook,
    intake: Intake,
    clock: Arc<dyn Clock>,
    limits: Limits,
    publish_within: Duration,
    places: Semaphore,
    /// The ids of the requests that are being published.
    in_hand: Mutex<HashSet<String>>,
    status: Arc<Mutex<SourceStatus>>,
}

impl Door {
    async fn answer(&self, request: Request) -> Response {
        match self.receive(request).await {
            Ok(task) => (StatusCode::OK, Json(json!({ "task": task }))).into_response(),
            Err(refusal) => {
                let (hook, status) = (&self.hook.name, refusal.status().as_u16());
                tracing::info!(hook, status, reason = refusal.message(), "a webhook was refused");
                refusal.into_response()
            }
        }
    }

    async fn receive(&self, request: Request) -> Result<String, Refusal> {
        let letterhead = Letterhead::read(&self.hook, request.headers(), self.clock.now())?;
        let Ok(_place) = self.places.try_acquire() else {
            return Err(Refusal::later("too many requests at once; nothing was accepted, send it again", 1).closing());
        };
        let body = body::read(request, self.hook.body_bytes, self.limits.body).await?;
        letterhead.check(&self.hook, &body)?;
        let _in_hand = self.take(&letterhead.id)?;
        let origin = Origin::new(self.intake.source(), format!("{}/{}", self.hook.name, letterhead.id));
        let id = origin.task_id();
        let mut task = self
            .hook
            .task
            .clone()
            .with_id(&id)
            .unique_for(id.as_str(), self.hook.remember)
            .with_header(WEBHOOK, &self.hook.name)
            .with_header(ID, letterhead.id)
            .with_header(TIMESTAMP, letterhead.timestamp.to_string())
            .with_header(header::CONTENT_TYPE.as_str(), letterhead.content_type);
        task.payload = body;
        let publishing = timeout(self.publish_within, self.intake.publish_unrecorded(vec![task]));
        match publishing.await {
            Ok(Ok(_)) => {
                let mut status = lock(&self.status);
                status.published += 1;
                status.last_success = Some(self.clock.now());
                status.health = Health::Ok;
                Ok(id.as_str().to_owned())
            }
            Ok(Err(error)) => Err(self.failed(&error)),
            // Dropped by now: all or nothing of it was published, and with the same id it is not published twice.
            Err(_) => {
                self.suffers("the queue is full, or does not answer in time");
                Err(Refusal::later(
                    "there is no room now; nothing was accepted, send it again",
                    5,
                ))
            }
        }
    }

    fn failed(&self, error: &IntakeError) -> Refusal {
        let reason = plba_contracts::describe(error);
        tracing::error!(hook = self.hook.name, reason, "a webhook could not be published");
        if let IntakeError::Publish(PublishError::Refused { .. }) = error {
            let message = "this can't be made a task, and won't be if it is sent again";
            return Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", message);
        }
        self.suffers(&reason);
        Refusal::later("it could not be stored; send it again", 5)
    }

    fn suffers(&self, reason: &str) {
        let mut status = lock(&self.status);
        status.errors += 1;
        status.health = Health::degraded(format!("a webhook was answered 503: {reason}"));
    }

    /// Two requests with one id at once: the second is to come again when the first one's task is in the queue.
    fn take(&self, id: &str) -> Result<InHand<'_>, Refusal> {
        if lock(&self.in_hand).insert(id.to_owned()) {
            let id = id.to_owned();
            return Ok(InHand { door: self, id });
        }
        let message = "a request with this id is being worked on at this moment; send it again";
        let refusal = Refusal::new(StatusCode::CONFLICT, "in_hand", message);
        Err(refusal.with(header::RETRY_AFTER, HeaderValue::from_static("1")))
    }
}

struct InHand<'a> {
    door: &'a Door,
    id: String,
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        lock(&self.door.in_hand).remove(&self.id);
    }
}

// Counters and sets of ids: a panic can't leave them half-written.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
