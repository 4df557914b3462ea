//! The URLs by which mail sources are configured, taken apart and checked. Nothing is opened here.
//!
//! ```text
//! maildir:PATH?since=…&interval=…&max_message=…
//! imaps://USER@HOST[:993]/FOLDER?mode=poll&since=…&interval=…&max_message=…&password_file=…&ca=…&only_ca=…
//! imap://USER@HOST[:143]/FOLDER?…&plaintext=allow
//! ```

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;
use plba_net::TlsSettings;
use url::Url;

use crate::since::Since;

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
}

impl Default for Common {
    fn default() -> Self {
        Common {
            since: Since::default(),
            interval: Duration::from_secs(30),
            max_message: 25 * MIB,
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
    /// `password_file`: a file whose first line is the password, read at every connection.
    pub password_file: Option<PathBuf>,
    /// Options.
    pub common: Common,
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
        matches!(self, Location::Imap(location) if location.password_file.is_none())
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
        "imap" | "imaps" => parse_imap(text, scheme == "imaps").map(Location::Imap),
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
            return Err(unknown(&key, &["since", "interval", "max_message"]));
        }
    }
    Ok(MaildirLocation {
        path: path.into(),
        common,
    })
}

fn parse_imap(text: &str, encrypted: bool) -> Result<ImapLocation, String> {
    let url = Url::parse(text).map_err(|error| format!("{error}; write imaps://USER@HOST/FOLDER"))?;
    let host = url
        .host_str()
        .filter(|host| !host.is_empty())
        .ok_or("it names no host; write imaps://USER@HOST/FOLDER")?;
    if url.password().is_some() {
        return Err("a password does not belong into a URL; use password_file or the environment".into());
    }
    let user = decoded(url.username())?;
    if user.is_empty() {
        return Err("it names no user; write imaps://USER@HOST/FOLDER, with %40 for an @ in the name".into());
    }
    let folder = decoded(url.path().trim_matches('/'))?;
    if folder.chars().any(char::is_control) {
        return Err("the folder name holds control characters".into());
    }
    let mut location = ImapLocation {
        encrypted,
        user,
        // IPv6 addresses stand in brackets in a URL and nowhere else.
        host: host.trim_matches(['[', ']']).to_owned(),
        port: url.port().unwrap_or(if encrypted { 993 } else { 143 }),
        folder: if folder.is_empty() { "INBOX".into() } else { folder },
        tls: TlsSettings::default(),
        password_file: None,
        common: Common::default(),
    };
    let plaintext_allowed = imap_options(&url, &mut location)?;
    if !encrypted && !plaintext_allowed && !is_loopback(&location.host) {
        return Err("imap:// would send the password unencrypted; use imaps://, or add plaintext=allow".into());
    }
    Ok(location)
}

/// Reads the options into `location`; answers whether an unencrypted connection is allowed.
fn imap_options(url: &Url, location: &mut ImapLocation) -> Result<bool, String> {
    const KNOWN: [&str; 8] = [
        "mode",
        "since",
        "interval",
        "max_message",
        "password_file",
        "ca",
        "only_ca",
        "plaintext",
    ];
    let mut plaintext_allowed = false;
    for (key, value) in url.query_pairs() {
        if location.common.set(&key, &value)? {
            continue;
        }
        match (key.as_ref(), value.as_ref()) {
            ("mode", "poll") => {}
            ("mode", other) => return Err(format!("mode `{other}` is not known; there is poll")),
            ("password_file", path) => location.password_file = Some(path.into()),
            ("ca" | "only_ca", _) if !location.encrypted => {
                return Err(format!("`{key}` is for encrypted connections; use imaps://"));
            }
            ("ca", path) => location.tls.ca = Some(path.into()),
            ("only_ca", "true") => location.tls.only_ca = true,
            ("only_ca", "false") => location.tls.only_ca = false,
            ("only_ca", other) => return Err(format!("only_ca is true or false, not `{other}`")),
            ("plaintext", "allow") => plaintext_allowed = true,
            ("plaintext", other) => return Err(format!("plaintext can only be `allow`, not `{other}`")),
            (other, _) => return Err(unknown(other, &KNOWN)),
        }
    }
    if location.tls.only_ca && location.tls.ca.is_none() {
        return Err("only_ca=true needs ca, the file of the one authority to trust".into());
    }
    Ok(plaintext_allowed)
}

