//! Dry runs, of a first connection and of a resync: they search as the source would, and touch nothing.

use std::sync::Arc;

use plba_tasks::ledger::SourceLedger;

use super::{Fault, ImapSource};
use crate::imap::fetch::MAX_UIDS;
use crate::imap::{Body, Folder, ImapSession};
use crate::preview::{Headline, Preview, PreviewError, SHOWN};
use crate::sources::Again;

impl ImapSource {
    /// What a first connection would take in now. Opens a connection of its own and changes nothing on the server.
    pub async fn preview(&self) -> Result<Preview, PreviewError> {
        let since = self.location.common.since;
        let criteria = since.imap_criteria();
        self.look(since.to_string(), criteria, None).await
    }

    /// What a resync would take in now: as [`preview`](Self::preview), without what the ledger knows.
    pub async fn preview_again(&self, ledger: &dyn SourceLedger, again: Again) -> Result<Preview, PreviewError> {
        self.look(again.to_string(), self.criteria_of(again), Some(ledger))
            .await
    }

    /// As search criteria; `None` for nothing at all.
    pub(super) fn criteria_of(&self, again: Again) -> Option<String> {
        match again {
            Again::Unfinished => Some(self.location.common.after.imap_unfinished()),
            Again::Since(since) => since.imap_criteria(),
        }
    }

    async fn look(
        &self,
        scope: String,
        criteria: Option<String>,
        ledger: Option<&dyn SourceLedger>,
    ) -> Result<Preview, PreviewError> {
        let failed = |source| PreviewError {
            name: self.name.clone(),
            source,
        };
        let looked = async {
            let mut session = self.account().await?.log_in_over(self.dial.as_ref()).await?;
            let folder = session.open_folder(&self.location.folder).await?;
            let uids = match criteria {
                Some(criteria) => session.uid_search(&criteria).await?,
                None => Vec::new(),
            };
            Ok::<_, Fault>((session, folder, uids))
        };
        let (mut session, folder, mut uids) = looked.await.map_err(|fault| failed(fault.into()))?;
        if let Some(ledger) = ledger {
            uids = self
                .unknown(ledger, &folder, uids)
                .await
                .map_err(|error| failed(error.into()))?;
        }
        let shown = &uids[..uids.len().min(SHOWN)];
        let first = self.headlines(&mut session, &folder, shown).await;
        let first = first.map_err(|fault| failed(fault.into()))?;
        session.logout().await;
        Ok(Preview {
            source: self.name.clone(),
            since: scope,
            total: u64::from(folder.exists),
            count: uids.len() as u64,
            first,
        })
    }

    /// Those of which the ledger knows nothing.
    async fn unknown(
        &self,
        ledger: &dyn SourceLedger,
        folder: &Folder,
        uids: Vec<u32>,
    ) -> Result<Vec<u32>, plba_tasks::ledger::LedgerError> {
        let mut unknown = Vec::new();
        for portion in uids.chunks(MAX_UIDS) {
            let key = |uid: &u32| Arc::from(format!("{}:{uid}", folder.uid_validity));
            let keys: Vec<Arc<str>> = portion.iter().map(key).collect();
            let known = ledger.known(&self.name, &keys).await?;
            let fresh = portion.iter().zip(known).filter(|(_, known)| known.is_none());
            unknown.extend(fresh.map(|(uid, _)| *uid));
        }
        Ok(unknown)
    }

    async fn headlines(
        &self,
        session: &mut ImapSession,
        folder: &Folder,
        uids: &[u32],
    ) -> Result<Vec<Headline>, Fault> {
        let largest = self.location.common.max_message;
        let mut first = Vec::new();
        for message in session.describe(uids).await? {
            let key = format!("{}:{}", folder.uid_validity, message.uid);
            let size = u64::from(message.size.unwrap_or(0));
            let head = match size <= largest {
                true => session.bodies(&[message.uid], size, largest + 1024).await?,
                false => Vec::new(),
            };
            match head.into_iter().next() {
                Some((_, Body::Here(bytes))) => first.push(Headline::read(key, &bytes)),
                Some((_, Body::Gone)) => {}
                None => first.push(Headline {
                    key,
                    subject: format!("({size} bytes, more than max_message)"),
                    ..Headline::default()
                }),
            }
        }
        Ok(first)
    }
}
