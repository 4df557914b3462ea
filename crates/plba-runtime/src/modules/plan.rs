//! What of the workers a change leaves as it is, and what it does with the others. Pure: nothing is carried out here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use plba_contracts::worker::{Restart, WorkerDefinition};

/// What can be changed of a worker while it runs.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Live {
    pub(super) concurrency: u32,
    pub(super) restart: Restart,
    pub(super) stall_after: Duration,
    /// Of one that runs at an interval.
    pub(super) interval: Option<Duration>,
}

impl Live {
    /// As the worker's module says.
    pub(super) fn of(definition: &WorkerDefinition) -> Self {
        Self {
            concurrency: definition.concurrency,
            restart: definition.restart.clone(),
            stall_after: definition.stall_after,
            interval: definition.pace.as_ref().map(|pace| pace.own()),
        }
    }

    /// The running worker's definition says so from now on. Its instances hear of another interval by this.
    pub(super) fn put_into(&self, definition: &mut WorkerDefinition) {
        definition.concurrency = self.concurrency;
        definition.restart = self.restart.clone();
        definition.stall_after = self.stall_after;
        if let (Some(pace), Some(interval)) = (&definition.pace, self.interval) {
            pace.set_own(interval);
        }
    }
}

/// A worker as it is to be.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) definition: WorkerDefinition,
    pub(super) live: Live,
}

impl From<WorkerDefinition> for Wanted {
    fn from(definition: WorkerDefinition) -> Self {
        let live = Live::of(&definition);
        Self { definition, live }
    }
}

/// What is known of a worker that runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// It has asked for a service that goes.
    pub(super) holds: bool,
    /// A change that did not get through has let it rest.
    pub(super) rested: bool,
    /// It has completed its work.
    pub(super) finished: bool,
}

/// What a change does with the workers. Those that are named nowhere are not touched.
#[derive(Debug, Default)]
pub(super) struct WorkerPlan {
    /// Those that start.
    pub(super) added: Vec<Wanted>,
    /// Those that drain and start anew.
    pub(super) changed: Vec<Wanted>,
    /// Those that drain and go.
    pub(super) removed: Vec<String>,
    /// Those that go on, and differ in what can be changed meanwhile.
    pub(super) adjusted: Vec<Wanted>,
    /// Those that have to rest before services go: the first ones first, each list at once.
    pub(super) resting: Vec<Vec<String>>,
    /// How many are not touched.
    pub(super) kept: usize,
}

impl WorkerPlan {
    pub(super) fn new(
        running: &BTreeMap<String, WorkerDefinition>,
        wanted: Vec<Wanted>,
        facts: impl Fn(&str) -> Facts,
    ) -> Self {
        let mut plan = Self::default();
        let mut left: BTreeSet<&str> = running.keys().map(String::as_str).collect();
        let mut resting = BTreeSet::new();
        for wanted in wanted {
            let name = wanted.definition.name.as_str();
            let Some(runs) = running.get(name) else {
                plan.added.push(wanted);
                continue;
            };
            left.remove(name);
            let facts = facts(name);
            let same = is_same(runs, &wanted.definition);
            // Whose work is complete holds nothing, and would only do it again.
            let stays = same && !facts.rested && (!facts.holds || facts.finished);
            match stays {
                false => {
                    if facts.holds {
                        resting.insert(runs.name.as_str());
                    }
                    plan.changed.push(wanted);
                }
                true if Live::of(runs) == wanted.live => plan.kept += 1,
                true => plan.adjusted.push(wanted),
            }
        }
        resting.extend(left.iter().filter(|name| facts(name).holds));
        plan.removed = left.into_iter().map(str::to_owned).collect();
        plan.resting = layers(resting, running);
        plan
    }
}

/// Whether instances of one would be those of the other, and treated alike in all that can't change while they run.
fn is_same(runs: &WorkerDefinition, wanted: &WorkerDefinition) -> bool {
    if runs.build.is_same(&wanted.build) {
        return true;
    }
    runs.made_from.is_same(&wanted.made_from)
        && runs.pace.is_some() == wanted.pace.is_some()
        && runs.criticality == wanted.criticality
        && runs.liveness == wanted.liveness
        && runs.group == wanted.group
        && runs.exit_when_given_up == wanted.exit_when_given_up
        && runs.on_hang == wanted.on_hang
        && runs.after == wanted.after
        && runs.start_timeout == wanted.start_timeout
}

/// In the order of a stop: who starts after another rests before it.
fn layers(mut names: BTreeSet<&str>, running: &BTreeMap<String, WorkerDefinition>) -> Vec<Vec<String>> {
    let mut layers = Vec::new();
    while !names.is_empty() {
        let needed: BTreeSet<&str> = names
            .iter()
            .filter_map(|name| running.get(*name))
            .flat_map(|definition| definition.after.iter().map(String::as_str))
            .collect();
        let mut layer: Vec<&str> = names.iter().copied().filter(|name| !needed.contains(name)).collect();
        if layer.is_empty() {
            // A circle, which the supervisor does not let in.
            layer = names.iter().copied().collect();
        }
        names.retain(|name| !layer.contains(name));
        layers.push(layer.into_iter().map(str::to_owned).collect());
    }
    layers
}

