//! Deliveries that were in the hands of processes which have ended: counted as crashes when the ledger is opened.

use plba_tasks::queue::Presence;

use super::{CHUNK, RedisLedger};
use crate::failure::Failure;
use crate::identity::presence_of;
use crate::reply;

impl RedisLedger {
    /// Deliveries in the hands of processes that have ended, or of an earlier opening by this one.
    pub(super) async fn count_crashes(&self) -> Result<(), Failure> {
        let own = process_of(&self.holder);
        for source in self.sources().await? {
            let mut hands = self.list("hands", &source, &[]).await?.into_iter();
            let mut crashed: Vec<Vec<u8>> = Vec::new();
            while let (Some(key), Some(holder)) = (hands.next(), hands.next()) {
                let (Some(key), Some(holder)) = (reply::bytes(key), reply::text(holder)) else {
                    continue;
                };
                let earlier = holder != self.holder && process_of(&holder) == own;
                let gone = || Presence::parse(presence_of(&holder)).is_some_and(|presence| presence.is_gone());
                if earlier || gone() {
                    crashed.extend([key, holder.into_bytes()]);
                }
            }
            for crashed in crashed.chunks(CHUNK) {
                let crashed: Vec<&[u8]> = crashed.iter().map(Vec::as_slice).collect();
                self.call("crashed", &source, &crashed).await?;
            }
        }
        Ok(())
    }
}

/// The incarnation without its epoch, and the machine: what is the same for two openings by one process.
fn process_of(holder: &str) -> Option<(String, String)> {
    let mut parts = holder.splitn(4, '|').skip(1);
    let (incarnation, machine) = (parts.next()?, parts.next()?);
    let (process, _) = incarnation.rsplit_once(':')?;
    Some((process.to_owned(), machine.to_owned()))
}
