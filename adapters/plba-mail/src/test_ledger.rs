//! A ledger in memory for tests of sources, with a restart that keeps what a durable one would keep.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use jiff::Timestamp;
use plba_tasks::ledger::{Counts, DeliveryEnd, EntryState, Known, LedgerError, LedgerStats, SourceLedger};
use plba_tasks::queue::{Cursor, DeadLetter, DeadPage, Durability};
use plba_tasks::task::{Origin, QueueName, TaskId};

/// Entries by source and key, in the order of their intake.
#[derive(Debug, Default)]
pub(crate) struct TestLedger {
    state: Mutex<State>,
}

#[derive(Debug, Default, Clone)]
struct State {
    entries: BTreeMap<(String, String), (u64, Known)>,
    cursors: HashMap<String, String>,
    next: u64,
}

impl TestLedger {
    /// The ledger as another process finds it.
    pub(crate) fn after_restart(&self) -> Self {
        let mut state = self.lock().clone();
        for (_, known) in state.entries.values_mut() {
            known.published = false;
        }
        TestLedger {
            state: Mutex::new(state),
        }
    }

    /// The keys in this state, sorted.
    pub(crate) fn keys(&self, wanted: EntryState) -> Vec<String> {
        let state = self.lock();
        let found = state.entries.iter().filter(|(_, (_, known))| known.state == wanted);
        found.map(|((_, key), _)| key.clone()).collect()
    }

    /// What a source has noted last.
    pub(crate) fn kept_cursor(&self, source: &str) -> Option<String> {
        self.lock().cursors.get(source).cloned()
    }

