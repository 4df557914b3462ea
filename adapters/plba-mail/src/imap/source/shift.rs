//! One connection's work: take in what is new, mark what is done, wait, again. Every fault ends the connection; what must
//! outlive it is kept here between connections.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use plba_contracts::stop::StopSignal;
use plba_tasks::intake::{Arrival, Intake};
use plba_tasks::ledger::{EntryState, Known};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info, warn};

use super::caution::Caution;
use super::cursor::Cursor;
use super::{Fault, ImapSource};
use crate::completions::{BATCH, Completions, untold};
use crate::imap::fetch::{MAX_UIDS, batches};
use crate::imap::{Body, ImapSession, Message};

/// How many pending or unsettled keys are asked of the ledger at once.
const KEYS: usize = 1000;

/// How long a connection is left without a command: servers close idle ones after 30 min, and some routers sooner.
const PULSE: Duration = Duration::from_secs(300);

/// How a wait ended.
#[derive(PartialEq, Eq)]
enum Rest {
    Over,
    Stop,
}

/// A source at work, over any number of connections.
pub(super) struct Shift<'s> {
    source: &'s ImapSource,
    intake: &'s Intake,
    stop: &'s StopSignal,
    completions: Completions,
    caution: Caution,
    /// The UIDVALIDITY that the caution is about.
    numbering: Option<u32>,
    connected: Option<Instant>,
    /// Settled keys that the cursor did not cover yet.
    unforgotten: Vec<Arc<str>>,
    /// Whether the ledger may hold completions of which upstream was not told.
    unsettled: bool,
}

/// What belongs to one connection.
struct Open {
    session: ImapSession,
    cursor: Cursor,
}

impl<'s> Shift<'s> {
    pub(super) fn new(
        source: &'s ImapSource,
        intake: &'s Intake,
        stop: &'s StopSignal,
        completions: Completions,
    ) -> Self {
        Shift {
            source,
            intake,
            stop,
            completions,
            caution: Caution::default(),
            numbering: None,
            connected: None,
            unforgotten: Vec::new(),
            unsettled: true,
        }
    }

    /// When the last connection got as far as the folder.
    pub(super) fn take_connected(&mut self) -> Option<Instant> {
        self.connected.take()
    }

    /// One connection, from dialling to its end. `Ok` only after a stop.
    pub(super) async fn run(&mut self) -> Result<(), Fault> {
        let stop = self.stop;
        let mut open = tokio::select! {
            open = Box::pin(self.open()) => open?,
            () = stop.requested() => return Err(Fault::Stopped),
        };
        if self.numbering.replace(open.cursor.uid_validity) != Some(open.cursor.uid_validity) {
            self.caution.forget();
        }
        self.connected = Some(Instant::now());
        self.unsettled = true;
        info!(source = self.source.name, "connected");
        loop {
            self.reconcile(&mut open).await?;
            let Cursor { uid_validity, last, .. } = open.cursor;
            let note = format!("taken in up to UID {last} (UIDVALIDITY {uid_validity})");
            self.source.board.reconciled(Some(note));
            if self.rest(&mut open).await? == Rest::Stop {
                open.session.logout().await;
                return Ok(());
            }
        }
    }

    /// Waits for the next look, or the stop; marks completions meanwhile, and keeps the connection alive.
    async fn rest(&mut self, open: &mut Open) -> Result<Rest, Fault> {
        let stop = self.stop;
        let next = Instant::now() + self.source.location.common.interval;
        loop {
            let pulse = next.min(Instant::now() + PULSE);
            tokio::select! {
                biased;
                () = stop.requested() => {
                    let keys = self.completions.take_now();
                    self.tell(open, keys).await?;
                    return Ok(Rest::Stop);
                }
                keys = self.completions.next() => {
                    self.tell(open, keys).await?;
                }
                () = sleep_until(pulse), if pulse == next => return Ok(Rest::Over),
                () = sleep_until(pulse) => open.session.noop().await?,
            }
        }
    }

    async fn open(&self) -> Result<Open, Fault> {
        let source = self.source;
        let account = source.account().await?;
        let mut session = account.log_in_over(source.dial.as_ref()).await?;
        let folder = session.open_folder(&source.location.folder).await?;
        let since = source.location.common.since;
        let cursor = Cursor::align(self.intake, &mut session, &folder, &source.name, since).await?;
        Ok(Open { session, cursor })
    }

