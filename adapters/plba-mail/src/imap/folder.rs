//! Opening a folder: its name on the wire (RFC 3501 section 5.1), SELECT, and what must be true before work begins.

use std::ops::RangeInclusive;

use async_imap::imap_proto::{MailboxDatum, NameAttribute, Response, ResponseCode};

use tracing::debug;

use super::error::ImapError;
use super::session::ImapSession;
use super::utf7;

/// A selected folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// The name as it went over the wire.
    pub wire_name: String,
    /// UIDs are valid only together with this number (RFC 9051 section 2.3.1.1).
    pub uid_validity: u32,
    /// The UID that the next message will get at least, if the server tells.
    pub uid_next: Option<u32>,
    /// How many messages there are.
    pub exists: u32,
    /// The highest mod-sequence of its messages, if the server keeps such (RFC 7162 section 3.1.2.1).
    pub highest_mod_seq: Option<u64>,
    /// UIDs of messages that went away since what was [known](Known) before, if that was asked and the server keeps it.
    pub vanished: Vec<RangeInclusive<u32>>,
    /// Whether it can only be read.
    pub read_only: bool,
    /// Which flags can be kept, in small letters; `None` if the server told nothing of it, which means all.
    permanent: Option<Vec<String>>,
    /// The name as the configuration has it.
    path: String,
}

impl Folder {
    /// The name as the configuration has it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether the folder keeps this flag, such as `\Seen` or a keyword (RFC 9051 section 7.1, PERMANENTFLAGS). A server
    /// that lists none keeps them all.
    pub fn keeps(&self, flag: &str) -> bool {
        let Some(permanent) = &self.permanent else { return true };
        let named = permanent.iter().any(|kept| kept.eq_ignore_ascii_case(flag));
        named || (!flag.starts_with('\\') && permanent.iter().any(|kept| kept == "\\*"))
    }

    /// Whether messages can be changed at all, and these flags of the system's be set.
    ///
    /// # Errors
    /// [`ImapError::ReadOnly`] with what is missing.
    pub fn require_writable<'f>(&self, flags: impl IntoIterator<Item = &'f str>) -> Result<(), ImapError> {
        let read_only = |reason: String| ImapError::ReadOnly {
            folder: self.path.clone(),
            reason,
        };
        if self.read_only {
            return Err(read_only("the server opened it READ-ONLY".into()));
        }
        match flags.into_iter().find(|flag| !self.keeps(flag)) {
            Some(flag) => Err(read_only(format!("{flag} is not among its permanent flags"))),
            None => Ok(()),
        }
    }
}

/// What is remembered of a folder from an earlier connection, for servers that tell what has changed since (QRESYNC, RFC
/// 7162 section 3.2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// The UIDVALIDITY at that time.
    pub uid_validity: u32,
    /// The highest mod-sequence that was seen.
    pub mod_seq: u64,
}

/// One line of LIST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The name as people read it.
    pub name: String,
    /// What separates the levels of this name, if it has levels.
    pub separator: Option<String>,
    /// Whether it can be selected.
    pub selectable: bool,
}

impl ImapSession {
    /// Opens a folder. Levels in `path` are separated by `/`, whatever the server uses; a folder
    /// that is only found below `INBOX` (as in Courier's and Cyrus' name spaces) is found there.
    ///
    /// # Errors
    /// [`ImapError::NoFolder`] with the folders there are.
    pub async fn open_folder(&mut self, path: &str) -> Result<Folder, ImapError> {
        self.open_folder_since(path, None).await
    }

    /// As [`open_folder`](Self::open_folder), asking what has changed since then where the server can tell; where it can't,
    /// or won't, nothing is different.
    pub async fn open_folder_since(&mut self, path: &str, known: Option<Known>) -> Result<Folder, ImapError> {
        let parameters = self.resync_parameters(known).await?;
        match self.open_with(path, &parameters).await {
            Err(ImapError::Unsupported { text, .. }) if !parameters.is_empty() => {
                debug!(text, parameters, "the server offers what it does not understand");
                self.open_with(path, "").await
            }
            opened => opened,
        }
    }

    /// What is added to SELECT, with QRESYNC enabled before (RFC 7162 sections 3.1.8 and 3.2.3).
    async fn resync_parameters(&mut self, known: Option<Known>) -> Result<String, ImapError> {
        if !self.can("QRESYNC") {
            return Ok(String::new());
        }
        if !self.resyncs {
            let limit = self.timing().command;
            match self.run("ENABLE", "ENABLE QRESYNC", limit, |_| {}).await {
                Err(ImapError::Refused { .. } | ImapError::Unsupported { .. }) => return Ok(String::new()),
                enabled => enabled?,
            }
            self.resyncs = true;
        }
        Ok(match known {
            Some(Known { uid_validity, mod_seq }) if mod_seq > 0 => format!(" (QRESYNC ({uid_validity} {mod_seq}))"),
            _ => String::new(),
        })
    }

