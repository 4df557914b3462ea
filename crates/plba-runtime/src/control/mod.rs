//! The control plane without a wire: who may call which view or action, where the answer runs, and the audit of what was
//! called. Wires are adapters; what the platform's own views tell lives in `views`.

mod lifecycle;
mod serving;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use plba_contracts::clock::Clock;
use plba_contracts::control::{
    Caller, CatalogueEntry, ControlError, ControlSurface, Endpoint, Parameters, Probe, Role,
};
use plba_contracts::metrics::{MetricFamily, Metrics};
use plba_contracts::secret::Secret;
use plba_contracts::services::Services;
use serde_json::Value;
use tokio::runtime::Handle;

use crate::audit::AuditLog;

pub use self::lifecycle::{Lifecycle, Stage};
pub use self::serving::{ControlPlaneService, transport_failed};

/// How long a contributed view or action may take before the caller gets an answer without it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A question that is answered yes or no from memory.
pub type Verdict = dyn Fn() -> bool + Send + Sync;

/// The control plane without a wire. Cheap to clone; implements what transports serve.
#[derive(Clone)]
pub struct ControlPlane {
    shared: Arc<Shared>,
}

struct Shared {
    lifecycle: Lifecycle,
    clock: Arc<dyn Clock>,
    token: RwLock<Secret>,
    audit: AuditLog,
    /// Whether the platform can make progress.
    live: Box<Verdict>,
    /// Whether every critical part is usable.
    usable: Box<Verdict>,
    metrics: Metrics,
    own: BTreeMap<&'static str, Endpoint>,
    /// What modules contribute; replaced when a reload assembles them anew.
    contributed: RwLock<Arc<Contributed>>,
}

#[derive(Default)]
struct Contributed {
    endpoints: BTreeMap<&'static str, Endpoint>,
    /// What they are answered with, and where.
    means: Option<(Services, Handle)>,
}

/// Two views or actions have the same name.
#[derive(Debug, thiserror::Error)]
#[error("the view or action \"{0}\" is registered twice; rename one of them")]
pub struct DuplicateEndpoint(&'static str);

/// What the control plane is made of.
pub struct ControlParts {
    /// Where the process stands.
    pub lifecycle: Lifecycle,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The admin's token.
    pub token: Secret,
    /// Where actions are recorded.
    pub audit: AuditLog,
    /// Whether the platform can make progress.
    pub live: Box<Verdict>,
    /// Whether every critical part is usable.
    pub usable: Box<Verdict>,
    /// What there is to measure.
    pub metrics: Metrics,
    /// The platform's own views and actions, answered on the control plane's thread: views from memory, actions with a
    /// deadline of their own.
    pub own: Vec<Endpoint>,
}

impl ControlPlane {
    /// A control plane with the platform's own endpoints.
    pub fn new(parts: ControlParts) -> Self {
        Self {
            shared: Arc::new(Shared {
                lifecycle: parts.lifecycle,
                clock: parts.clock,
                token: RwLock::new(parts.token),
                audit: parts.audit,
                live: parts.live,
                usable: parts.usable,
                metrics: parts.metrics,
                own: parts
                    .own
                    .into_iter()
                    .map(|endpoint| (endpoint.name, endpoint))
                    .collect(),
                contributed: RwLock::default(),
            }),
        }
    }

    /// Takes what modules contribute, in place of what they contributed before; their answers run on `executor` with
    /// `services`.
    ///
    /// # Errors
    /// A name is taken, by another module or by the platform.
    pub fn contribute(
        &self,
        endpoints: Vec<Endpoint>,
        services: Services,
        executor: Handle,
    ) -> Result<(), DuplicateEndpoint> {
        let mut endpoints = self.unique(endpoints)?;
        endpoints.retain(|_, endpoint| !endpoint.here);
        let contributed = Contributed {
            endpoints,
            means: Some((services, executor)),
        };
        *self.shared.contributed.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(contributed);
        Ok(())
    }

    /// Whether modules may contribute these, all together.
    ///
    /// # Errors
    /// As [`contribute`](Self::contribute).
    pub fn fits(&self, endpoints: &[Endpoint]) -> Result<(), DuplicateEndpoint> {
        self.unique(endpoints.to_vec()).map(drop)
    }

    fn unique(&self, endpoints: Vec<Endpoint>) -> Result<BTreeMap<&'static str, Endpoint>, DuplicateEndpoint> {
        unique(endpoints, |name| self.shared.own.contains_key(name))
    }

    /// From now on this token is the admin's; callers with the one before, which is given back, are unknown.
    pub fn admit(&self, token: Secret) -> Secret {
        let mut known = self.shared.token.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut known, token)
    }

    /// Whether this is the admin's token.
    pub fn knows(&self, token: &str) -> bool {
        let known = self.shared.token.read().unwrap_or_else(PoisonError::into_inner);
        same_bytes(token.as_bytes(), known.expose().as_bytes())
    }

    fn contributed(&self) -> Arc<Contributed> {
        Arc::clone(&self.shared.contributed.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Carries out an action and records it, refused and failed ones too.
    async fn act(&self, name: &str, caller: &Caller, parameters: Parameters) -> Answer {
        let recorded = self.recorded(name, &parameters);
        let answer = self.answer(name, true, caller, parameters).await;
        let at = self.shared.clock.now();
        let failed = answer.as_ref().err();
        self.shared.audit.record(at, caller, name, &recorded, failed);
        answer
    }

    fn recorded(&self, name: &str, parameters: &Parameters) -> Parameters {
        let contributed = self.contributed();
        let endpoint = self.shared.own.get(name).or_else(|| contributed.endpoints.get(name));
        endpoint.map_or_else(|| parameters.clone(), |endpoint| endpoint.recorded(parameters))
    }

    async fn answer(&self, name: &str, changes: bool, caller: &Caller, parameters: Parameters) -> Answer {
        let contributed = self.contributed();
        let own = self.shared.own.get(name);
        let endpoint = own
            .or_else(|| contributed.endpoints.get(name))
            .filter(|endpoint| endpoint.changes == changes);
        let Some(endpoint) = endpoint else {
            let kind = if changes { "action" } else { "view" };
            return Err(ControlError::Unknown(format!("{kind} named \"{name}\"")));
        };
        if caller.role < endpoint.role {
            return Err(ControlError::Forbidden { needed: endpoint.role });
        }
        // Whoever answers may ask for the caller, as for a service.
        let asking = Arc::new(caller.clone());
        match &contributed.means {
            Some((services, executor)) if own.is_none() => {
                answer_elsewhere(endpoint.clone(), services.with(asking), executor, parameters).await
            }
            // The platform's own endpoints capture what else they need.
            _ => endpoint.call(Services::none().with(asking), parameters).await,
        }
    }
}

/// Answers on the workers' executor, under the deadline.
async fn answer_elsewhere(endpoint: Endpoint, services: Services, executor: &Handle, parameters: Parameters) -> Answer {
    let answering = executor.spawn(async move { endpoint.call(services, parameters).await });
    let abort = answering.abort_handle();
    match tokio::time::timeout(ANSWER_TIMEOUT, answering).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(broken)) if broken.is_panic() => Err(ControlError::Failed(
            crate::panic::panic_message(broken.into_panic().as_ref()).into(),
        )),
        Ok(Err(_)) => Err(ControlError::Failed("the process is stopping".into())),
        Err(_) => {
            abort.abort();
            Err(ControlError::TimedOut(ANSWER_TIMEOUT.as_secs()))
        }
    }
}