    /// Brings upstream, ledger and queue into agreement: the whole truth, whatever was missed before.
    async fn reconcile(&mut self, open: &mut Open) -> Result<(), Fault> {
        if self.unsettled {
            self.tell_unsettled(open).await?;
        }
        // Some servers show new messages to a search only after this.
        open.session.noop().await?;
        self.take_in_pending(open).await?;
        while let Some(uids) = self.next_uids(open).await? {
            self.take_in(open, &uids, true).await?;
            self.end_backlog(open).await?;
        }
        Ok(())
    }

    /// The UIDs to take in next; `None` when nothing is left.
    async fn next_uids(&mut self, open: &mut Open) -> Result<Option<Vec<u32>>, Fault> {
        let cursor = &open.cursor;
        let Some(backlog) = &cursor.backlog else {
            let uids = open.session.uids_above(cursor.last).await?;
            return Ok(Some(uids).filter(|uids| !uids.is_empty()));
        };
        if cursor.last >= backlog.until {
            return Ok(Some(Vec::new()));
        }
        let criteria = format!("UID {}:{} {}", cursor.last + 1, backlog.until, backlog.criteria);
        let until = backlog.until;
        let mut uids = open.session.uid_search(&criteria).await?;
        uids.retain(|&uid| uid > cursor.last && uid <= until);
        Ok(Some(uids))
    }

    /// Everything that was there at the beginning has been looked at.
    async fn end_backlog(&mut self, open: &mut Open) -> Result<(), Fault> {
        if let Some(backlog) = open.cursor.backlog.take() {
            open.cursor.last = open.cursor.last.max(backlog.until);
            open.cursor.save(self.intake).await?;
        }
        Ok(())
    }

    /// What was taken in and is neither done nor in hand: left over by a killed process, or a dead letter to be retried.
    async fn take_in_pending(&mut self, open: &mut Open) -> Result<(), Fault> {
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
    async fn take_in(&mut self, open: &mut Open, uids: &[u32], advance: bool) -> Result<(), Fault> {
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
    async fn blame<T>(
        &mut self,
        cursor: &Cursor,
        uids: &[u32],
        result: Result<T, crate::imap::ImapError>,
    ) -> Result<T, Fault> {
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

    async fn tell_unsettled(&mut self, open: &mut Open) -> Result<(), Fault> {
        self.unsettled = false;
        loop {
            let keys = self.intake.unsettled(KEYS).await?;
            if keys.is_empty() {
                return Ok(());
            }
            let all = keys.len();
            let told = self.tell(open, keys).await?;
            if told < all {
                // Some could not be proven; they come again with the next look.
                return Ok(());
            }
        }
    }

    /// Marks done messages as seen, and settles those for which the server has shown it. Answers how many.
    async fn tell(&mut self, open: &mut Open, keys: Vec<Arc<str>>) -> Result<usize, Fault> {
        let keys = untold(self.intake, keys).await?;
        if keys.is_empty() {
            return Ok(0);
        }
        let mut uids: Vec<u32> = keys.iter().filter_map(|key| open.cursor.uid(key)).collect();
        uids.sort_unstable();
        uids.dedup();
        let marked = open.session.mark_seen(&uids, BATCH).await?;
        if !marked.unproven.is_empty() {
            let count = marked.unproven.len();
            warn!(
                source = self.source.name,
                count, "the server does not show \\Seen on messages that were marked"
            );
            self.unsettled = true;
        }
        let proven = |key: &Arc<str>| match open.cursor.uid(key) {
            Some(uid) => marked.unproven.binary_search(&uid).is_err(),
            // From before a renumbering: there is nothing to mark under this number.
            None => true,
        };
        let told: Vec<Arc<str>> = keys.into_iter().filter(proven).collect();
        self.intake.settle(&told).await?;
        self.source.board.add_settled(told.len());
        debug!(source = self.source.name, count = told.len(), "marked as seen");
        let count = told.len();
        self.unforgotten.extend(told);
        self.forget(&open.cursor).await?;
        Ok(count)
    }

    /// Entries that the cursor covers need not be kept.
    async fn forget(&mut self, cursor: &Cursor) -> Result<(), Fault> {
        let (covered, kept): (Vec<_>, Vec<_>) = self.unforgotten.drain(..).partition(|key| cursor.covers(key));
        self.unforgotten = kept;
        if !covered.is_empty() {
            self.intake.forget(&covered).await?;
        }
        Ok(())
    }
}
