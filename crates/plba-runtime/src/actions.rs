//! The platform's own actions: an operator restarts, pauses, resumes and scales workers. What these words mean to a
//! worker is the supervisor's; who may act, and the record of it, is the control plane's.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use plba_contracts::config::TimeSpan;
use plba_contracts::control::{ControlError, Endpoint, Parameters};
use plba_contracts::services::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use crate::supervisor::{SlotState, SupervisionError, WorkerSupervisor};

/// How long the supervisor's answer is waited for. Less than the 30 s after which the command line gives up asking.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// While the workers' executor runs nothing, an action can't be completed: then it is waited for only this long.
const STALLED_TIMEOUT: Duration = Duration::from_secs(1);

/// What became of an action on a worker.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Acted {
    /// The worker.
    pub worker: String,
    /// Whether it is as was asked, or on its way.
    pub outcome: ActionOutcome,
    /// Where the worker is now.
    pub state: Option<SlotState>,
    /// How many instances it has now.
    pub instances: usize,
}

/// Whether what was asked for is so by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActionOutcome {
    /// It is.
    Done,
    /// Not within 20 s, or 1 s while the workers' executor runs nothing; the supervisor goes on with it. The workers view tells how far it is.
    UnderWay,
}

type Command = fn(WorkerSupervisor, String, Parameters) -> BoxFuture<'static, Result<(), ControlError>>;

/// The actions on workers. Without a supervisor they describe themselves, for the command line to list and to read its
/// words by, and answer that nothing runs.
pub fn endpoints(supervisor: Option<&WorkerSupervisor>) -> Vec<Endpoint> {
    let action = |name, summary, command| action(supervisor.cloned(), name, summary, command);
    vec![
        action(
            "worker.restart",
            "Ends a worker's instances and starts it anew, its failures forgiven; also when it was given up or paused.",
            |supervisor, worker, _| Box::pin(async move { supervisor.restart(&worker).await.map_err(refused) }),
        ),
        action(
            "worker.pause",
            "Lets a worker finish what it has in hand and rest, until it is resumed or the time is over.",
            |supervisor, worker, parameters| {
                Box::pin(async move {
                    match rest(&parameters)? {
                        Rest::UntilResumed => supervisor.pause(&worker).await,
                        Rest::Until(moment) => supervisor.pause_until(&worker, moment).await,
                        Rest::For(span) => supervisor.pause_for(&worker, span).await,
                    }
                    .map_err(refused)
                })
            },
        )
        .parameter(
            "until",
            "until when, such as `2026-12-01T08:00:00Z`; until it is resumed when left out",
        )
        .parameter("for", "for how long instead, such as `1h 30m`"),
        action(
            "worker.resume",
            "Ends the rest of a worker.",
            |supervisor, worker, _| Box::pin(async move { supervisor.resume(&worker).await.map_err(refused) }),
        ),
        action(
            "worker.scale",
            "Runs another number of a worker's instances: more start at once, fewer finish what they have in hand.",
            |supervisor, worker, parameters| {
                Box::pin(async move {
                    let instances = instances(&parameters)?;
                    supervisor.scale(&worker, instances).await.map_err(refused)
                })
            },
        )
        .parameter("instances", "how many instances from now on"),
    ]
}

fn action(
    supervisor: Option<WorkerSupervisor>,
    name: &'static str,
    summary: &'static str,
    command: Command,
) -> Endpoint {
    let supervisor = supervisor.map(Arc::new);
    Endpoint::action(name, summary, move |_, parameters| {
        let supervisor = supervisor.clone();
        async move {
            let worker = worker(&parameters)?;
            let supervisor =
                supervisor.ok_or_else(|| ControlError::Failed("no process runs that has workers".into()))?;
            act(&supervisor, worker, parameters, command).await
        }
    })
    .words("worker", "the worker's name, as the workers view lists it")
}

/// Commands, and waits for the answer; what takes longer is carried out all the same, and says so.
async fn act(
    supervisor: &WorkerSupervisor,
    worker: String,
    parameters: Parameters,
    command: Command,
) -> Result<Acted, ControlError> {
    let commanded = command(supervisor.clone(), worker.clone(), parameters);
    let outcome = tokio::select! {
        biased;
        answered = commanded => answered.map(|()| ActionOutcome::Done)?,
        () = patience(supervisor) => ActionOutcome::UnderWay,
    };
    let view = supervisor.snapshot().into_iter().find(|view| view.name == worker);
    Ok(Acted {
        worker,
        outcome,
        state: view.as_ref().map(|view| view.state),
        instances: view.map_or(0, |view| view.slots.len()),
    })
}

/// How long an answer is waited for.
async fn patience(supervisor: &WorkerSupervisor) {
    let limit = Instant::now() + ANSWER_TIMEOUT;
    while Instant::now() < limit {
        tokio::time::sleep(STALLED_TIMEOUT).await;
        if supervisor.executor_stalled_for().is_some() {
            return;
        }
    }
}

