//! The control plane's contracts: views that tell, actions that change, who may, and the transport that carries both to
//! people and programs. Routing, audit and the platform's own views live in the runtime.

use std::sync::Arc;

use async_trait::async_trait;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::BoxError;
use crate::metrics::MetricFamily;
use crate::secret::Secret;
use crate::services::{BoxFuture, Services};
use crate::stop::StopSignal;

/// What a caller may do. Each role may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// May look.
    Viewer,
    /// May handle work: retry, drop, pause.
    Operator,
    /// May do everything.
    Admin,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Caller {
    /// For the audit log.
    pub name: String,
    /// What it may do.
    pub role: Role,
}

/// The parameters of a call, by name.
pub type Parameters = Map<String, Value>;

/// One parameter of a view or action, as the command line and the API show it.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub help: &'static str,
    /// How the command line takes it.
    pub kind: ParameterKind,
}

/// How the command line takes a parameter; what the API gets for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ParameterKind {
    /// `--name value`: a string.
    Value,
    /// `--name`: true.
    Flag,
    /// All bare words: a list of strings.
    Words,
}

/// Why a call was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No view or action of this name.
    #[error("there is no {0}")]
    Unknown(String),
    /// A parameter is missing or can't be used; the sentence says which and what would do.
    #[error("{0}")]
    Invalid(String),
    /// The caller's role is too low.
    #[error("this needs the role {needed:?}")]
    Forbidden {
        /// The role that would do.
        needed: Role,
    },
    /// It took longer than the control plane waits.
    #[error("no answer within {0} s; the workers' executor may be busy, see the workers view")]
    TimedOut(u64),
    /// It failed.
    #[error("{}", crate::describe(.0.as_ref()))]
    Failed(#[from] BoxError),
}

/// What of the parameters of a call may be recorded.
type Recorded = dyn Fn(Parameters) -> Parameters + Send + Sync;

type Ask = dyn Fn(Services, Parameters) -> BoxFuture<'static, Result<Value, ControlError>> + Send + Sync;

/// A view (which tells) or an action (which changes), contributed by a module.
///
/// Its name is dotted, lower-case words: `orders`, `dead.list`. The API serves a view `dead.list` as
/// `GET /api/v1/views/dead.list` and an action `dead.retry` as `POST /api/v1/actions/dead.retry`; the command line as
/// `dead list` and `dead retry`.
///
/// The answer runs on the workers' executor under a deadline. On the command line it also works while nothing runs: then
/// the services it asks for, and no others, are built for the call.
///
/// ```
/// use plba_contracts::control::{ControlError, Endpoint};
///
/// let count = Endpoint::view("orders.count", "Counts the orders", |_services, parameters| async move {
///     match parameters.get("status") {
///         None => Ok(17_u64),
///         Some(status) => Err(ControlError::Invalid(format!("no order has the status {status}"))),
///     }
/// });
/// let count = count.parameter("status", "only orders with this status");
/// assert!(!count.changes);
/// ```
#[derive(Clone)]
pub struct Endpoint {
    /// Its dotted name.
    pub name: &'static str,
    /// What it tells or does, in a sentence.
    pub summary: &'static str,
    /// Whether it changes something; such calls are audited.
    pub changes: bool,
    /// Whether it has an answer where the application has never run; see [`first`](Self::first).
    pub first: bool,
    /// Whether only the command line answers it, in its own process; see [`here`](Self::here).
    pub here: bool,
    /// How the command line shows its answer to people; see [`told`](Self::told).
    pub told: Option<fn(&Value) -> String>,
    /// The least role that may call it.
    pub role: Role,
    /// Its parameters.
    pub parameters: Vec<Parameter>,
    /// The JSON schema of its answer.
    pub answer: Schema,
    recorded: Option<Arc<Recorded>>,
    ask: Arc<Ask>,
}