    async fn open_with(&mut self, path: &str, parameters: &str) -> Result<Folder, ImapError> {
        if path.eq_ignore_ascii_case("INBOX") {
            return self.select(path, "INBOX".into(), parameters).await;
        }
        let separator = self.separator().await?;
        let name = match &separator {
            Some(separator) => path.replace('/', separator),
            None => path.to_owned(),
        };
        let first = match self.select(path, utf7::encode(&name), parameters).await {
            Err(error @ ImapError::NoFolder { .. }) => error,
            other => return other,
        };
        let below_inbox = separator.filter(|_| !name.to_ascii_uppercase().starts_with("INBOX"));
        if let Some(separator) = below_inbox {
            let name = utf7::encode(&format!("INBOX{separator}{name}"));
            match self.select(path, name, parameters).await {
                Err(ImapError::NoFolder { .. }) => {}
                other => return other,
            }
        }
        Err(self.with_alternatives(first).await)
    }

    /// Lists the folders that match `pattern` (RFC 9051 section 6.3.9), at most `limit` of them.
    pub async fn list(&mut self, pattern: &str, limit: usize) -> Result<Vec<Listed>, ImapError> {
        let mut found = Vec::new();
        let line = format!("LIST \"\" {}", quoted(&utf7::encode(pattern)));
        self.run("LIST", &line, self.timing().command, |response| {
            if let Response::MailboxData(MailboxDatum::List(data)) = response
                && found.len() < limit
            {
                found.push(Listed {
                    name: utf7::decode(&data.name),
                    separator: data.delimiter.as_deref().map(str::to_owned),
                    selectable: !data.name_attributes.contains(&NameAttribute::NoSelect),
                });
            }
        })
        .await?;
        Ok(found)
    }

    /// The separator of the hierarchy: LIST with an empty pattern asks for it (RFC 9051 section 6.3.9).
    pub(super) async fn separator(&mut self) -> Result<Option<String>, ImapError> {
        let root = self.list("", 1).await?;
        let separator = root.into_iter().next().and_then(|root| root.separator);
        // imap-proto leaves a quoted backslash escaped.
        Ok(separator
            .map(|text| text.trim_start_matches('\\').to_owned())
            .map(|text| match text.as_str() {
                "" => "\\".to_owned(),
                _ => text,
            }))
    }

    async fn with_alternatives(&mut self, error: ImapError) -> ImapError {
        let ImapError::NoFolder { folder, text } = error else {
            return error;
        };
        let listed = self.list("*", 20).await.unwrap_or_default();
        let names: Vec<String> = listed
            .into_iter()
            .filter(|listed| listed.selectable)
            .map(|listed| listed.name)
            .collect();
        ImapError::NoFolder {
            folder,
            text: match names.is_empty() {
                true => text,
                false => format!("{text}; the server has: {}", names.join(", ")),
            },
        }
    }

    async fn select(&mut self, path: &str, wire_name: String, parameters: &str) -> Result<Folder, ImapError> {
        self.forget_mod_seq();
        let mut answer = Answer::default();
        let line = format!("SELECT {}{parameters}", quoted(&wire_name));
        let done = self
            .run("SELECT", &line, self.timing().command, |response| answer.take(response))
            .await;
        match done {
            Err(ImapError::Refused { text, .. }) => {
                let folder = path.to_owned();
                return Err(ImapError::NoFolder { folder, text });
            }
            other => other?,
        }
        answer.check(path, wire_name)
    }
}

#[derive(Debug, Default)]
struct Answer {
    exists: u32,
    uid_validity: Option<u32>,
    uid_next: Option<u32>,
    highest_mod_seq: Option<u64>,
    vanished: Vec<RangeInclusive<u32>>,
    read_only: bool,
    permanent: Option<Vec<String>>,
}

impl Answer {
    fn take(&mut self, response: &Response<'_>) {
        match response {
            Response::MailboxData(MailboxDatum::Exists(count)) => self.exists = *count,
            Response::Vanished { earlier: true, uids } => self.vanished.extend(uids.iter().cloned()),
            Response::Data { outcome, .. } | Response::Done { outcome, .. } => match &outcome.code {
                Some(ResponseCode::UidValidity(value)) => self.uid_validity = Some(*value),
                Some(ResponseCode::UidNext(value)) => self.uid_next = Some(*value),
                Some(ResponseCode::HighestModSeq(value)) => self.highest_mod_seq = Some(*value),
                Some(ResponseCode::ReadOnly) => self.read_only = true,
                Some(ResponseCode::PermanentFlags(flags)) => {
                    self.permanent = Some(flags.iter().map(|flag| flag.to_ascii_lowercase()).collect());
                }
                _ => {}
            },
            _ => {}
        }
    }

    fn check(self, path: &str, wire_name: String) -> Result<Folder, ImapError> {
        let Some(uid_validity) = self.uid_validity else {
            return Err(ImapError::Unsupported {
                command: "SELECT",
                text: "it told no UIDVALIDITY, so that no message could be recognised again".into(),
            });
        };
        Ok(Folder {
            wire_name,
            uid_validity,
            uid_next: self.uid_next,
            exists: self.exists,
            highest_mod_seq: self.highest_mod_seq,
            vanished: self.vanished,
            read_only: self.read_only,
            permanent: self.permanent,
            path: path.to_owned(),
        })
    }
}

/// A quoted string (RFC 9051 section 4.3). Encoded names are printable ASCII, so nothing else needs care.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
