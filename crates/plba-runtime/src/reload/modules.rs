//! The modules as a part that follows the configuration: each whose table changed is assembled anew while it is prepared, and
//! takes the place of what ran when it is applied; settings of single workers go with it. How modules are replaced is theirs.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::join_all;
use plba_contracts::application::table_of;
use plba_contracts::config::{BeforeChange, Published};
use plba_contracts::describe;
use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::timeout_at;
use tracing::info;

use crate::TARGET;
use crate::blueprint::{AssembledModule, BlueprintError, Launch, assemble, check_workers, platform_of};
use crate::config::change::{LivePart, Proposal, Refusal};
use crate::config::{ConfigFault, Configuration, ConfigurationManager, Consequence, vetoed};
use crate::modules::RunningModules;
use crate::tuning::Settings;

/// The modules of the process and its single workers' settings.
pub(super) struct ModulesPart<'a> {
    modules: &'a mut RunningModules,
    launch: Launch,
    configuration: Arc<ConfigurationManager>,
    /// Where those are asked who are asked before a change.
    workers: Handle,
    /// What the modules made of the configuration while it was prepared.
    prepared: Vec<AssembledModule>,
    /// Tables of modules that could not be started again: every reload tries them.
    down: BTreeSet<String>,
    /// Tables of the modules that the latest change has replaced.
    replaced: Vec<String>,
}

impl<'a> ModulesPart<'a> {
    pub(super) fn new(
        modules: &'a mut RunningModules,
        launch: Launch,
        configuration: Arc<ConfigurationManager>,
        workers: Handle,
    ) -> Self {
        Self {
            modules,
            launch,
            configuration,
            workers,
            prepared: Vec::new(),
            down: BTreeSet::new(),
            replaced: Vec::new(),
        }
    }

    /// Assembles what has changed, where a module that takes its time stops nothing else.
    async fn assemble(&self, proposal: &Proposal) -> Result<Vec<AssembledModule>, Refusal> {
        let (launch, down) = (self.launch.clone(), self.down.clone());
        let published = self.configuration.published_with(&proposal.next);
        let (running, next) = (Arc::clone(&proposal.running), Arc::clone(&proposal.next));
        let assembling = tokio::task::spawn_blocking(move || {
            let changed = assemble_changed(&launch, &running, &next, &down, &published)?;
            check_all_workers(&launch, &running, &next, &published)?;
            Ok(changed)
        });
        match assembling.await {
            Ok(assembled) => assembled.map_err(refusal),
            Err(broken) => Err(Refusal::Reason(format!("it was cut short: {broken}"))),
        }
    }

    /// Asks those whose section changes, all at once. Gives what they have against it.
    async fn ask(&self, proposal: &Proposal) -> Vec<ConfigFault> {
        if proposal.back {
            return Vec::new();
        }
        let asked = self.modules.before_change().filter_map(|subscriber| {
            let table = &subscriber.table;
            let concerned = proposal.next.differs_in(&proposal.running, table);
            concerned.then(|| ask_one(subscriber.clone(), proposal, &self.workers))
        });
        join_all(asked.collect::<Vec<_>>())
            .await
            .into_iter()
            .flatten()
            .collect()
    }

    async fn replace(&mut self, changed: Vec<AssembledModule>) -> Result<(), String> {
        self.replaced = changed.iter().map(|module| module.table.clone()).collect();
        if changed.is_empty() {
            // So that nothing is left that could be taken back.
            return self.modules.replace(changed).await.map_err(|error| error.to_string());
        }
        let tables: Vec<String> = changed.iter().map(|module| module.table.clone()).collect();
        let names: Vec<String> = changed.iter().map(|module| module.module.name().to_owned()).collect();
        let names = names.join(", ");
        match self.modules.replace(changed).await {
            Ok(()) => {
                self.down.retain(|table| !tables.contains(table));
                info!(target: TARGET, "{names} runs by the new configuration");
                Ok(())
            }
            Err(error) => {
                match error.restored {
                    true => self.down.retain(|table| !tables.contains(table)),
                    false => self.down.extend(tables),
                }
                Err(format!("{names}: {error}"))
            }
        }
    }
}

