//! The Maildir source at work: from files to published tasks, and from completions to flags.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use plba_contracts::stop::StopSignal;
use plba_tasks::intake::{Arrival, Intake};
use plba_tasks::ledger::{EntryState, Known};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, error, info, warn};

use super::finish::Finished;
use super::folder::{Content, Entry, Maildir, MaildirError};
use super::source::{Fault, MaildirSource, blocking, is_wanted};
use super::watch::Watch;
use crate::completions::{Completions, untold};
use crate::location::{After, Mark};

/// How long a notice of a delivery waits for others, so that a burst is one look.
const SETTLE: Duration = Duration::from_millis(20);

/// How many keys are asked of the ledger at once.
pub(super) const KEYS: usize = 1000;

/// The source at work.
pub(super) struct Keeper<'s> {
    pub(super) source: &'s MaildirSource,
    pub(super) maildir: Maildir,
    pub(super) intake: &'s Intake,
    pub(super) stop: &'s StopSignal,
    pub(super) completions: Completions,
    /// Keys that need no further look: taken in, settled, dead, or out of scope.
    pub(super) handled: HashSet<Arc<str>>,
}

impl Keeper<'_> {
    /// Decides, at the very first start, which messages are out of scope, and tells of what was left over.
    pub(super) async fn begin(&mut self) -> Result<(), Fault> {
        let mark = format!("begun with since={}", self.source.location.common.since);
        let kept = self.intake.cursor().await?;
        if kept.as_deref().is_none_or(|cursor| !cursor.starts_with("begun")) {
            let since = self.source.location.common.since;
            let maildir = self.maildir.clone();
            let others = blocking(move || {
                let entries = maildir.scan()?;
                let others = entries.into_iter().filter(|entry| !is_wanted(&maildir, entry, since));
                Ok(others.map(|entry| Arc::from(entry.key)).collect::<Vec<Arc<str>>>())
            });
            let others = others.await?;
            // The ledger remembers them as settled: known, and nothing left to do.
            for keys in others.chunks(KEYS) {
                self.intake.lost(keys).await?;
            }
            info!(source = self.source.name, out_of_scope = others.len(), "first look");
            self.intake.set_cursor(&mark).await?;
        }
        loop {
            let keys = self.intake.unsettled(KEYS).await?;
            if keys.is_empty() {
                return Ok(());
            }
            self.tell(keys).await?;
        }
    }

    /// Looks through the whole folder, takes in what the ledger does not know, and what it wants again.
    pub(super) async fn reconcile(&mut self) -> Result<(), Fault> {
        let pending = self.intake.pending(KEYS).await?;
        for key in &pending {
            self.handled.remove(key);
        }
        let maildir = self.maildir.clone();
        let entries = blocking(move || maildir.scan()).await?;
        self.forget_vanished(&entries).await?;
        let fresh: Vec<Entry> = entries
            .iter()
            .filter(|entry| !self.handled.contains(entry.key.as_str()))
            .cloned()
            .collect();
        for entries in fresh.chunks(self.source.settings.batch.max(1)) {
            self.take_in(entries).await?;
        }
        let present: HashSet<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
        let gone: Vec<Arc<str>> = pending
            .into_iter()
            .filter(|key| !present.contains(key.as_ref()))
            .collect();
        let maildir = self.maildir.clone();
        let gone = blocking(move || maildir.absent(gone)).await?;
        let gone = self.take_in_aside(gone).await?;
        if !gone.is_empty() {
            warn!(
                source = self.source.name,
                count = gone.len(),
                "open messages have been deleted"
            );
            self.intake.lost(&gone).await?;
        }
        self.put_dead_aside(&entries).await
    }

    /// Entries of messages that no longer exist need not be kept, once they are settled.
    async fn forget_vanished(&mut self, entries: &[Entry]) -> Result<(), Fault> {
        let present: HashSet<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
        let missing = self.handled.iter().filter(|key| !present.contains(key.as_ref()));
        let (missing, maildir) = (missing.cloned().collect(), self.maildir.clone());
        let vanished = blocking(move || maildir.absent(missing)).await?;
        for keys in vanished.chunks(KEYS) {
            let known = self.intake.known(keys).await?;
            let (mut over, mut settled) = (Vec::new(), Vec::new());
            for (key, known) in keys.iter().zip(known) {
                match known.map(|known| known.state) {
                    Some(EntryState::Settled) => settled.push(Arc::clone(key)),
                    None => over.push(Arc::clone(key)),
                    // Still on its way through the queue: asked again with the next look.
                    Some(_) => {}
                }
            }
            self.intake.forget(&settled).await?;
            over.iter().chain(&settled).for_each(|key| _ = self.handled.remove(key));
        }
        Ok(())
    }

    async fn take_in(&mut self, entries: &[Entry]) -> Result<(), Fault> {
        if self.stop.is_requested() {
            return Err(Fault::Stopped);
        }
        let keys: Vec<Arc<str>> = entries.iter().map(|entry| Arc::from(entry.key.as_str())).collect();
        let known = self.intake.known(&keys).await?;
        let wanted = |known: &Option<Known>| match known {
            Some(known) => known.state == EntryState::Open && !known.published,
            None => true,
        };
        let unread: Vec<Entry> = entries
            .iter()
            .zip(&known)
            .filter(|(_, known)| wanted(known))
            .map(|(entry, _)| entry.clone())
            .collect();
        let maildir = self.maildir.clone();
        let (largest, bytes) = (
            self.source.location.common.max_message,
            self.source.settings.batch_bytes,
        );
        let (mut rest, mut gone) = (unread, HashSet::new());
        while !rest.is_empty() {
            let (reader, entries) = (maildir.clone(), rest);
            let (read, later) = blocking(move || read_some(&reader, entries, largest, bytes)).await?;
            gone.extend(self.hand_on(read).await?);
            rest = later;
        }
        // What could not be found is not handled: should it turn up again, it is taken in.
        self.handled.extend(keys.into_iter().filter(|key| !gone.contains(key)));
        Ok(())
    }

    /// Publishes what was read; answers with the keys of what was not there any more.
    async fn hand_on(&mut self, read: Vec<(Entry, Content)>) -> Result<Vec<Arc<str>>, Fault> {
        let mut arrivals = Vec::with_capacity(read.len());
        let mut gone = Vec::new();
        for (entry, content) in read {
            let key: Arc<str> = entry.key.into();
            match content {
                Content::Here(message) => arrivals.push(Arrival {
                    key,
                    task: self.source.settings.task(message),
                }),
                Content::TooLarge(size) => self.bury(key, size).await?,
                Content::Gone => {
                    debug!(source = self.source.name, %key, "deleted before it was read");
                    gone.push(key);
                }
            }
        }
        let (intake, stop) = (self.intake, self.stop);
        let mut publishing = pin!(intake.publish(arrivals));
        loop {
            tokio::select! {
                biased;
                published = &mut publishing => {
                    self.source.board.add_published(published?.published);
                    return Ok(gone);
                }
                () = stop.requested() => return Err(Fault::Stopped),
                keys = self.completions.next() => self.tell(keys).await?,
            }
        }
    }

    pub(super) async fn bury(&self, key: Arc<str>, size: u64) -> Result<(), Fault> {
        let largest = self.source.location.common.max_message;
        let reason = format!("the message has {size} bytes, more than max_message ({largest})");
        error!(source = self.source.name, %key, "{reason}");
        let settings = &self.source.settings;
        let at = self.source.board.now();
        Ok(self
            .intake
            .bury(key, &settings.queue, &settings.kind, at, reason)
            .await?)
    }

    /// Marks and moves done messages, as configured, and settles them; those that are gone need neither.
    async fn tell(&mut self, keys: Vec<Arc<str>>) -> Result<(), Fault> {
        let keys = untold(self.intake, keys).await?;
        if keys.is_empty() {
            return Ok(());
        }
        let maildir = self.maildir.clone();
        let (finishing, after) = (keys.clone(), self.source.location.common.after.clone());
        let finished = blocking(move || finish(&maildir, &finishing, &after)).await?;
        debug!(
            source = self.source.name,
            done = finished.done.len(),
            gone = finished.gone.len(),
            "told of what is done"
        );
        self.intake.settle(&keys).await?;
        self.source.board.add_settled(keys.len());
        Ok(())
    }

    /// Waits for a delivery, the next look by the clock, or the stop; marks completions meanwhile.
    pub(super) async fn wait(&mut self, watch: Option<&Watch>) -> Result<(), Fault> {
        let next = Instant::now() + self.source.location.common.interval;
        let stop = self.stop;
        let delivery = async {
            match watch {
                Some(watch) => watch.changed().await,
                None => std::future::pending().await,
            }
        };
        let mut delivery = pin!(delivery);
        loop {
            tokio::select! {
                biased;
                () = stop.requested() => {
                    let keys = self.completions.take_now();
                    self.tell(keys).await?;
                    return Err(Fault::Stopped);
                }
                keys = self.completions.next() => self.tell(keys).await?,
                () = &mut delivery => {
                    sleep(SETTLE).await;
                    return Ok(());
                }
                () = self.source.board.woken() => return Ok(()),
                () = sleep_until(next) => return Ok(()),
            }
        }
    }
}

