//! The URLs by which mail sources are configured, taken apart and checked. Nothing is opened here.
//!
//! ```text
//! maildir:PATH?since=…&interval=…&max_message=…&mark=…&move=…&errors=…
//! imaps://USER@HOST[:993]/FOLDER?mode=poll&since=…&interval=…&max_message=…&password_file=…&ca=…&only_ca=…
//! imaps://USER@HOST[:993]/FOLDER?mode=idle&idle=…&safety=…&auth=…&token_file=…&token_command=…
//! imaps://USER@HOST[:993]/FOLDER?mark=seen,$Ordered&move=Done&errors=Problems
//! imap://USER@HOST[:143]/FOLDER?…&plaintext=allow
//! ```

mod after;
mod imap;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;
use plba_net::TlsSettings;

use crate::since::Since;

pub use after::{After, Mark};

/// A mail source as its URL describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// `maildir:`
    Maildir(MaildirLocation),
    /// `imap:` and `imaps:`
    Imap(ImapLocation),
}

/// What all mail sources have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Common {
    /// `since`: what becomes a task at the first connection (default `unseen`).
    pub since: Since,
    /// `interval`: how often to look (default 30 s, at least 10 ms).
    pub interval: Duration,
    /// `max_message`: the largest message that is taken in, in bytes (default 25 MiB, at most 256 MiB). A larger one
    /// becomes a dead letter that says so.
    pub max_message: u64,
    /// `mark`, `move` and `errors`: what becomes of messages that are over (default: they are marked as seen).
    pub after: After,
}

impl Default for Common {
    fn default() -> Self {
        Common {
            since: Since::default(),
            interval: Duration::from_secs(30),
            max_message: 25 * MIB,
            after: After::default(),
        }
    }
}

/// A Maildir.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaildirLocation {
    /// The directory that holds `new`, `cur` and `tmp`.
    pub path: PathBuf,
    /// Options.
    pub common: Common,
}

/// A folder of an IMAP account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImapLocation {
    /// Whether the connection is encrypted from the first byte (`imaps:`).
    pub encrypted: bool,
    /// The account.
    pub user: String,
    /// The server's name or address.
    pub host: String,
    /// The server's port.
    pub port: u16,
    /// The folder, with `/` between levels (default `INBOX`).
    pub folder: String,
    /// `ca` and `only_ca`: whom to trust besides or instead of the system's authorities.
    pub tls: TlsSettings,
    /// `mode`, `idle` and `safety`: how news of messages comes (default: by polling at the common `interval`).
    pub watch: Watch,
    /// `auth`: by which mechanism to log in (default `login`, with a token `xoauth2`).
    pub mechanism: Mechanism,
    /// `password_file`: a file whose first line is the password, read at every connection.
    pub password_file: Option<PathBuf>,
    /// `token_file` or `token_command`: where the access token comes from, asked at every connection.
    pub token: Option<TokenSource>,
    /// Options.
    pub common: Common,
}

/// How a source learns of new messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// `mode=poll`: it looks every `interval`.
    Poll,
    /// `mode=idle`: the server says so (RFC 2177). Where it can't, the source polls.
    Idle {
        /// `idle`: for how long at most the server is left to itself before IDLE is issued anew (default 5 min, which is
        /// also the most).
        longest: Duration,
        /// `safety`: how often to look though nothing was said (default 5 min).
        safety: Duration,
    },
}

/// By which mechanism to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// LOGIN.
    Login,
    /// AUTHENTICATE PLAIN.
    Plain,
    /// AUTHENTICATE SCRAM-SHA-256.
    ScramSha256,
    /// AUTHENTICATE XOAUTH2.
    XOAuth2,
}

/// Where access tokens come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// The first line of a file, which somebody else keeps fresh.
    File(PathBuf),
    /// The first line that a program writes; its words are separated by blanks, and no shell is involved.
    Command(Vec<String>),
}

impl Location {
    /// The source's stable name, which tells account and folder, or the path; a relative path counts from `directory`.
    /// Name the source worker's intake by this, so that the ledger's entries belong to what they were taken from.
    pub fn name(&self, directory: &Path) -> String {
        match self {
            Location::Maildir(location) => location.name(directory),
            Location::Imap(location) => location.name(),
        }
    }

    /// Whether the source needs a password that the location does not lead to.
    pub fn needs_password(&self) -> bool {
        matches!(self, Location::Imap(location) if location.needs_password())
    }
}

impl MaildirLocation {
    /// The source's stable name: the absolute path; a relative one counts from `directory`.
    pub fn name(&self, directory: &Path) -> String {
        let root = directory.join(&self.path);
        let shown = std::path::absolute(&root).unwrap_or(root);
        bounded(format!("maildir:{}", shown.display()))
    }
}

impl ImapLocation {
    /// Whether the account needs a password that the location does not lead to.
    pub fn needs_password(&self) -> bool {
        self.password_file.is_none() && self.token.is_none()
    }

