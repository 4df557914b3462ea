//! Dead letters as an operator knows them: those of the queue, and those that only the ledger of sources has, because a
//! source could not make a task of what it found. Where the queue does not count the latter in, it is done here.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use plba_contracts::control::ControlError;
use plba_contracts::services::Services;

use super::parameters::invalid;
use super::{failed, queue};
use crate::ledger::{DeliveryEnd, SourceLedger};
use crate::queue::{Cursor, DeadFilter, DeadLetter, DeadPage, DeadTask, TaskQueue};
use crate::task::{AttemptEnd, EndedAttempt, Headers, Origin, QueueName, TaskId};

/// What a cursor begins with that goes on in the ledger.
const LEDGER: &str = "only-ledger:";

/// How many letters of the ledger are read at a time.
const PAGE: usize = 1_000;

/// The dead letters of a program.
pub(super) struct Letters {
    queue: Arc<dyn TaskQueue>,
    /// Of a program with sources.
    ledger: Option<Arc<dyn SourceLedger>>,
    /// Whether the queue leaves out what only the ledger has.
    apart: bool,
}

/// What names a dead letter, and what its source knows it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) queue: QueueName,
    pub(super) id: TaskId,
    pub(super) origin: Option<Origin>,
}

/// What is to become of dead letters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Retry,
    Drop,
}

impl From<DeadLetter> for Named {
    fn from(letter: DeadLetter) -> Self {
        Self {
            queue: letter.queue,
            id: letter.id,
            origin: letter.origin,
        }
    }
}

impl Letters {
    pub(super) async fn of(services: &Services) -> Result<Self, ControlError> {
        let queue = queue(services).await?;
        let apart = !queue.has_letters_of_ledger();
        let ledger = services.get::<dyn SourceLedger>().await.ok();
        Ok(Self { queue, ledger, apart })
    }

