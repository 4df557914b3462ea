//! The dry run of a first connection: searches as the source would, and touches nothing.

use super::{Fault, ImapSource};
use crate::imap::Body;
use crate::preview::{Headline, Preview, PreviewError, SHOWN};

impl ImapSource {
    /// What a first connection would take in now. Opens a connection of its own and changes nothing on the server.
    pub async fn preview(&self) -> Result<Preview, PreviewError> {
        self.look().await.map_err(|fault| PreviewError {
            name: self.name.clone(),
            source: fault.into(),
        })
    }

    async fn look(&self) -> Result<Preview, Fault> {
        let common = &self.location.common;
        let mut session = self.account().await?.log_in_over(self.dial.as_ref()).await?;
        let folder = session.open_folder(&self.location.folder).await?;
        let uids = match common.since.imap_criteria() {
            Some(criteria) => session.uid_search(&criteria).await?,
            None => Vec::new(),
        };
        let shown = &uids[..uids.len().min(SHOWN)];
        let mut first = Vec::new();
        for message in session.describe(shown).await? {
            let key = format!("{}:{}", folder.uid_validity, message.uid);
            let size = u64::from(message.size.unwrap_or(0));
            let head = match size <= common.max_message {
                true => session.bodies(&[message.uid], size, common.max_message + 1024).await?,
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
        session.logout().await;
        Ok(Preview {
            source: self.name.clone(),
            since: common.since.to_string(),
            total: u64::from(folder.exists),
            count: uids.len() as u64,
            first,
        })
    }
}