/// What is not in the folder that is read may have been put aside before it was retried.
fn finish(maildir: &Maildir, keys: &[Arc<str>], after: &After) -> Result<Finished, MaildirError> {
    let flags: String = after.marks.iter().filter_map(Mark::maildir_letter).collect();
    if flags.is_empty() && after.done.is_none() {
        return Ok(Finished::default());
    }
    let target = after.done.as_ref().map(|name| maildir.folder(name)).transpose()?;
    let mut finished = maildir.finish(keys.iter().map(AsRef::as_ref), &flags, target.as_ref())?;
    if let Some(errors) = after.errors.as_ref().filter(|_| !finished.gone.is_empty()) {
        let aside = maildir.folder(errors)?;
        let others = aside.finish(finished.gone.iter().map(String::as_str), &flags, target.as_ref())?;
        finished.done.extend(others.done);
        finished.gone = others.gone;
    }
    Ok(finished)
}

/// Reads entries until so many bytes are read; answers with what was read and what is left.
type ReadSome = (Vec<(Entry, Content)>, Vec<Entry>);

fn read_some(maildir: &Maildir, entries: Vec<Entry>, largest: u64, bytes: u64) -> Result<ReadSome, MaildirError> {
    let mut read = Vec::new();
    let mut total = 0;
    let mut entries = entries.into_iter();
    for entry in entries.by_ref() {
        let content = maildir.read(&entry, largest)?;
        if let Content::Here(message) = &content {
            total += message.len() as u64;
        }
        read.push((entry, content));
        if total >= bytes {
            break;
        }
    }
    Ok((read, entries.collect()))
}