    /// Why an entry died.
    pub(crate) fn reason(&self, wanted: &str) -> Option<String> {
        let state = self.lock();
        let mut found = state.entries.iter().filter(|((_, key), _)| key == wanted);
        found
            .next()
            .and_then(|(_, (_, known))| known.history.last().map(|end| end.reason.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn list(&self, source: &str, limit: usize, wanted: impl Fn(&Known) -> bool) -> Vec<Arc<str>> {
        let state = self.lock();
        let mut found: Vec<(u64, Arc<str>)> = Vec::new();
        for ((owner, key), (order, known)) in &state.entries {
            if owner == source && wanted(known) {
                found.push((*order, key.as_str().into()));
            }
        }
        found.sort();
        found.into_iter().take(limit).map(|(_, key)| key).collect()
    }
}

impl State {
    fn entry(&mut self, source: &str, key: &str) -> &mut Known {
        self.next += 1;
        let fresh = Known {
            state: EntryState::Open,
            counts: Counts::default(),
            history: Vec::new(),
            published: false,
        };
        let entry = self.entries.entry((source.to_owned(), key.to_owned()));
        &mut entry.or_insert((self.next, fresh)).1
    }
}

/// Where a ledger on a disk waits, so that whoever is dropped there has written and does not know it.
async fn written() {
    tokio::task::yield_now().await;
}

#[async_trait]
impl SourceLedger for TestLedger {
    fn durability(&self) -> Durability {
        Durability::OsCrash
    }

    async fn record_intake(&self, source: &str, keys: &[Arc<str>]) -> Result<(), LedgerError> {
        {
            let mut state = self.lock();
            keys.iter().for_each(|key| state.entry(source, key).published = true);
        }
        written().await;
        Ok(())
    }

    async fn count_deliveries(&self, origins: &[Origin]) -> Result<Vec<Option<Counts>>, LedgerError> {
        let mut state = self.lock();
        let counted = origins.iter().map(|origin| {
            let known = state.entry(&origin.source, &origin.key);
            known.counts.deliveries += 1;
            (known.state == EntryState::Open).then_some(known.counts)
        });
        Ok(counted.collect())
    }

    async fn record_ends(&self, ends: Vec<(Origin, DeliveryEnd)>) -> Result<(), LedgerError> {
        for (origin, end) in ends {
            let mut state = self.lock();
            let known = state.entry(&origin.source, &origin.key);
            match end {
                _ if known.state != EntryState::Open => {}
                DeliveryEnd::Released => {}
                DeliveryEnd::Failed(attempt) => known.history.push(attempt),
                DeliveryEnd::Done => known.state = EntryState::Done,
                DeliveryEnd::Dead { attempt, .. } => {
                    known.history.push(attempt);
                    known.state = EntryState::Dead;
                }
            }
        }
        written().await;
        Ok(())
    }

    async fn settle(&self, source: &str, keys: &[Arc<str>]) -> Result<(), LedgerError> {
        for key in keys {
            let mut state = self.lock();
            let entry = state.entries.get_mut(&(source.to_owned(), key.to_string()));
            if let Some((_, known)) = entry.filter(|(_, known)| known.state == EntryState::Done) {
                known.state = EntryState::Settled;
            }
        }
        written().await;
        Ok(())
    }

    async fn forget(&self, source: &str, keys: &[Arc<str>]) -> Result<(), LedgerError> {
        let mut state = self.lock();
        for key in keys {
            let id = (source.to_owned(), key.to_string());
            if state
                .entries
                .get(&id)
                .is_some_and(|(_, known)| known.state == EntryState::Settled)
            {
                state.entries.remove(&id);
            }
        }
        Ok(())
    }

    async fn known(&self, source: &str, keys: &[Arc<str>]) -> Result<Vec<Option<Known>>, LedgerError> {
        let state = self.lock();
        let find = |key: &Arc<str>| state.entries.get(&(source.to_owned(), key.to_string()));
        Ok(keys
            .iter()
            .map(|key| find(key).map(|(_, known)| known.clone()))
            .collect())
    }

    async fn pending(&self, source: &str, limit: usize) -> Result<Vec<Arc<str>>, LedgerError> {
        Ok(self.list(source, limit, |known| {
            known.state == EntryState::Open && !known.published
        }))
    }

    async fn unsettled(&self, source: &str, limit: usize) -> Result<Vec<Arc<str>>, LedgerError> {
        Ok(self.list(source, limit, |known| known.state == EntryState::Done))
    }

    async fn cursor(&self, source: &str) -> Result<Option<String>, LedgerError> {
        Ok(self.lock().cursors.get(source).cloned())
    }

    async fn set_cursor(&self, source: &str, cursor: &str) -> Result<(), LedgerError> {
        self.lock().cursors.insert(source.to_owned(), cursor.to_owned());
        written().await;
        Ok(())
    }

    async fn dead_letters(&self, _cursor: Option<Cursor>, _limit: usize) -> Result<DeadPage, LedgerError> {
        let state = self.lock();
        let dead = state
            .entries
            .iter()
            .filter(|(_, (_, known))| known.state == EntryState::Dead);
        let letter = |((source, key), (_, known)): (&(String, String), &(u64, Known))| {
            let origin = Origin::new(source.as_str(), key.as_str());
            DeadLetter {
                id: origin.task_id(),
                queue: "orders".into(),
                kind: "order.received".into(),
                origin: Some(origin),
                died: Timestamp::UNIX_EPOCH,
                reason: known.history.last().map(|end| end.reason.clone()).unwrap_or_default(),
                deliveries: known.counts.deliveries,
                history: known.history.clone(),
            }
        };
        Ok(DeadPage {
            letters: dead.map(letter).collect(),
            next: None,
        })
    }

    async fn retry_dead(&self, _queue: &QueueName, ids: &[TaskId]) -> Result<usize, LedgerError> {
        let mut retried = 0;
        for ((source, key), (_, known)) in &mut self.lock().entries {
            let id = Origin::new(source.as_str(), key.as_str()).task_id();
            if known.state == EntryState::Dead && ids.contains(&id) {
                known.state = EntryState::Open;
                known.published = false;
                retried += 1;
            }
        }
        Ok(retried)
    }

    async fn drop_dead(&self, _queue: &QueueName, _ids: &[TaskId]) -> Result<usize, LedgerError> {
        Ok(0)
    }

    async fn stats(&self) -> Result<Vec<LedgerStats>, LedgerError> {
        Ok(Vec::new())
    }
}