#[async_trait]
impl LivePart for ModulesPart<'_> {
    fn name(&self) -> &str {
        "modules"
    }

    fn unfinished(&self) -> bool {
        !self.down.is_empty()
    }

    async fn prepare(&mut self, proposal: &Proposal) -> Result<(), Refusal> {
        self.prepared.clear();
        let (assembled, refused) = tokio::join!(self.assemble(proposal), self.ask(proposal));
        match (assembled, refused.is_empty()) {
            (Ok(assembled), true) => {
                self.prepared = assembled;
                Ok(())
            }
            (Ok(_), false) => Err(Refusal::Faults(refused)),
            (Err(Refusal::Faults(faults)), _) => Err(Refusal::Faults([faults, refused].concat())),
            (Err(Refusal::Reason(reason)), _) => {
                let fault = vetoed(self.name(), &reason);
                Err(Refusal::Faults([vec![fault], refused].concat()))
            }
        }
    }

    async fn apply(&mut self, proposal: &Proposal) -> Result<(), String> {
        let (before, now) = (settings(&proposal.running), settings(&proposal.next));
        let prepared = std::mem::take(&mut self.prepared);
        self.modules.tune(now.clone());
        if let Err(error) = self.replace(prepared).await {
            // What came back is as it was, with the settings of before.
            self.modules.tune(before);
            return Err(error);
        }
        self.modules.retune(&before, &now).await;
        Ok(())
    }

    async fn undo(&mut self, proposal: &Proposal) -> Result<(), String> {
        let (before, now) = (settings(&proposal.running), settings(&proposal.next));
        self.modules.tune(before.clone());
        if let Err(error) = self.modules.take_back().await {
            self.down.extend(std::mem::take(&mut self.replaced));
            return Err(error.to_string());
        }
        self.modules.retune(&now, &before).await;
        Ok(())
    }
}

/// Asks one on the workers' executor, where it may wait for whatever its module waits for.
fn ask_one(
    subscriber: BeforeChange,
    proposal: &Proposal,
    workers: &Handle,
) -> impl Future<Output = Option<ConfigFault>> + Send + use<> {
    let sections = proposal
        .running
        .section(&subscriber.table)
        .zip(proposal.next.section(&subscriber.table));
    let name = subscriber.name.clone();
    let asked = sections.map(|(old, new)| Aborted::new(workers.spawn(async move { subscriber.ask(old, new).await })));
    let (deadline, too_late) = (proposal.deadline, proposal.too_late());
    async move {
        let mut asked = asked?;
        let reason = match timeout_at(deadline, &mut asked.task).await {
            Ok(Ok(Ok(()))) => return None,
            Ok(Ok(Err(error))) => describe(error.as_ref()),
            Ok(Err(panicked)) if panicked.is_panic() => "it panicked".to_owned(),
            Ok(Err(_)) => "it was cut short".to_owned(),
            Err(_) => too_late,
        };
        Some(vetoed(&name, &reason))
    }
}

/// A task that is ended when nobody waits for it any more.
struct Aborted<T> {
    task: JoinHandle<T>,
    abort: AbortHandle,
}

impl<T> Aborted<T> {
    fn new(task: JoinHandle<T>) -> Self {
        let abort = task.abort_handle();
        Self { task, abort }
    }
}

impl<T> Drop for Aborted<T> {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

fn settings(configuration: &Configuration) -> Settings {
    let platform = platform_of(configuration);
    platform.map(|platform| platform.workers.clone()).unwrap_or_default()
}

fn refusal(error: BlueprintError) -> Refusal {
    match error {
        BlueprintError::Misconfigured(report) => Refusal::Faults(report.faults),
        other => Refusal::Reason(other.to_string()),
    }
}

fn assemble_changed(
    launch: &Launch,
    old: &Configuration,
    new: &Configuration,
    down: &BTreeSet<String>,
    published: &Arc<dyn Published>,
) -> Result<Vec<AssembledModule>, BlueprintError> {
    let platform = platform_of(new)?;
    let changed = launch.modules.iter().filter(|module| {
        let table = table_of(module.name());
        new.differs_in(old, &table) || down.contains(&table)
    });
    changed
        .map(|module| assemble(module, new, &platform, published))
        .collect()
}

/// Checks the settings of single workers against all that there will be. Assembling does no input or output, so that doing
/// it once more only costs a moment.
fn check_all_workers(
    launch: &Launch,
    old: &Configuration,
    new: &Configuration,
    published: &Arc<dyn Published>,
) -> Result<(), BlueprintError> {
    let platform = platform_of(new)?;
    if platform.workers.is_empty() {
        return Ok(());
    }
    let modules = launch.modules.iter();
    let modules = modules.map(|module| assemble(module, new, &platform, published));
    let stays = Consequence::StaysRunning {
        generation: old.generation(),
    };
    check_workers(new, &modules.collect::<Result<Vec<_>, _>>()?, stays)
}