type Answer = Result<Value, ControlError>;

fn unique(
    endpoints: Vec<Endpoint>,
    taken: impl Fn(&str) -> bool,
) -> Result<BTreeMap<&'static str, Endpoint>, DuplicateEndpoint> {
    let mut by_name = BTreeMap::new();
    for endpoint in endpoints {
        let name = endpoint.name;
        if taken(name) || by_name.insert(name, endpoint).is_some() {
            return Err(DuplicateEndpoint(name));
        }
    }
    Ok(by_name)
}

#[async_trait]
impl ControlSurface for ControlPlane {
    fn live(&self) -> Probe {
        let passed = (self.shared.live)();
        Probe {
            passed,
            word: if passed { "ok" } else { "stalled" },
        }
    }

    fn ready(&self) -> Probe {
        match self.shared.lifecycle.stage() {
            Stage::Ready if (self.shared.usable)() => Probe {
                passed: true,
                word: "ready",
            },
            Stage::Ready => Probe {
                passed: false,
                word: "unhealthy",
            },
            stage => Probe {
                passed: false,
                word: stage.word(),
            },
        }
    }

    fn authenticate(&self, token: &str) -> Option<Caller> {
        self.knows(token).then(|| Caller {
            name: "control-token".into(),
            role: Role::Admin,
        })
    }

    fn catalogue(&self) -> Vec<CatalogueEntry> {
        let contributed = self.contributed();
        let entry = |endpoint: &Endpoint| CatalogueEntry {
            name: endpoint.name.to_owned(),
            summary: endpoint.summary.to_owned(),
            changes: endpoint.changes,
            role: endpoint.role,
            parameters: endpoint.parameters.clone(),
            answer: endpoint.answer.as_value().clone(),
        };
        self.shared
            .own
            .values()
            .chain(contributed.endpoints.values())
            .map(entry)
            .collect()
    }

    fn metrics(&self) -> Vec<MetricFamily> {
        self.shared.metrics.families()
    }

    async fn call(&self, caller: &Caller, name: &str, changes: bool, parameters: Parameters) -> Answer {
        if !changes {
            return self.answer(name, changes, caller, parameters).await;
        }
        // On a task of its own: an action whose caller goes away meanwhile is recorded all the same.
        let (plane, caller, name) = (self.clone(), caller.clone(), name.to_owned());
        let acting = tokio::spawn(async move { plane.act(&name, &caller, parameters).await });
        let broken = |error: tokio::task::JoinError| Err(ControlError::Failed(error.into()));
        acting.await.unwrap_or_else(broken)
    }
}

