//! One connection's work: take in what is new, mark what is done, wait, again. Every fault ends the connection; what must
//! outlive it is kept here between connections. Taking in is in `take_in`, marking in `tell`, waiting in `watch`.

use std::collections::BTreeMap;
use std::sync::Arc;

use plba_contracts::stop::StopSignal;
use plba_tasks::intake::Intake;
use tokio::time::Instant;
use tracing::info;

use super::caution::Caution;
use super::cursor::Cursor;
use super::status::ConnectionState;
use super::tell::Means;
use super::watch::Rest;
use super::{Fault, ImapSource};
use crate::completions::Completions;
use crate::imap::{Folder, ImapSession};
use crate::sources::{Again, RESYNC};

/// How many pending or unsettled keys are asked of the ledger at once.
pub(super) const KEYS: usize = 1000;

/// A source at work, over any number of connections.
pub(super) struct Shift<'s> {
    pub(super) source: &'s ImapSource,
    pub(super) intake: &'s Intake,
    pub(super) stop: &'s StopSignal,
    pub(super) completions: Completions,
    pub(super) caution: Caution,
    /// The UIDVALIDITY that the caution is about.
    numbering: Option<u32>,
    connected: Option<Instant>,
    /// Settled keys that the cursor did not cover yet.
    pub(super) unforgotten: Vec<Arc<str>>,
    /// Whether the ledger may hold completions of which upstream was not told.
    pub(super) unsettled: bool,
    /// How many looks in a row have found nothing new.
    pub(super) futile: u32,
    /// How often in a row new messages could not be had by the write that ends an IDLE.
    pub(super) failed_glimpses: u32,
    /// Why the server was polled instead of waited for, as last said.
    pub(super) fallback: Option<String>,
    /// What does not work as configured, by option.
    pub(super) hampered: BTreeMap<&'static str, String>,
}

