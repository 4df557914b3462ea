//! The URLs of IMAP folders, taken apart: who, where, and the options that only they have.

use std::net::IpAddr;
use std::time::Duration;

use plba_net::TlsSettings;
use url::Url;

use super::{Common, ImapLocation, Mechanism, TokenSource, Watch, decoded, interval, unknown};

pub(super) fn parse(text: &str, encrypted: bool) -> Result<ImapLocation, String> {
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
        watch: Watch::Poll,
        mechanism: Mechanism::Login,
        password_file: None,
        token: None,
        common: Common::default(),
    };
    let plaintext_allowed = imap_options(&url, &mut location)?;
    location.common.after.check(&location.folder)?;
    if !encrypted && !plaintext_allowed && !is_loopback(&location.host) {
        return Err("imap:// would send the password unencrypted; use imaps://, or add plaintext=allow".into());
    }
    Ok(location)
}

/// What an IMAP URL's options say beyond the location's own fields.
#[derive(Default)]
struct Asked {
    plaintext_allowed: bool,
    idle: bool,
    longest: Option<Duration>,
    safety: Option<Duration>,
    mechanism: Option<Mechanism>,
}

/// Reads the options into `location`; answers whether an unencrypted connection is allowed.
fn imap_options(url: &Url, location: &mut ImapLocation) -> Result<bool, String> {
    let mut asked = Asked::default();
    for (key, value) in url.query_pairs() {
        let taken = location.common.set(&key, &value)?
            || location.set_network(&key, &value, &mut asked)?
            || location.set_login(&key, &value, &mut asked)?;
        if !taken {
            return Err(unknown(&key, &KNOWN));
        }
    }
    if location.tls.only_ca && location.tls.ca.is_none() {
        return Err("only_ca=true needs ca, the file of the one authority to trust".into());
    }
    location.watch = asked.watch()?;
    location.mechanism = match (asked.mechanism, &location.token) {
        (None, None) => Mechanism::Login,
        (None | Some(Mechanism::XOAuth2), Some(_)) => Mechanism::XOAuth2,
        (Some(Mechanism::XOAuth2), None) => return Err("auth=xoauth2 needs token_file or token_command".into()),
        (Some(_), Some(_)) => return Err("a token is for auth=xoauth2 only".into()),
        (Some(mechanism), None) => mechanism,
    };
    Ok(asked.plaintext_allowed)
}

const KNOWN: [&str; 16] = [
    "mode",
    "idle",
    "safety",
    "since",
    "interval",
    "max_message",
    "mark",
    "move",
    "errors",
    "auth",
    "password_file",
    "token_file",
    "token_command",
    "ca",
    "only_ca",
    "plaintext",
];

/// How long the server may be left alone, and how often to look at the latest, unless the URL says otherwise.
const WATCH_SPAN: Duration = Duration::from_secs(300);

impl Asked {
    fn watch(&self) -> Result<Watch, String> {
        match (self.idle, self.longest, self.safety) {
            (true, longest, safety) => Ok(Watch::Idle {
                longest: longest.unwrap_or(WATCH_SPAN),
                safety: safety.unwrap_or(WATCH_SPAN),
            }),
            (false, None, None) => Ok(Watch::Poll),
            (false, _, _) => Err("`idle` and `safety` are for mode=idle".into()),
        }
    }
}

impl ImapLocation {
    /// Takes an option about the connection and its use; `false` if it is none.
    fn set_network(&mut self, key: &str, value: &str, asked: &mut Asked) -> Result<bool, String> {
        match (key, value) {
            ("mode", "poll") => asked.idle = false,
            ("mode", "idle") => asked.idle = true,
            ("mode", other) => return Err(format!("mode `{other}` is not known; there are poll and idle")),
            ("idle", text) => asked.longest = Some(seconds("idle", text, WATCH_SPAN)?),
            ("safety", text) => asked.safety = Some(seconds("safety", text, Duration::from_secs(86_400))?),
            ("ca" | "only_ca", _) if !self.encrypted => {
                return Err(format!("`{key}` is for encrypted connections; use imaps://"));
            }
            ("ca", path) => self.tls.ca = Some(path.into()),
            ("only_ca", "true") => self.tls.only_ca = true,
            ("only_ca", "false") => self.tls.only_ca = false,
            ("only_ca", other) => return Err(format!("only_ca is true or false, not `{other}`")),
            ("plaintext", "allow") => asked.plaintext_allowed = true,
            ("plaintext", other) => return Err(format!("plaintext can only be `allow`, not `{other}`")),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Takes an option about logging in; `false` if it is none.
    fn set_login(&mut self, key: &str, value: &str, asked: &mut Asked) -> Result<bool, String> {
        match (key, value) {
            ("auth", "login") => asked.mechanism = Some(Mechanism::Login),
            ("auth", "plain") => asked.mechanism = Some(Mechanism::Plain),
            ("auth", "scram-sha-256") => asked.mechanism = Some(Mechanism::ScramSha256),
            ("auth", "xoauth2") => asked.mechanism = Some(Mechanism::XOAuth2),
            ("auth", other) => {
                return Err(format!(
                    "auth `{other}` is not known; there are login, plain, scram-sha-256 and xoauth2"
                ));
            }
            ("password_file", path) => self.password_file = Some(path.into()),
            ("token_file" | "token_command", _) if self.token.is_some() => {
                return Err("one of token_file and token_command is enough".into());
            }
            ("token_file", path) => self.token = Some(TokenSource::File(path.into())),
            ("token_command", line) => {
                let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
                if words.is_empty() {
                    return Err("token_command names no program".into());
                }
                self.token = Some(TokenSource::Command(words));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// A span of at most `most`; a bare number means seconds.
fn seconds(key: &str, text: &str, most: Duration) -> Result<Duration, String> {
    let wrong = || {
        format!(
            "{key} `{text}` is no time here; write 300 or 5m, from 10ms to {} s",
            most.as_secs()
        )
    };
    let span = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => interval(text).map_err(|_| wrong())?,
    };
    Some(span)
        .filter(|span| (Duration::from_millis(10)..=most).contains(span))
        .ok_or_else(wrong)
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