    /// The source's stable name: account and folder, without secrets and options.
    pub fn name(&self) -> String {
        let scheme = if self.encrypted { "imaps" } else { "imap" };
        bounded(format!(
            "{scheme}://{}@{}:{}/{}",
            self.user, self.host, self.port, self.folder
        ))
    }
}

/// A name that ledgers accept: a long one is cut and told apart from its like by a digest (FNV-1a, 64 bits).
pub(crate) fn bounded(name: String) -> String {
    const LONGEST: usize = 180;
    if name.len() <= LONGEST {
        return name;
    }
    let digest = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |digest, byte| {
        (digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{}#{digest:016x}", &name[..name.floor_char_boundary(LONGEST - 17)])
}

const MIB: u64 = 1024 * 1024;

/// What is wrong with a source URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("source `{shown}`: {problem}")]
pub struct BadLocation {
    /// The URL, without its password.
    pub shown: String,
    /// What to change.
    pub problem: String,
}

impl std::str::FromStr for Location {
    type Err = BadLocation;

    fn from_str(text: &str) -> Result<Self, BadLocation> {
        parse(text).map_err(|problem| BadLocation {
            shown: without_password(text),
            problem,
        })
    }
}

fn parse(text: &str) -> Result<Location, String> {
    let (scheme, _) = text
        .split_once(':')
        .ok_or("it has no scheme; write maildir:PATH or imaps://USER@HOST/FOLDER")?;
    match scheme {
        "maildir" => parse_maildir(text).map(Location::Maildir),
        "imap" | "imaps" => imap::parse(text, scheme == "imaps").map(Location::Imap),
        other => Err(format!(
            "scheme `{other}` is not known here; there are maildir, imap and imaps"
        )),
    }
}

fn parse_maildir(text: &str) -> Result<MaildirLocation, String> {
    let rest = text.strip_prefix("maildir:").unwrap_or(text);
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let path = decoded(path.strip_prefix("//").unwrap_or(path))?;
    if path.is_empty() {
        return Err("it names no directory; write maildir:PATH".into());
    }
    let mut common = Common::default();
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        if !common.set(&key, &value)? {
            return Err(unknown(
                &key,
                &["since", "interval", "max_message", "mark", "move", "errors"],
            ));
        }
    }
    if let Some(word) = common.after.marks.iter().find(|mark| mark.maildir_letter().is_none()) {
        return Err(format!(
            "a Maildir keeps no keywords such as {word}; mark with seen, flagged or answered"
        ));
    }
    common.after.check("")?;
    Ok(MaildirLocation {
        path: path.into(),
        common,
    })
}

impl Common {
    /// Takes an option that every mail source has; `false` if it is none of them.
    fn set(&mut self, key: &str, value: &str) -> Result<bool, String> {
        match key {
            "since" => self.since = value.parse().map_err(|error| format!("since: {error}"))?,
            "interval" => self.interval = interval(value)?,
            "max_message" => self.max_message = size(value)?,
            _ => return self.after.set(key, value),
        }
        Ok(true)
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let wrong = || format!("interval `{text}` is no time; write 30s, 500ms or 5m, from 10ms to 24h");
    let parsed: SignedDuration = text.parse().map_err(|_| wrong())?;
    let interval = Duration::try_from(parsed).map_err(|_| wrong())?;
    match interval {
        short if short < Duration::from_millis(10) => Err(wrong()),
        long if long > Duration::from_secs(86_400) => Err(wrong()),
        _ => Ok(interval),
    }
}

fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("max_message `{text}` is no size; write bytes, 512KiB or 25MiB, up to 256MiB");
    let (digits, factor) = match text {
        mib if mib.ends_with("MiB") => (mib.trim_end_matches("MiB"), MIB),
        kib if kib.ends_with("KiB") => (kib.trim_end_matches("KiB"), 1024),
        bytes => (bytes, 1),
    };
    let number: u64 = digits.trim().parse().map_err(|_| wrong())?;
    let size = number.checked_mul(factor).ok_or_else(wrong)?;
    if (1..=256 * MIB).contains(&size) {
        Ok(size)
    } else {
        Err(wrong())
    }
}

fn unknown(key: &str, known: &[&str]) -> String {
    format!("option `{key}` is not known; there are {}", known.join(", "))
}

/// Percent-decoding of a part of a URL.
pub(crate) fn decoded(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte != b'%' {
            bytes.push(byte);
            rest = after;
            continue;
        }
        let code = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = code.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(byte.ok_or_else(|| format!("`{text}` holds a % without two hexadecimal digits; write %25 for %"))?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).map_err(|_| format!("`{text}` is not UTF-8 once decoded"))
}

/// A URL as it may be shown: whatever stands between the user's colon and the `@` is masked.
fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let authority = rest.split(['/', '?']).next().unwrap_or(rest);
    let Some((userinfo, _)) = authority.rsplit_once('@') else {
        return text.to_owned();
    };
    match userinfo.split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:***{}", &rest[userinfo.len()..]),
        None => text.to_owned(),
    }
}
