//! The short way of messages that have just arrived: they are asked for by the write that ends the IDLE, and handed on before
//! anything else is done. It decides nothing: the look that follows finds all there is, and leaves out what is known by then.

use plba_tasks::intake::Arrival;
use tracing::debug;

use super::Fault;
use super::shift::{Open, Shift};
use super::watch::FUTILE;
use crate::imap::ImapError;

/// How many messages are asked for so: of more, sizes are looked at first.
const MOST: u32 = 16;

/// After how many failures in a row it is no longer tried: there are servers that lose what comes right behind a DONE.
const FAILURES: u32 = 3;

impl Shift<'_> {
    /// The UID from which on to ask, if there is little to come and nothing to be careful about.
    pub(super) fn glimpse_from(&self, open: &Open) -> Option<u32> {
        let first = open.cursor.last.checked_add(1)?;
        let wanted = open.session.has_arrivals() && (1..=MOST).contains(&open.session.arrivals());
        let safe = open.cursor.backlog.is_none()
            && self.futile < FUTILE
            && self.caution.is_calm(first)
            && self.failed_glimpses < FAILURES;
        (wanted && safe).then_some(first)
    }

    /// Ends the IDLE, and publishes what has arrived and is small.
    pub(super) async fn glimpse(&mut self, open: &mut Open, first: u32) -> Result<(), Fault> {
        self.failed_glimpses += 1;
        open.session.idle_end_asking(first, MOST as usize).await?;
        let fetched = open.session.fetch_end().await;
        match fetched.ended {
            Ok(()) => self.failed_glimpses = 0,
            Err(error @ (ImapError::Refused { .. } | ImapError::Unsupported { .. })) => {
                debug!(source = self.source.name, %error, "no beginnings of messages");
            }
            Err(error) => return Err(error.into()),
        }
        let largest = self.source.location.common.max_message;
        let arrivals = fetched
            .here
            .into_iter()
            .filter(|(_, message)| message.len() as u64 <= largest);
        let arrivals = arrivals.map(|(uid, message)| Arrival {
            key: open.cursor.key(uid),
            task: self.source.settings.task(message),
        });
        let arrivals: Vec<Arrival> = arrivals.collect();
        match arrivals.is_empty() {
            true => Ok(()),
            false => self.publish(Some(open), arrivals).await,
        }
    }
}