impl Common {
    /// Takes an option that every mail source has; `false` if it is none of them.
    fn set(&mut self, key: &str, value: &str) -> Result<bool, String> {
        match key {
            "since" => self.since = value.parse().map_err(|error| format!("since: {error}"))?,
            "interval" => self.interval = interval(value)?,
            "max_message" => self.max_message = size(value)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let wrong = || format!("interval `{text}` is no time; write 30s, 500ms or 5m, from 10ms to 1d");
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

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Percent-decoding of a part of a URL.
fn decoded(text: &str) -> Result<String, String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn imap(text: &str) -> ImapLocation {
        match text.parse() {
            Ok(Location::Imap(location)) => location,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_maildir_is_a_path_with_options() {
        for (text, path) in [
            ("maildir:var/inbox", "var/inbox"),
            (
                "maildir:/srv/a%20b?since=all&interval=100ms&max_message=1MiB",
                "/srv/a b",
            ),
            ("maildir:///srv/mail", "/srv/mail"),
        ] {
            let Ok(Location::Maildir(location)) = text.parse() else {
                panic!("{text}");
            };
            assert_eq!(location.path, PathBuf::from(path));
        }
        let Ok(Location::Maildir(location)) = "maildir:x?since=all&interval=100ms&max_message=1MiB".parse() else {
            panic!("not read");
        };
        assert_eq!(location.common.since, Since::All);
        assert_eq!(location.common.interval, Duration::from_millis(100));
        assert_eq!(location.common.max_message, MIB);
    }

    #[test]
    fn an_account_has_defaults_and_options() {
        let location = imap("imaps://bot%40example.org@mail.example.org");
        assert_eq!(
            (location.user.as_str(), location.port, location.folder.as_str()),
            ("bot@example.org", 993, "INBOX")
        );
        assert_eq!(location.common, Common::default());
        assert_eq!(location.name(), "imaps://bot@example.org@mail.example.org:993/INBOX");

        let location =
            imap("imaps://bot@[::1]:1993/Auftr%C3%A4ge/Neu?mode=poll&ca=/etc/ca.pem&only_ca=true&password_file=pw");
        assert_eq!((location.host.as_str(), location.port), ("::1", 1993));
        assert_eq!(location.folder, "Aufträge/Neu");
        assert_eq!(location.tls.ca, Some("/etc/ca.pem".into()));
        assert_eq!(location.password_file, Some("pw".into()));
    }

    #[test]
    fn long_names_are_cut_and_stay_apart() {
        let [one, two] = ["a", "b"].map(|end| bounded(format!("maildir:{}{end}", "ü".repeat(200))));
        assert!(one.len() <= 180 && two.len() <= 180 && one != two, "{one} {two}");
        assert_eq!(bounded("maildir:/x".into()), "maildir:/x");
    }

    #[test]
    fn passwords_are_not_sent_in_the_clear_unless_allowed() {
        for fine in [
            "imap://bot@localhost/",
            "imap://bot@127.0.0.1:1143/",
            "imap://bot@mail.lan/?plaintext=allow",
        ] {
            assert!(!imap(fine).encrypted);
        }
        let error = "imap://bot@mail.lan/".parse::<Location>().unwrap_err();
        assert!(error.to_string().contains("imaps://"), "{error}");
    }

    #[test]
    fn each_mistake_gets_one_clear_error_and_no_password_is_shown() {
        let cases = [
            ("var/inbox", "no scheme"),
            ("pop3://bot@host/", "`pop3`"),
            ("maildir:", "no directory"),
            ("maildir:x?sinc=all", "`sinc`"),
            ("maildir:x?since=yesterday", "yesterday"),
            ("maildir:x?interval=1", "interval"),
            ("maildir:x?interval=-3s", "interval"),
            ("maildir:x?interval=400d", "interval"),
            ("maildir:x?max_message=1GB", "max_message"),
            ("maildir:x?max_message=0", "max_message"),
            ("maildir:%zz", "%25"),
            ("imaps://host/INBOX", "no user"),
            ("imaps:///INBOX", "host"),
            ("imaps://bot@host:99999/", "port"),
            ("imaps://bot:hunter2@host/", "password_file"),
            ("imaps://bot:hunter2@host:99999/", "port"),
            ("imaps://bot@host/?mode=push", "push"),
            ("imaps://bot@host/?only_ca=true", "needs ca"),
            ("imaps://bot@host/?ca=x&only_ca=yes", "true or false"),
            ("imap://bot@localhost/?ca=x", "imaps://"),
            ("imaps://bot@host/a%0d%0ab", "control"),
            ("imaps://bot@host/?colour=red", "`colour`"),
        ];
        for (text, expected) in cases {
            let error = text.parse::<Location>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