/// The parameter `worker`: a name, or a list that has one.
fn worker(parameters: &Parameters) -> Result<String, ControlError> {
    let name = match parameters.get("worker") {
        Some(Value::String(name)) => Some(name.as_str()),
        Some(Value::Array(words)) => match words.as_slice() {
            [Value::String(name)] => Some(name.as_str()),
            _ => None,
        },
        _ => None,
    };
    let message = "the name of one worker is needed; the workers view lists those there are";
    name.map(str::to_owned)
        .ok_or_else(|| ControlError::Invalid(message.into()))
}

/// How long a worker is to rest.
#[derive(Debug, PartialEq)]
enum Rest {
    UntilResumed,
    Until(Timestamp),
    For(Duration),
}

/// The parameters `until` and `for`: at most one of them.
fn rest(parameters: &Parameters) -> Result<Rest, ControlError> {
    let given = |name: &str| parameters.get(name).filter(|given| !given.is_null());
    let wrong = |sentence: &str, given: &Value| Err(ControlError::Invalid(format!("{sentence}, not {given}")));
    match (given("until"), given("for")) {
        (None, None) => Ok(Rest::UntilResumed),
        (Some(_), Some(_)) => Err(ControlError::Invalid(
            "either `until` or `for` is given, not both".into(),
        )),
        (Some(until), None) => match until.as_str().map(str::parse) {
            Some(Ok(moment)) => Ok(Rest::Until(moment)),
            _ => wrong(
                "until takes a moment with its zone, such as `2026-12-01T08:00:00Z` (RFC 3339)",
                until,
            ),
        },
        (None, Some(span)) => match TimeSpan::deserialize(span) {
            Ok(span) if !span.0.is_zero() => Ok(Rest::For(span.into())),
            _ => wrong("for takes a span of time longer than 0, such as `1h 30m`", span),
        },
    }
}

/// The parameter `instances`: a number or its text.
fn instances(parameters: &Parameters) -> Result<u32, ControlError> {
    let given = parameters.get("instances");
    let number = given.and_then(|given| given.as_u64().or_else(|| given.as_str()?.parse().ok()));
    number.and_then(|number| u32::try_from(number).ok()).ok_or_else(|| {
        let given = given.map_or_else(|| "nothing".to_owned(), ToString::to_string);
        ControlError::Invalid(format!(
            "instances takes the number of instances from now on, not {given}"
        ))
    })
}

fn refused(error: SupervisionError) -> ControlError {
    match error {
        SupervisionError::Unknown(name) => {
            ControlError::Unknown(format!("worker \"{name}\"; the workers view lists those there are"))
        }
        SupervisionError::Instances | SupervisionError::PastPause(_) => ControlError::Invalid(error.to_string()),
        error => ControlError::Failed(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_worker_is_named_once() {
        let named = |value| worker(&Parameters::from_iter([("worker".to_owned(), value)]));
        assert_eq!(named(json!("orders")).unwrap(), "orders");
        assert_eq!(named(json!(["orders"])).unwrap(), "orders");
        for wrong in [json!([]), json!(["orders", "mail"]), json!(7), json!(null)] {
            assert!(matches!(named(wrong.clone()), Err(ControlError::Invalid(_))), "{wrong}");
        }
        assert!(worker(&Parameters::new()).is_err());
    }

    #[test]
    fn a_rest_has_a_moment_or_a_span_or_no_end() {
        let rest = |value: Value| rest(value.as_object().unwrap());
        assert_eq!(rest(json!({})).unwrap(), Rest::UntilResumed);
        let moment = "2026-12-01T08:00:00Z".parse().unwrap();
        assert_eq!(
            rest(json!({ "until": "2026-12-01T09:00:00+01:00" })).unwrap(),
            Rest::Until(moment)
        );
        assert_eq!(
            rest(json!({ "for": "1h 30m" })).unwrap(),
            Rest::For(Duration::from_secs(5_400))
        );
        for wrong in [
            json!({ "until": "tomorrow" }),
            json!({ "until": "2026-12-01T08:00:00" }),
            json!({ "for": "90" }),
            json!({ "for": "0s" }),
            json!({ "for": "-1h" }),
            json!({ "until": "2026-12-01T08:00:00Z", "for": "1h" }),
        ] {
            assert!(matches!(rest(wrong.clone()), Err(ControlError::Invalid(_))), "{wrong}");
        }
    }

    #[test]
    fn instances_are_a_number_or_its_text() {
        let number = |value| instances(&Parameters::from_iter([("instances".to_owned(), value)]));
        assert_eq!(number(json!(3)).unwrap(), 3);
        assert_eq!(number(json!("3")).unwrap(), 3);
        for wrong in [json!("three"), json!(-1), json!(1.5), json!(u64::MAX), json!([3])] {
            let message = number(wrong.clone()).unwrap_err().to_string();
            assert!(message.contains(&wrong.to_string()), "{message}");
        }
        assert!(
            instances(&Parameters::new())
                .unwrap_err()
                .to_string()
                .contains("nothing")
        );
    }
}
