//! Which unique keys of a named queue are taken, by which task and until when.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::task::{TaskId, Unique, UniqueScope};

/// The unique keys of one named queue.
#[derive(Default)]
pub(super) struct Uniques {
    claims: HashMap<Arc<str>, Claim>,
    /// When claims for a period end.
    ends: BTreeSet<(Duration, Arc<str>)>,
}

struct Claim {
    task: TaskId,
    /// `None` for as long as the task is neither done nor dead.
    until: Option<Duration>,
}

impl Uniques {
    /// The task that has this key now.
    pub(super) fn holder(&mut self, key: &str, now: Duration) -> Option<&TaskId> {
        self.let_end(now);
        self.claims.get(key).map(|claim| &claim.task)
    }

    /// The key is this task's from now on, whoever had it before.
    pub(super) fn claim(&mut self, unique: &Unique, task: TaskId, now: Duration) {
        let until = match unique.scope {
            UniqueScope::UntilDone => None,
            UniqueScope::For(period) => Some(now.saturating_add(period)),
        };
        if let Some(end) = until {
            self.ends.insert((end, Arc::clone(&unique.key)));
        }
        let before = self.claims.insert(Arc::clone(&unique.key), Claim { task, until });
        if let Some(end) = before.and_then(|claim| claim.until).filter(|end| Some(*end) != until) {
            self.ends.remove(&(end, Arc::clone(&unique.key)));
        }
    }

    /// The task is done, dead or gone: it needs the key no more, unless it has it for a period.
    pub(super) fn leave(&mut self, unique: &Unique, task: &TaskId) {
        let is_its_own = |claim: &Claim| claim.task == *task && claim.until.is_none();
        if self.claims.get(&unique.key).is_some_and(is_its_own) {
            self.claims.remove(&unique.key);
        }
    }

    fn let_end(&mut self, now: Duration) {
        while self.ends.first().is_some_and(|(end, _)| *end <= now)
            && let Some((_, key)) = self.ends.pop_first()
        {
            self.claims.remove(&key);
        }
    }
}