/// Compares in a time that depends on the lengths only.
fn same_bytes(given: &[u8], expected: &[u8]) -> bool {
    let difference = given
        .iter()
        .zip(expected)
        .fold(0, |difference, (a, b)| difference | (a ^ b));
    given.len() == expected.len() && std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::clock::SystemClock;
    use crate::services::{Provided, ServiceContainer};

    fn plane() -> ControlPlane {
        let own = vec![Endpoint::view::<u32, _, _>("one", "Tells one.", |_, _| async { Ok(1) })];
        let (live, usable): (Box<Verdict>, Box<Verdict>) = (Box::new(|| true), Box::new(|| true));
        let (clock, audit) = (Arc::new(SystemClock::new()), AuditLog::to_log_only());
        ControlPlane::new(ControlParts {
            lifecycle: Lifecycle::default(),
            clock,
            token: Secret::from("right"),
            audit,
            live,
            usable,
            metrics: Metrics::default(),
            own,
        })
    }

    fn contribute(plane: &ControlPlane, endpoints: Vec<Endpoint>) -> Result<(), DuplicateEndpoint> {
        let services = Arc::new(ServiceContainer::new(Vec::new(), Provided::default()).unwrap()).services();
        plane.contribute(endpoints, services, Handle::current())
    }

    fn viewer() -> Caller {
        Caller {
            name: "test".into(),
            role: Role::Viewer,
        }
    }

    #[test]
    fn only_the_right_token_is_known() {
        let plane = plane();
        assert_eq!(plane.authenticate("right").map(|caller| caller.role), Some(Role::Admin));
        for wrong in ["", "righ", "right ", "wrong", "RIGHT"] {
            assert_eq!(plane.authenticate(wrong), None, "{wrong}");
        }
        assert_eq!(plane.admit(Secret::from("new")).expose(), "right");
        assert!(plane.authenticate("right").is_none() && plane.authenticate("new").is_some());
    }

    #[test]
    fn a_process_is_ready_only_between_its_start_and_its_stop() {
        let plane = plane();
        assert_eq!(
            plane.ready(),
            Probe {
                passed: false,
                word: "starting"
            }
        );
        plane.shared.lifecycle.enter(Stage::Ready);
        assert!(plane.ready().passed);
        plane.shared.lifecycle.enter(Stage::Stopping);
        plane.shared.lifecycle.enter(Stage::Ready);
        assert_eq!(
            plane.ready(),
            Probe {
                passed: false,
                word: "stopping"
            }
        );
    }

    #[tokio::test]
    async fn an_action_needs_its_role_and_is_not_a_view() {
        let plane = plane();
        let action = Endpoint::action::<u32, _, _>("push", "Pushes.", |_, _| async { Ok(2) });
        contribute(&plane, vec![action]).unwrap();
        let refused = plane
            .call(&viewer(), "push", true, Parameters::new())
            .await
            .unwrap_err();
        assert!(matches!(refused, ControlError::Forbidden { needed: Role::Operator }));
        let unknown = plane
            .call(&viewer(), "push", false, Parameters::new())
            .await
            .unwrap_err();
        assert!(matches!(unknown, ControlError::Unknown(_)));
        let operator = Caller {
            role: Role::Operator,
            ..viewer()
        };
        assert_eq!(
            plane.call(&operator, "push", true, Parameters::new()).await.unwrap(),
            json!(2)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_view_that_hangs_or_panics_is_answered_for() {
        let plane = plane();
        let hangs = Endpoint::view::<u32, _, _>("hangs", "Hangs.", |_, _| std::future::pending());
        let panics = Endpoint::view::<u32, _, _>("panics", "Panics.", |_, _| async { panic!("oh") });
        contribute(&plane, vec![hangs, panics]).unwrap();
        let late = plane
            .call(&viewer(), "hangs", false, Parameters::new())
            .await
            .unwrap_err();
        assert!(matches!(late, ControlError::TimedOut(10)));
        let broken = plane
            .call(&viewer(), "panics", false, Parameters::new())
            .await
            .unwrap_err();
        assert_eq!(broken.to_string(), "panic: oh");
    }

    #[tokio::test]
    async fn what_only_the_command_line_answers_is_not_served() {
        let plane = plane();
        let reads = Endpoint::view::<u32, _, _>("reads", "Reads a file.", |_, _| async { Ok(1) }).here();
        contribute(&plane, vec![reads]).unwrap();
        let unknown = plane.call(&viewer(), "reads", false, Parameters::new()).await;
        assert!(matches!(unknown, Err(ControlError::Unknown(_))));
        assert!(plane.catalogue().iter().all(|entry| entry.name != "reads"));
    }

    #[tokio::test]
    async fn a_name_is_given_once() {
        let again = Endpoint::view::<u32, _, _>("one", "Tells one.", |_, _| async { Ok(1) });
        assert!(contribute(&plane(), vec![again]).is_err());
    }

    #[tokio::test]
    async fn parameters_are_checked_by_name() {
        let error = plane()
            .call(&viewer(), "one", false, Parameters::from_iter([("x".into(), json!(1))]))
            .await;
        assert_eq!(
            error.unwrap_err().to_string(),
            "one takes no parameter \"x\"; it takes: none"
        );
    }
}
