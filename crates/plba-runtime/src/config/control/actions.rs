//! Actions on the configuration: set and take back overrides, and reload. Each is a reload of the running process, and is
//! answered when that is over.

use std::sync::Arc;
use std::time::Duration;

use plba_contracts::control::{Caller, ControlError, Endpoint, Parameters, Role};
use plba_contracts::services::Services;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parameters;
use crate::config::change::{ConfigDiff, ReloadOutcome, RequestError, Trigger};
use crate::config::manager::ConfigurationManager;
use crate::config::overrides::{OverrideChange, OverrideKeeper, OverrideRefusal};

/// How long the end of a reload is waited for. Less than the 30 s after which the command line gives up asking.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// What became of an action on the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigActed {
    /// `applied`, `unchanged`, or `under_way` when it took longer than an answer may; the history tells its end.
    pub outcome: String,
    /// The configuration that runs.
    pub generation: u64,
    /// What changed.
    #[serde(flatten)]
    pub diff: ConfigDiff,
    /// How long it is watched: if workers fail by it meanwhile, what ran before comes back.
    pub probation: Option<String>,
}

/// The actions. Without a process they describe themselves, and answer that nothing runs.
pub fn endpoints(process: Option<(Arc<ConfigurationManager>, Arc<OverrideKeeper>)>) -> Vec<Endpoint> {
    let (setting, unsetting, reloading) = (process.clone(), process.clone(), process.clone());
    let recording = process.map(|(manager, _)| manager);
    vec![
        Endpoint::action(
            "config.set",
            "Sets values above all other layers, without a restart; they are kept until they are unset or their time is over.",
            move |services, parameters| {
                let process = setting.clone();
                async move { set(running(process)?, services, parameters).await }
            },
        )
        .words("values", "what is set, as KEY=VALUE; several are set at once")
        .parameter("for", "for how long, such as `2h`; for good when left out")
        .parameter("until", "until when instead, such as `2026-12-01T08:00:00Z`")
        .parameter("why", "what for, for those who look at it later")
        .recorded_as(move |parameters| match &recording {
            Some(manager) => parameters::recorded(parameters, &manager.current()),
            None => parameters,
        })
        .role(Role::Admin),
        Endpoint::action(
            "config.unset",
            "Takes overrides back: what the other layers say counts again.",
            move |services, parameters| {
                let process = unsetting.clone();
                async move {
                    let keys = parameters::keys(&parameters)?;
                    change(running(process)?, services, OverrideChange::Unset { keys }).await
                }
            },
        )
        .words("keys", "the keys, as `config.overrides` lists them")
        .role(Role::Admin),
        Endpoint::action(
            "config.reload",
            "Reads the configuration again, and puts it to work if nothing speaks against it.",
            move |services, _| {
                let process = reloading.clone();
                async move {
                    let (manager, _) = running(process)?;
                    let by = name(&services).await?;
                    let asked = Arc::clone(&manager);
                    let asking = async move { asked.requests().ask_and_wait(Trigger::Action { by }).await };
                    answer(&manager, asking).await
                }
            },
        ),
    ]
}

type Process = (Arc<ConfigurationManager>, Arc<OverrideKeeper>);

fn running(process: Option<Process>) -> Result<Process, ControlError> {
    process.ok_or_else(|| ControlError::Failed("no process runs whose configuration could be changed".into()))
}

async fn set(process: Process, services: Services, parameters: Parameters) -> Result<ConfigActed, ControlError> {
    let (manager, _) = &process;
    let now = manager.overrides().now();
    let now = now.ok_or_else(|| ControlError::Failed("this process keeps no overrides".into()))?;
    let change_ = OverrideChange::Set {
        values: parameters::assignments(&parameters, &manager.current())?,
        until: parameters::until(&parameters, now)?,
        why: parameters::why(&parameters)?,
    };
    change(process, services, change_).await
}

async fn change(
    (manager, keeper): Process,
    services: Services,
    change: OverrideChange,
) -> Result<ConfigActed, ControlError> {
    let by = name(&services).await?;
    answer(&manager, async move { keeper.change(&change, &by).await }).await
}

async fn name(services: &Services) -> Result<String, ControlError> {
    let caller = services.get::<Caller>().await;
    let caller = caller.map_err(|error| ControlError::Failed(error.into()))?;
    Ok(caller.name.clone())
}

/// Waits for the outcome; what takes longer is carried out all the same.
async fn answer<E>(
    manager: &ConfigurationManager,
    asking: impl Future<Output = Result<ReloadOutcome, E>> + Send + 'static,
) -> Result<ConfigActed, ControlError>
where
    E: Into<OverrideRefusal> + Send + 'static,
{
    let asking = tokio::spawn(asking);
    let acted = |outcome: &str, generation, diff| ConfigActed {
        outcome: outcome.to_owned(),
        generation,
        diff,
        probation: None,
    };
    let Ok(asked) = tokio::time::timeout(ANSWER_TIMEOUT, asking).await else {
        return Ok(acted(
            "under_way",
            manager.current().generation(),
            ConfigDiff::default(),
        ));
    };
    let asked = asked.map_err(|broken| ControlError::Failed(broken.into()))?;
    let probation = manager.current().settings().probation;
    match asked.map_err(|error| refused(error.into()))? {
        ReloadOutcome::Unchanged { generation } => Ok(acted("unchanged", generation, ConfigDiff::default())),
        ReloadOutcome::Applied { generation, diff, .. } => Ok(ConfigActed {
            probation: (!probation.0.is_zero()).then(|| probation.to_string()),
            ..acted("applied", generation, diff)
        }),
        ReloadOutcome::Rejected { reason, .. } | ReloadOutcome::TakenBack { reason, .. } => {
            Err(ControlError::Invalid(reason))
        }
    }
}

fn refused(error: OverrideRefusal) -> ControlError {
    match error {
        OverrideRefusal::File(_) | OverrideRefusal::Request(RequestError::Stopping | RequestError::Crowded) => {
            ControlError::Failed(error.into())
        }
        error => ControlError::Invalid(error.to_string()),
    }
}