impl Endpoint {
    /// A view, open to viewers, that answers with a `T`.
    pub fn view<T, F, Fut>(name: &'static str, summary: &'static str, ask: F) -> Self
    where
        T: Serialize + JsonSchema,
        F: Fn(Services, Parameters) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, ControlError>> + Send + 'static,
    {
        let ask = move |services, parameters| -> BoxFuture<'static, Result<Value, ControlError>> {
            let answering = ask(services, parameters);
            Box::pin(async move {
                serde_json::to_value(answering.await?).map_err(|error| ControlError::Failed(error.into()))
            })
        };
        let answer = schemars::SchemaGenerator::default().into_root_schema_for::<T>();
        let (role, parameters) = (Role::Viewer, Vec::new());
        Self {
            name,
            summary,
            changes: false,
            first: false,
            here: false,
            told: None,
            role,
            parameters,
            answer,
            recorded: None,
            ask: Arc::new(ask),
        }
    }

    /// An action, open to operators, that answers with a `T`.
    pub fn action<T, F, Fut>(name: &'static str, summary: &'static str, ask: F) -> Self
    where
        T: Serialize + JsonSchema,
        F: Fn(Services, Parameters) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, ControlError>> + Send + 'static,
    {
        Self {
            changes: true,
            role: Role::Operator,
            ..Self::view(name, summary, ask)
        }
    }

    /// Adds a parameter, `--name value` on the command line. All parameters may be left out; an answer that can't do
    /// without one says so by [`ControlError::Invalid`].
    #[must_use]
    pub fn parameter(self, name: &'static str, help: &'static str) -> Self {
        self.takes(name, help, ParameterKind::Value)
    }

    /// Adds a parameter that is true when given, `--name` on the command line.
    #[must_use]
    pub fn flag(self, name: &'static str, help: &'static str) -> Self {
        self.takes(name, help, ParameterKind::Flag)
    }

    /// Adds a parameter that takes the bare words of the command line, as a list.
    #[must_use]
    pub fn words(self, name: &'static str, help: &'static str) -> Self {
        self.takes(name, help, ParameterKind::Words)
    }

    fn takes(mut self, name: &'static str, help: &'static str, kind: ParameterKind) -> Self {
        self.parameters.push(Parameter { name, help, kind });
        self
    }

    /// It has an answer where the application has never run, such as what a first run would do. The command line, which
    /// otherwise refuses to look where there is no state directory, then makes one.
    #[must_use]
    pub fn first(mut self) -> Self {
        self.first = true;
        self
    }

    /// Only the command line answers it, in its own process, whether the application runs or not: it reads what whoever
    /// asks has at hand, such as a file. The API doesn't have it, because there it would read the server's files. It needs
    /// no state directory and must ask for no service that writes into one.
    #[must_use]
    pub fn here(mut self) -> Self {
        self.here = true;
        self
    }

    /// How the command line shows the answer to people, instead of as a table of its fields. Control characters other than
    /// line ends are its own business: what a stranger wrote must not reach a terminal as it is.
    #[must_use]
    pub fn told(mut self, told: fn(&Value) -> String) -> Self {
        self.told = Some(told);
        self
    }

    /// The least role that may call it.
    #[must_use]
    pub fn role(mut self, role: Role) -> Self {
        self.role = role;
        self
    }

    /// What the audit log gets of its parameters, where they may hold a secret.
    #[must_use]
    pub fn recorded_as(mut self, recorded: impl Fn(Parameters) -> Parameters + Send + Sync + 'static) -> Self {
        self.recorded = Some(Arc::new(recorded));
        self
    }

    /// What the audit log gets of these parameters.
    pub fn recorded(&self, parameters: &Parameters) -> Parameters {
        match &self.recorded {
            Some(recorded) => recorded(parameters.clone()),
            None => parameters.clone(),
        }
    }

    /// Answers. Checks the parameters' names, not the caller: that is done before.
    ///
    /// # Errors
    /// An unknown parameter, or what the answer itself fails with.
    pub async fn call(&self, services: Services, parameters: Parameters) -> Result<Value, ControlError> {
        let known = |name: &str| self.parameters.iter().any(|parameter| parameter.name == name);
        if let Some(name) = parameters.keys().find(|name| !known(name)) {
            let names: Vec<_> = self.parameters.iter().map(|parameter| parameter.name).collect();
            let names = if names.is_empty() {
                "none".into()
            } else {
                names.join(", ")
            };
            return Err(ControlError::Invalid(format!(
                "{} takes no parameter \"{name}\"; it takes: {names}",
                self.name
            )));
        }
        (self.ask)(services, parameters).await
    }
}