/// What belongs to one connection.
pub(super) struct Open {
    pub(super) session: ImapSession,
    pub(super) folder: Folder,
    pub(super) cursor: Cursor,
    pub(super) means: Means,
    /// Whether the server is waited for by IDLE.
    pub(super) idles: bool,
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
            futile: 0,
            failed_glimpses: 0,
            fallback: None,
            hampered: BTreeMap::new(),
        }
    }

    /// When the last connection got as far as the folder.
    pub(super) fn take_connected(&mut self) -> Option<Instant> {
        self.connected.take()
    }

    /// One connection, from dialling to its end. `Ok` only after a stop.
    pub(super) async fn run(&mut self) -> Result<(), Fault> {
        let stop = self.stop;
        self.source.shown.state(ConnectionState::Connecting);
        let mut open = tokio::select! {
            open = Box::pin(self.open()) => open?,
            () = stop.requested() => return Err(Fault::Stopped),
        };
        if self.numbering.replace(open.cursor.uid_validity) != Some(open.cursor.uid_validity) {
            self.caution.forget();
        }
        self.connected = Some(Instant::now());
        self.unsettled = true;
        self.agree_on_means(&mut open)?;
        self.agree_on_watch(&mut open);
        self.give_up_vanished(&open.folder, &open.cursor).await?;
        self.clear_parked().await?;
        self.greet();
        loop {
            self.reconcile(&mut open).await?;
            let Cursor { uid_validity, last, .. } = open.cursor;
            let note = format!("taken in up to UID {last} (UIDVALIDITY {uid_validity})");
            self.source.board.reconciled(Some(note), self.hampered());
            self.source.shown.looked(uid_validity, last);
            if self.rest(&mut open).await? == Rest::Stop {
                open.session.logout().await;
                return Ok(());
            }
        }
    }

    async fn open(&self) -> Result<Open, Fault> {
        let source = self.source;
        let account = source.account().await?;
        let mut session = account.log_in_over(source.dial.as_ref()).await?;
        session.capability().await?;
        let known = Cursor::remembered(self.intake, &source.name).await?;
        let folder = session.open_folder_since(&source.location.folder, known).await?;
        let since = source.location.common.since;
        let unfinished = source.location.common.after.imap_unfinished();
        let cursor = Cursor::align(self.intake, &mut session, &folder, &source.name, since, &unfinished).await?;
        Ok(Open {
            session,
            folder,
            cursor,
            means: Means::default(),
            idles: false,
        })
    }

    /// Brings upstream, ledger and queue into agreement: the whole truth, whatever was missed before.
    async fn reconcile(&mut self, open: &mut Open) -> Result<(), Fault> {
        if self.unsettled {
            self.tell_unsettled(open).await?;
        }
        self.look_again(open).await?;
        let before = open.cursor.last;
        let mut refreshed = self.refresh(open).await?;
        loop {
            // What the server announces from here on the search may not have seen, so it is a reason to search again.
            open.session.take_changes();
            let Some(uids) = self.next_uids(open, refreshed).await? else {
                break;
            };
            refreshed = true;
            self.source.shown.found(uids.len());
            self.take_in(open, &uids, true).await?;
            self.end_backlog(open).await?;
        }
        self.futile = match open.cursor.last > before {
            true => 0,
            false => self.futile.saturating_add(1),
        };
        self.put_dead_aside(open).await?;
        if open.session.mod_seq() > open.cursor.mod_seq {
            open.cursor.mod_seq = open.session.mod_seq();
            open.cursor.save(self.intake).await?;
        }
        Ok(())
    }

    /// Takes in what is pending, after a NOOP, since some servers show new messages to a search only after it. Where nothing
    /// is pending the answer is `false`: the NOOP is left to go out together with the search.
    async fn refresh(&mut self, open: &mut Open) -> Result<bool, Fault> {
        if open.cursor.backlog.is_none() && self.intake.pending(1).await?.is_empty() {
            return Ok(false);
        }
        open.session.noop().await?;
        self.take_in_pending(open).await?;
        Ok(true)
    }

    /// Messages of which the server says at once that they went away while nobody was connected: they are not asked for.
    async fn give_up_vanished(&mut self, folder: &Folder, cursor: &Cursor) -> Result<(), Fault> {
        let vanished = &folder.vanished;
        if vanished.is_empty() {
            return Ok(());
        }
        let is_gone = |key: &Arc<str>| {
            let uid = cursor.uid(key).filter(|_| !cursor.places.contains_key(key.as_ref()));
            uid.is_some_and(|uid| vanished.iter().any(|range| range.contains(&uid)))
        };
        let pending = self.intake.pending(KEYS).await?;
        let lost: Vec<Arc<str>> = pending.into_iter().filter(is_gone).collect();
        if !lost.is_empty() {
            info!(
                source = self.source.name,
                count = lost.len(),
                "open messages were deleted meanwhile"
            );
            self.intake.lost(&lost).await?;
        }
        let done = self.intake.unsettled(KEYS).await?;
        let done: Vec<Arc<str>> = done.into_iter().filter(is_gone).collect();
        if !done.is_empty() {
            self.intake.settle(&done).await?;
            self.source.board.add_settled(done.len());
            self.unforgotten.extend(done);
        }
        Ok(())
    }

    /// Somebody may want the folder looked through again.
    async fn look_again(&mut self, open: &mut Open) -> Result<(), Fault> {
        let Some(wish) = self.intake.note(RESYNC).await? else {
            return Ok(());
        };
        let again: Result<Again, _> = wish.parse();
        let criteria = again.ok().and_then(|again| self.source.criteria_of(again));
        if let Some(criteria) = criteria {
            info!(source = self.source.name, criteria, "looking through the folder again");
            open.cursor.look_again(criteria);
            open.cursor.save(self.intake).await?;
        }
        Ok(self.intake.set_note(RESYNC, "").await?)
    }

    /// The UIDs to take in next; `None` when nothing is left.
    async fn next_uids(&mut self, open: &mut Open, refreshed: bool) -> Result<Option<Vec<u32>>, Fault> {
        let cursor = &open.cursor;
        let Some(backlog) = &cursor.backlog else {
            let uids = match refreshed {
                true => open.session.uids_above(cursor.last).await?,
                false => open.session.look_above(cursor.last).await?,
            };
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
}
