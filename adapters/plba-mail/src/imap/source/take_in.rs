//! Taking messages in: from UIDs to published tasks, with the cursor behind them.

use std::pin::pin;
use std::sync::Arc;

use plba_tasks::intake::Arrival;
use plba_tasks::ledger::{EntryState, Known};
use tracing::{error, warn};

use super::Fault;
use super::cursor::Cursor;
use super::shift::{KEYS, Open, Shift};
use crate::imap::fetch::{MAX_UIDS, batches};
use crate::imap::{Body, ImapError, Message};

impl Shift<'_> {
    /// What was taken in and is neither done nor in hand: left over by a killed process, or a dead letter to be retried.
    pub(super) async fn take_in_pending(&mut self, open: &mut Open) -> Result<(), Fault> {
        loop {
            let keys = self.intake.pending(KEYS).await?;
            if keys.is_empty() {
                return Ok(());
            }
            let (ours, others): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| open.cursor.uid(key).is_some());
            if !others.is_empty() {
                // Renumbered since: the same messages come again under new keys if they are still unread.
                warn!(
                    source = self.source.name,
                    count = others.len(),
                    "open messages have lost their numbers"
                );
                self.intake.lost(&others).await?;
            }
            let mut uids: Vec<u32> = ours.iter().filter_map(|key| open.cursor.uid(key)).collect();
            uids.sort_unstable();
            self.take_in(open, &uids, false).await?;
        }
    }

    /// Fetches and publishes `uids` (ascending). With `advance` the cursor follows.
    pub(super) async fn take_in(&mut self, open: &mut Open, uids: &[u32], advance: bool) -> Result<(), Fault> {
        let mut rest = uids;
        while let Some(&first) = rest.first() {
            if self.stop.is_requested() {
                return Err(Fault::Stopped);
            }
            let count = self.caution.portion(first, MAX_UIDS).min(rest.len());
            let (portion, later) = rest.split_at(count);
            let wanted = self.wanted(&open.cursor, portion).await?;
            let described = open.session.describe(&wanted).await;
            let messages = self.blame(&open.cursor, &wanted, described).await?;
            let messages = self.without_gone(open, &wanted, messages).await?;
            for batch in batches(&messages, self.source.settings.batch, self.source.settings.batch_bytes) {
                self.take_in_batch(open, &messages[batch], advance).await?;
            }
            if advance && let Some(&last) = portion.last() {
                self.advance(open, last).await?;
            }
            rest = later;
        }
        Ok(())
    }

    /// Leaves out what needs no fetching: messages that are done, in hand, or dead letters. The cursor may be behind those,
    /// because it is moved last.
    async fn wanted(&self, cursor: &Cursor, uids: &[u32]) -> Result<Vec<u32>, Fault> {
        let keys: Vec<Arc<str>> = uids.iter().map(|&uid| cursor.key(uid)).collect();
        let known = self.intake.known(&keys).await?;
        let wanted = |known: &Option<Known>| match known {
            Some(known) => known.state == EntryState::Open && !known.published,
            None => true,
        };
        Ok(uids
            .iter()
            .zip(&known)
            .filter(|(_, known)| wanted(known))
            .map(|(&uid, _)| uid)
            .collect())
    }

    /// Adds the messages that still exist though the server did not describe them, and gives up those that are gone.
    async fn without_gone(
        &mut self,
        open: &mut Open,
        uids: &[u32],
        mut messages: Vec<Message>,
    ) -> Result<Vec<Message>, Fault> {
        let unknown = |uid: &&u32| messages.binary_search_by_key(*uid, |message| message.uid).is_err();
        let unknown: Vec<u32> = uids.iter().filter(unknown).copied().collect();
        if unknown.is_empty() {
            return Ok(messages);
        }
        let existing = open.session.existing(&unknown).await?;
        let gone: Vec<u32> = unknown
            .into_iter()
            .filter(|uid| existing.binary_search(uid).is_err())
            .collect();
        self.give_up_gone(&open.cursor, &gone).await?;
        messages.extend(existing.into_iter().map(|uid| Message {
            uid,
            size: None,
            seen: false,
        }));
        messages.sort_unstable_by_key(|message| message.uid);
        Ok(messages)
    }

    /// Messages that were deleted before they could be fetched. Those that were taken in before have an entry to close.
    async fn give_up_gone(&mut self, cursor: &Cursor, uids: &[u32]) -> Result<(), Fault> {
        let keys: Vec<Arc<str>> = uids.iter().map(|&uid| cursor.key(uid)).collect();
        let known = self.intake.known(&keys).await?;
        let is_open = |known: &Option<Known>| known.as_ref().is_some_and(|known| known.state == EntryState::Open);
        let had: Vec<Arc<str>> = keys
            .into_iter()
            .zip(known)
            .filter(|(_, known)| is_open(known))
            .map(|(key, _)| key)
            .collect();
        if !had.is_empty() {
            self.intake.lost(&had).await?;
        }
        Ok(())
    }

    async fn take_in_batch(&mut self, open: &mut Open, messages: &[Message], advance: bool) -> Result<(), Fault> {
        let largest = self.source.location.common.max_message;
        let (fitting, outsized): (Vec<Message>, Vec<Message>) = messages
            .iter()
            .partition(|message| u64::from(message.size.unwrap_or(0)) <= largest);
        for message in outsized {
            let size = message.size.unwrap_or_default();
            let reason = format!("the message has {size} bytes, more than max_message ({largest})");
            self.bury(&open.cursor, message.uid, reason).await?;
        }
        let uids: Vec<u32> = fitting.iter().map(|message| message.uid).collect();
        if !uids.is_empty() {
            let expected = |message: &Message| message.size.map_or(largest, u64::from);
            let sizes = fitting.iter().map(expected).sum();
            // Servers count a few bytes differently from what they send; a lie beyond that ends the connection.
            let fetched = open.session.bodies(&uids, sizes, largest + largest / 8 + 1024).await;
            let bodies = self.blame(&open.cursor, &uids, fetched).await?;
            self.publish(open, bodies).await?;
            self.caution.succeeded(&uids);
        }
        if advance && let Some(last) = messages.last() {
            self.advance(open, last.uid).await?;
        }
        Ok(())
    }

    /// Passes a result on. A failure of one message alone, for the last time, puts that message out of the way.
    async fn blame<T>(&mut self, cursor: &Cursor, uids: &[u32], result: Result<T, ImapError>) -> Result<T, Fault> {
        let error = match result {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        if let Some(uid) = self.caution.failed(uids, &error) {
            self.bury(cursor, uid, format!("the message can't be fetched: {error}"))
                .await?;
        }
        Err(error.into())
    }

    /// Makes a message that can't become a task a dead letter, which can be looked at and retried.
    async fn bury(&self, cursor: &Cursor, uid: u32, reason: String) -> Result<(), Fault> {
        error!(source = self.source.name, uid, "{reason}");
        let settings = &self.source.settings;
        let at = self.source.board.now();
        let key = cursor.key(uid);
        Ok(self
            .intake
            .bury(key, &settings.queue, &settings.kind, at, reason)
            .await?)
    }

    /// Publishes fetched messages, however long the queue makes it wait, and marks completions meanwhile.
    async fn publish(&mut self, open: &mut Open, bodies: Vec<(u32, Body)>) -> Result<(), Fault> {
        let mut arrivals = Vec::with_capacity(bodies.len());
        let mut gone = Vec::new();
        for (uid, body) in bodies {
            match body {
                Body::Here(message) => arrivals.push(Arrival {
                    key: open.cursor.key(uid),
                    task: self.source.settings.task(message),
                }),
                Body::Gone => gone.push(uid),
            }
        }
        self.give_up_gone(&open.cursor, &gone).await?;
        let (intake, stop) = (self.intake, self.stop);
        let mut publishing = pin!(intake.publish(arrivals));
        loop {
            tokio::select! {
                biased;
                published = &mut publishing => {
                    self.source.board.add_published(published?.published);
                    return Ok(());
                }
                () = stop.requested() => return Err(Fault::Stopped),
                keys = self.completions.next() => {
                    self.tell(open, keys).await?;
                }
            }
        }
    }

    async fn advance(&mut self, open: &mut Open, last: u32) -> Result<(), Fault> {
        if last > open.cursor.last {
            open.cursor.last = last;
            open.cursor.save(self.intake).await?;
            self.forget(&open.cursor).await?;
        }
        Ok(())
    }
}
