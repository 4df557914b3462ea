//! Taking messages in: from UIDs to published tasks, with the cursor behind them.

use std::pin::pin;
use std::sync::Arc;

use plba_tasks::intake::Arrival;
use plba_tasks::ledger::{EntryState, Known};
use tracing::{error, warn};

use super::Fault;
use super::cursor::Cursor;
use super::shift::{KEYS, Open, Shift};
use crate::imap::fetch::{MAX_UIDS, batches, is_large};
use crate::imap::{Fetched, ImapError, Message};

/// How many messages one command asks for at most: their numbers fit in a line.
const MOST_TOGETHER: usize = 500;

impl Shift<'_> {
    /// What was taken in and is neither done nor in hand: left over by a killed process, or a dead letter to be retried.
    pub(super) async fn take_in_pending(&mut self, open: &mut Open) -> Result<(), Fault> {
        loop {
            let keys = self.intake.pending(KEYS).await?;
            if keys.is_empty() {
                return Ok(());
            }
            let (aside, keys) = self.split_aside(open, keys);
            self.take_in_aside(open, &aside).await?;
            let keys = self.take_in_parked(open, keys).await?;
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
        let mut asked: Option<Asked> = None;
        while let Some(&first) = rest.first() {
            if self.stop.is_requested() {
                return Err(Fault::Stopped);
            }
            let usual = self.caution.portion(first, MAX_UIDS).min(rest.len());
            let count = asked.as_ref().map_or(usual, |asked| asked.count);
            let (portion, later) = rest.split_at(count);
            let (wanted, described) = match asked.take() {
                Some(asked) => (asked.wanted, open.session.describe_end().await),
                None => {
                    let wanted = self.wanted(&open.cursor, portion).await?;
                    let described = match self.caution.is_struck(&wanted) {
                        // It may be the size that can't be told.
                        true => Ok(wanted.iter().copied().map(Message::of_unknown_size).collect()),
                        false => open.session.describe(&wanted).await,
                    };
                    (wanted, described)
                }
            };
            let messages = self.blame(&open.cursor, &wanted, None, described).await?;
            let messages = self.without_gone(open, &wanted, messages).await?;
            let settings = &self.source.settings;
            let largest = self.source.location.common.max_message;
            let batches: Vec<Batch> = batches(&messages, settings.batch.min(MOST_TOGETHER), settings.batch_bytes)
                .into_iter()
                .map(|range| Batch::new(&messages[range], largest))
                .collect();
            asked = self.ask_ahead(open, portion, later).await?;
            self.take_in_batches(open, &batches, advance).await?;
            if advance && let Some(&last) = portion.last() {
                self.advance(open, last).await?;
            }
            rest = later;
        }
        Ok(())
    }

    /// Asks for the sizes of the portion after this one, so that they come while this one is taken in. Where something has
    /// failed before, and portions are small, it is one thing at a time: what fails then is known.
    async fn ask_ahead(&self, open: &mut Open, portion: &[u32], later: &[u32]) -> Result<Option<Asked>, Fault> {
        let Some(&first) = later.first() else { return Ok(None) };
        if portion.len() < MAX_UIDS || self.caution.portion(first, MAX_UIDS) < MAX_UIDS {
            return Ok(None);
        }
        let count = MAX_UIDS.min(later.len());
        let wanted = self.wanted(&open.cursor, &later[..count]).await?;
        let asked = open.session.describe_begin(&wanted).await?;
        Ok(asked.then_some(Asked { count, wanted }))
    }

    /// Fetches batches and publishes them. The server is always asked for the next one before, so that it works while the
    /// one before is stored; no more than two are in memory at a time.
    async fn take_in_batches(&mut self, open: &mut Open, batches: &[Batch], advance: bool) -> Result<(), Fault> {
        let largest = self.source.location.common.max_message;
        let room = self.source.settings.batch_bytes.saturating_mul(2);
        // Servers count a few bytes differently from what they send; a lie beyond that ends the connection.
        let literal = largest + largest / 8 + 1024;
        let mut begun = 0;
        for (index, batch) in batches.iter().enumerate() {
            while let Some(next) = batches.get(begun)
                && (begun == index || (begun == index + 1 && batch.bytes.saturating_add(next.bytes) <= room))
                // While one comes in pieces, nothing else does.
                && (begun == index || (batch.large.is_none() && next.large.is_none()))
            {
                let struck = self.caution.is_struck(&next.uids);
                if struck {
                    // Should it fail again, it is kept as it came.
                    open.session.listen(usize::try_from(literal).unwrap_or(usize::MAX));
                }
                if !next.uids.is_empty() && (struck || next.large.is_none()) {
                    open.session.fetch_begin(&next.uids, next.bytes, literal).await?;
                }
                begun += 1;
            }
            self.bury_outsized(&open.cursor, batch).await?;
            if !batch.uids.is_empty() {
                let fetched = match batch.large {
                    Some((uid, size)) if !open.session.is_fetching_anything() => {
                        open.session.body_in_pieces(uid, size, literal).await
                    }
                    _ => open.session.fetch_end().await,
                };
                self.hand_on(open, batch, fetched, advance).await?;
            }
            if advance {
                self.advance(open, batch.last).await?;
            }
        }
        Ok(())
    }

    /// Publishes what a fetch has brought. Of one that failed half-way, too: what has come need not be fetched again.
    async fn hand_on(&mut self, open: &mut Open, batch: &Batch, fetched: Fetched, advance: bool) -> Result<(), Fault> {
        let arrivals = fetched.here.into_iter().map(|(uid, message)| Arrival {
            key: open.cursor.key(uid),
            task: self.source.settings.task(message),
        });
        let arrivals: Vec<Arrival> = arrivals.collect();
        let ended = match fetched.ended {
            Ok(()) => open.session.require_gone(&fetched.missing).await,
            failed => failed,
        };
        if let Err(error) = ended {
            let heard = open.session.take_heard();
            self.publish(None, arrivals).await?;
            let first = fetched.missing.first().copied().unwrap_or(u32::MAX);
            if advance && let Some(last) = batch.all.iter().copied().take_while(|&uid| uid < first).last() {
                self.advance(open, last).await?;
            }
            return self.blame(&open.cursor, &fetched.missing, heard, Err(error)).await;
        }
        open.session.take_heard();
        self.give_up_gone(&open.cursor, &fetched.missing).await?;
        self.caution.succeeded(&batch.uids);
        self.publish(Some(open), arrivals).await
    }

    async fn bury_outsized(&self, cursor: &Cursor, batch: &Batch) -> Result<(), Fault> {
        let largest = self.source.location.common.max_message;
        for (uid, size) in &batch.outsized {
            let reason = format!("the message has {size} bytes, more than max_message ({largest})");
            self.bury(cursor, *uid, reason).await?;
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
        messages.extend(existing.into_iter().map(Message::of_unknown_size));
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
        let (moving, had): (Vec<_>, Vec<_>) = had
            .into_iter()
            .partition(|key| cursor.places.contains_key(key.as_ref()));
        for key in moving {
            let reason = "the connection broke while the message was being moved to the errors folder: look for it there, \
                          and put it back into the folder that is read";
            self.bury_key(key, reason.to_owned()).await?;
        }
        if !had.is_empty() {
            self.intake.lost(&had).await?;
        }
        Ok(())
    }

    /// Passes a result on. A failure of one message alone, for the last time, puts that message out of the way, and what the
    /// server has sent of it, if that was `heard`, into a file.
    pub(super) async fn blame<T>(
        &mut self,
        cursor: &Cursor,
        uids: &[u32],
        heard: Option<Vec<u8>>,
        result: Result<T, ImapError>,
    ) -> Result<T, Fault> {
        let error = match result {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        if let Some(uid) = self.caution.failed(uids, &error) {
            let kept = self.park(&cursor.key(uid), heard).await;
            self.bury(cursor, uid, format!("the message can't be fetched{kept}: {error}"))
                .await?;
        }
        Err(error.into())
    }

    /// Makes a message that can't become a task a dead letter, which can be looked at and retried.
    async fn bury(&self, cursor: &Cursor, uid: u32, reason: String) -> Result<(), Fault> {
        self.bury_key(cursor.key(uid), reason).await
    }

    pub(super) async fn bury_key(&self, key: Arc<str>, reason: String) -> Result<(), Fault> {
        error!(source = self.source.name, %key, "{reason}");
        let settings = &self.source.settings;
        let at = self.source.board.now();
        Ok(self
            .intake
            .bury(key, &settings.queue, &settings.kind, at, reason)
            .await?)
    }

    /// Publishes messages, however long the queue makes it wait. Where there is a connection, completions are marked
    /// meanwhile, and what was asked for is read.
    pub(super) async fn publish(&mut self, mut open: Option<&mut Open>, arrivals: Vec<Arrival>) -> Result<(), Fault> {
        let (intake, stop, count) = (self.intake, self.stop, arrivals.len());
        let mut publishing = pin!(intake.publish(arrivals));
        loop {
            let is_open = open.is_some();
            let reading = async {
                match open.as_deref_mut().filter(|open| open.session.is_fetching()) {
                    Some(open) => open.session.fetch_ahead().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                published = &mut publishing => {
                    self.source.board.add_published(published?.published);
                    self.source.shown.taken_in(count);
                    return Ok(());
                }
                () = stop.requested() => return Err(Fault::Stopped),
                keys = self.completions.next(), if is_open => {
                    if let Some(open) = open.as_deref_mut() {
                        self.tell(open, keys).await?;
                    }
                }
                () = reading => {}
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

/// A portion whose sizes have been asked for.
struct Asked {
    /// How many messages it has,
    count: usize,
    /// and which of them were asked about.
    wanted: Vec<u32>,
}

/// Messages that are fetched by one command.
struct Batch {
    /// All of them, ascending.
    all: Vec<u32>,
    /// The only one, if it is large, with its size if that was told: it comes in pieces.
    large: Option<(u32, Option<u32>)>,
    /// Those that are asked for,
    uids: Vec<u32>,
    /// and what they amount to, in bytes. A server that told no size may send the largest message.
    bytes: u64,
    /// Those that are too large, with their sizes.
    outsized: Vec<(u32, u32)>,
    /// The last one.
    last: u32,
}

impl Batch {
    fn new(messages: &[Message], largest: u64) -> Self {
        let is_outsized = |message: &&Message| message.size.is_some_and(|size| u64::from(size) > largest);
        let (outsized, fitting): (Vec<&Message>, Vec<&Message>) = messages.iter().partition(is_outsized);
        let large = match fitting.as_slice() {
            [only] if is_large(only) => Some((only.uid, only.size)),
            _ => None,
        };
        Batch {
            large,
            all: messages.iter().map(|message| message.uid).collect(),
            bytes: fitting
                .iter()
                .map(|message| message.size.map_or(largest, u64::from))
                .sum(),
            uids: fitting.into_iter().map(|message| message.uid).collect(),
            outsized: outsized
                .into_iter()
                .filter_map(|message| Some((message.uid, message.size?)))
                .collect(),
            last: messages.last().map_or(0, |message| message.uid),
        }
    }
}