/// Whether the process is live or ready, as the open probes say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Yes or no.
    pub passed: bool,
    /// One word without details, such as `ok`, `starting` or `stopping`: the probes are open to anybody.
    pub word: &'static str,
}

/// An entry of the catalogue of views and actions.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct CatalogueEntry {
    /// The dotted name.
    pub name: String,
    /// What it tells or does.
    pub summary: String,
    /// Whether it changes something.
    pub changes: bool,
    /// The least role that may call it.
    pub role: Role,
    /// Its parameters.
    pub parameters: Vec<Parameter>,
    /// The JSON schema of its answer.
    pub answer: Value,
}

/// What a transport serves: the control plane without the wire. All methods but [`call`](Self::call) answer from memory.
#[async_trait]
pub trait ControlSurface: Send + Sync + 'static {
    /// Whether the platform can make progress. Always answers.
    fn live(&self) -> Probe;

    /// Whether the application takes work.
    fn ready(&self) -> Probe;

    /// Who presents this bearer token; `None` for nobody known. Compares in constant time.
    fn authenticate(&self, token: &str) -> Option<Caller>;

    /// Every view and action.
    fn catalogue(&self) -> Vec<CatalogueEntry>;

    /// Every metric, for transports that have a form of their own for them.
    fn metrics(&self) -> Vec<MetricFamily> {
        Vec::new()
    }

    /// Calls a view (`changes` false) or an action (`changes` true) for a caller; audits actions, refused ones too.
    ///
    /// # Errors
    /// The call is unknown, refused, timed out or failed.
    async fn call(
        &self,
        caller: &Caller,
        name: &str,
        changes: bool,
        parameters: Parameters,
    ) -> Result<Value, ControlError>;
}

/// Where and how a transport listens: the section `[platform.control]`, resolved.
#[derive(Clone, Debug)]
pub struct TransportSettings {
    /// `address:port`.
    pub listen: String,
    /// Host names that requests may name besides the loopback ones.
    pub hosts: Vec<String>,
}

/// A transport that accepts requests.
pub struct OpenTransport {
    /// Where it really listens, such as `http://127.0.0.1:8080`.
    pub address: String,
    /// Serves until the stop signal, then finishes what is in hand. To be polled by the control plane's own executor.
    pub serve: BoxFuture<'static, ()>,
}

/// Carries the control plane to people and programs, such as HTTP.
#[async_trait]
pub trait ControlTransport: Send + Sync + 'static {
    /// Binds; called once, on the control plane's own executor.
    ///
    /// - **`Ok`**: requests are accepted from now on.
    /// - **`Err`**: it can't listen; the message names the address and the remedy. Ends the start-up.
    async fn open(
        &self,
        settings: TransportSettings,
        surface: Arc<dyn ControlSurface>,
        stop: StopSignal,
    ) -> Result<OpenTransport, BoxError>;
}

/// The asking side of a transport: how the command line reaches a process that runs.
#[async_trait]
pub trait ControlClient: Send + Sync + 'static {
    /// Calls a view or an action of the process that listens at `address`, as [`ControlSurface::call`].
    ///
    /// # Errors
    /// The process does not answer within 30 s, refuses the token, or answers with an error of its own.
    async fn call(
        &self,
        address: &str,
        token: &Secret,
        name: &str,
        changes: bool,
        parameters: Parameters,
    ) -> Result<Value, ControlError>;
}