    /// A page: the queue's letters, and after its last page the ledger's.
    pub(super) async fn page(
        &self,
        filter: &DeadFilter,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<DeadPage, ControlError> {
        let in_ledger = cursor.as_ref().and_then(|cursor| cursor.0.strip_prefix(LEDGER));
        if let (Some(from), Some(ledger)) = (in_ledger, &self.ledger) {
            let from = Some(from).filter(|from| !from.is_empty());
            return of_ledger(ledger.as_ref(), filter, from.map(|from| Cursor(from.to_owned())), limit).await;
        }
        let mut page = self.queue.dead_letters(filter, cursor, limit).await.map_err(failed)?;
        let Some(ledger) = self.ledger.as_ref().filter(|_| self.apart && page.next.is_none()) else {
            return Ok(page);
        };
        let rest = limit.saturating_sub(page.letters.len());
        if rest == 0 {
            let more = ledger.dead_letters(None, 1).await.map_err(failed)?;
            page.next = (!more.letters.is_empty()).then(|| Cursor(LEDGER.to_owned()));
            return Ok(page);
        }
        let theirs = of_ledger(ledger.as_ref(), filter, None, rest).await?;
        page.letters.extend(theirs.letters);
        page.next = theirs.next;
        Ok(page)
    }

    /// One letter, whole.
    pub(super) async fn one(&self, queue: &QueueName, id: &TaskId) -> Result<Option<DeadTask>, ControlError> {
        let found = self.queue.dead_task(queue, id).await.map_err(failed)?;
        if found.is_some() || !self.apart {
            return Ok(found);
        }
        let mut found = None;
        self.look_through_ledger(|letter| {
            if letter.id == *id && letter.queue == *queue {
                found = Some(letter);
            }
        })
        .await?;
        // The payload is with its source.
        Ok(found.map(|letter| DeadTask {
            letter,
            payload: Bytes::new(),
            headers: Headers::new(),
            decoded: true,
        }))
    }

    /// The letters with these ids, in whichever queue or in the given one; those that are not there are left out.
    ///
    /// # Errors
    /// An id is in several queues, and none is given.
    pub(super) async fn named(&self, queue: Option<&QueueName>, ids: &[TaskId]) -> Result<Vec<Named>, ControlError> {
        let names: Vec<QueueName> = match queue {
            Some(queue) => vec![queue.clone()],
            None => {
                let stats = self.queue.stats().await.map_err(failed)?;
                stats.into_iter().map(|stats| stats.queue.into()).collect()
            }
        };
        let mut found: BTreeMap<&TaskId, Vec<Named>> = ids.iter().map(|id| (id, Vec::new())).collect();
        for (id, found) in &mut found {
            for name in &names {
                let task = self.queue.dead_task(name, id).await.map_err(failed)?;
                found.extend(task.map(|task| Named::from(task.letter)));
            }
        }
        self.look_through_ledger(|letter| {
            let wanted = queue.is_none_or(|queue| letter.queue == *queue);
            if let Some(found) = found.get_mut(&letter.id).filter(|_| wanted) {
                let letter = Named::from(letter);
                if !found.iter().any(|known| known.queue == letter.queue) {
                    found.push(letter);
                }
            }
        })
        .await?;
        if let Some((id, several)) = found.iter().find(|(_, found)| found.len() > 1) {
            let names: Vec<_> = several.iter().map(|letter| letter.queue.as_str()).collect();
            return Err(invalid(format!(
                "there are dead letters with the id {id} in {}; name one queue by --queue",
                names.join(", ")
            )));
        }
        Ok(found.into_values().flatten().collect())
    }

    /// Retries or drops letters; gives how many there were.
    pub(super) async fn change(
        &self,
        change: Change,
        letters: Vec<Named>,
        now: Timestamp,
    ) -> Result<usize, ControlError> {
        let mut by_queue: BTreeMap<QueueName, Vec<Named>> = BTreeMap::new();
        for letter in letters {
            by_queue.entry(letter.queue.clone()).or_default().push(letter);
        }
        let mut count = 0;
        for (queue, letters) in by_queue {
            let ids: Vec<TaskId> = letters.iter().map(|letter| letter.id.clone()).collect();
            let ledger = self.ledger.as_ref().filter(|_| self.apart);
            if let Some(ledger) = ledger.filter(|_| change == Change::Drop) {
                give_up(ledger.as_ref(), letters, now).await?;
            }
            let mut changed = match change {
                Change::Retry => self.queue.retry_dead(&queue, &ids).await,
                Change::Drop => self.queue.drop_dead(&queue, &ids).await,
            }
            .map_err(failed)?;
            if let Some(ledger) = ledger {
                changed += match change {
                    Change::Retry => ledger.retry_dead(&queue, &ids).await,
                    Change::Drop => ledger.drop_dead(&queue, &ids).await,
                }
                .map_err(failed)?;
            }
            // A letter that both had is one.
            count += changed.min(ids.len());
        }
        Ok(count)
    }

    async fn look_through_ledger(&self, mut look: impl FnMut(DeadLetter)) -> Result<(), ControlError> {
        let Some(ledger) = &self.ledger else { return Ok(()) };
        let mut cursor = None;
        loop {
            let page = ledger.dead_letters(cursor, PAGE).await.map_err(failed)?;
            page.letters.into_iter().for_each(&mut look);
            cursor = page.next;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }
}

/// A page of the ledger's letters.
async fn of_ledger(
    ledger: &dyn SourceLedger,
    filter: &DeadFilter,
    cursor: Option<Cursor>,
    limit: usize,
) -> Result<DeadPage, ControlError> {
    let mut page = ledger.dead_letters(cursor, limit).await.map_err(failed)?;
    page.letters.retain(|letter| filter.matches(letter));
    page.next = page.next.map(|next| Cursor(format!("{LEDGER}{}", next.0)));
    Ok(page)
}

/// The ledger is told of sources' tasks that are dead in a queue which does not tell it: or what is dropped there would be
/// open here for ever, and be fetched and published again at the next start.
async fn give_up(ledger: &dyn SourceLedger, letters: Vec<Named>, now: Timestamp) -> Result<(), ControlError> {
    let reason = "its dead letter was dropped";
    let end = |Named { queue, origin, .. }: Named| {
        let end = DeliveryEnd::Dead {
            attempt: EndedAttempt::new(now, AttemptEnd::Rejected, reason),
            queue: queue.as_str().to_owned(),
            kind: String::new(),
        };
        Some((origin?, end))
    };
    let ends: Vec<_> = letters.into_iter().filter_map(end).collect();
    if ends.is_empty() {
        return Ok(());
    }
    ledger.record_ends(ends).await.map_err(failed)
}