#[cfg(test)]
mod tests {
    use plba_contracts::worker::{Pace, RestartPolicy};

    use super::*;

    fn worker(name: &str, from: &str) -> WorkerDefinition {
        WorkerDefinition::new(name, |_| async { Err("is never built".into()) }).made_from(from)
    }

    fn plan(running: &[WorkerDefinition], wanted: Vec<WorkerDefinition>, holds: &[&str]) -> WorkerPlan {
        let running = running
            .iter()
            .map(|worker| (worker.name.clone(), worker.clone()))
            .collect();
        let facts = |name: &str| Facts {
            holds: holds.contains(&name),
            ..Facts::default()
        };
        WorkerPlan::new(&running, wanted.into_iter().map(Wanted::from).collect(), facts)
    }

    fn names(wanted: &[Wanted]) -> Vec<&str> {
        wanted.iter().map(|wanted| wanted.definition.name.as_str()).collect()
    }

    #[test]
    fn who_would_be_the_same_is_not_touched() {
        let unstamped = || WorkerDefinition::new("unstamped", |_| async { Err("is never built".into()) });
        let untouched = unstamped();
        let running = [
            worker("stays", "a"),
            worker("changes", "a"),
            worker("goes", "a"),
            unstamped(),
        ];
        let wanted = vec![
            worker("stays", "a"),
            worker("changes", "b"),
            worker("comes", "a"),
            unstamped(),
        ];
        let planned = plan(&running, wanted, &[]);
        assert_eq!(names(&planned.added), ["comes"]);
        assert_eq!(names(&planned.changed), ["changes", "unstamped"]);
        assert_eq!(planned.removed, ["goes"]);
        assert_eq!((planned.kept, planned.resting.len()), (1, 0));
        let again = plan(std::slice::from_ref(&untouched), vec![untouched.clone()], &[]);
        assert_eq!(again.kept, 1, "a module that is not assembled anew");
    }

    #[test]
    fn what_can_change_while_it_runs_is_no_reason_to_start_anew() {
        let mut running = worker("orders", "a");
        running.pace = Some(Pace::every(Duration::from_secs(60)));
        let with = |change: &dyn Fn(&mut WorkerDefinition)| {
            let mut wanted = worker("orders", "a");
            wanted.pace = Some(Pace::every(Duration::from_secs(60)));
            change(&mut wanted);
            plan(&[running.clone()], vec![wanted], &[])
        };
        assert_eq!(with(&|_| {}).kept, 1);
        let live: [&dyn Fn(&mut WorkerDefinition); 4] = [
            &|wanted| wanted.concurrency = 7,
            &|wanted| wanted.restart = RestartPolicy::Never.into(),
            &|wanted| wanted.stall_after = Duration::from_secs(1),
            &|wanted| wanted.pace = Some(Pace::every(Duration::from_secs(5))),
        ];
        for change in live {
            assert_eq!(names(&with(change).adjusted), ["orders"]);
        }
        let others: [&dyn Fn(&mut WorkerDefinition); 4] = [
            &|wanted| wanted.after = vec!["mail".into()],
            &|wanted| wanted.liveness = true,
            &|wanted| wanted.start_timeout = Duration::from_secs(1),
            &|wanted| wanted.pace = None,
        ];
        for change in others {
            assert_eq!(names(&with(change).changed), ["orders"]);
        }
    }

    #[test]
    fn who_holds_what_goes_rests_before_it_does_sources_first() {
        let running = [
            worker("orders", "a"),
            worker("outbox", "a"),
            worker("mail", "a").after("orders").after("outbox"),
            worker("stall", "a").after("orders"),
            worker("alone", "a").after("mail"),
        ];
        let wanted = running[..3].iter().chain(&running[4..]).cloned().collect();
        let plan = plan(&running, wanted, &["orders", "mail", "stall"]);
        assert_eq!(
            plan.resting,
            [vec!["mail".to_owned(), "stall".to_owned()], vec!["orders".to_owned()]]
        );
        assert_eq!(names(&plan.changed), ["orders", "mail"]);
        assert_eq!((plan.removed, plan.kept), (vec!["stall".to_owned()], 2));
    }

    #[test]
    fn complete_work_is_not_done_again_because_a_service_changes() {
        let once = worker("once", "a");
        let running = BTreeMap::from([("once".to_owned(), once.clone())]);
        let facts = |finished, rested| Facts {
            holds: true,
            rested,
            finished,
        };
        let kept = |facts| WorkerPlan::new(&running, vec![once.clone().into()], |_| facts).kept;
        assert_eq!(
            (
                kept(facts(true, false)),
                kept(facts(false, false)),
                kept(facts(true, true))
            ),
            (1, 0, 0)
        );
    }
}
