//! The URL of a mail server, taken apart and checked. Nothing is opened here.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use plba_net::TlsSettings;
use url::Url;

/// Where mails are handed over. Read from a URL by [`parse`](Self::parse).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmtpSettings {
    /// The server's name or address.
    pub host: String,
    /// Its port. Default: 465 for `smtps:`, 587 for `smtp:`.
    pub port: u16,
    /// Whether the connection is encrypted from the first byte (`smtps:`).
    pub encrypted: bool,
    /// `starttls`: whether a connection that is not has to become so. Default: required, but for a server on this machine.
    pub starttls: StartTls,
    /// Whom to log in as, if anybody.
    pub user: Option<String>,
    /// `password_file`: a file whose first line is the password, read at every connection.
    pub password_file: Option<PathBuf>,
    /// `ca`, `only_ca`: whom to trust besides or instead of the system's authorities.
    pub tls: TlsSettings,
    /// `hello`: the name that we say we have. Default: `localhost`.
    pub hello: String,
    /// `timeout`: for handing over one mail, the connection included. Default: 2 min.
    pub timeout: Duration,
    /// `idle`: a connection that was not used for so long is not used again. Default: 30 s.
    pub idle: Duration,
    /// `messages`: how many mails one connection carries at most. Default: 100.
    pub messages: u32,
}

/// Whether a plain connection has to become an encrypted one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartTls {
    /// A server that can't is not used.
    Required,
    /// It stays plain.
    Off,
}

impl SmtpSettings {
    /// Reads `smtp://[USER@]HOST[:PORT]?…` or `smtps://…`.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence; never with a password in it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let encrypted = match text.split_once(':') {
            Some(("smtp", _)) => false,
            Some(("smtps", _)) => true,
            _ => return Err("write smtps://USER@HOST or smtp://USER@HOST".into()),
        };
        let url = Url::parse(text).map_err(|error| format!("{error}; write smtps://USER@HOST"))?;
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or("it names no host; write smtps://USER@HOST")?;
        // IPv6 addresses stand in brackets in a URL and nowhere else.
        let host = host.trim_matches(['[', ']']).to_owned();
        if url.password().is_some() {
            return Err(
                "a password does not belong into a URL; use password_file or the setting of the password".into(),
            );
        }
        if !matches!(url.path(), "" | "/") {
            return Err("a mail server has no path; write smtps://USER@HOST".into());
        }
        let user = crate::location::decoded(url.username())?;
        let near = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        let mut settings = Self {
            port: url.port().unwrap_or(if encrypted { 465 } else { 587 }),
            encrypted,
            starttls: if near { StartTls::Off } else { StartTls::Required },
            user: (!user.is_empty()).then_some(user),
            password_file: None,
            tls: TlsSettings::default(),
            hello: "localhost".to_owned(),
            timeout: Duration::from_secs(120),
            idle: Duration::from_secs(30),
            messages: 100,
            host,
        };
        for (key, value) in url.query_pairs() {
            settings.set(&key, &value)?;
        }
        if settings.encrypted && url.query_pairs().any(|(key, _)| key == "starttls") {
            return Err("`starttls` is for smtp://; smtps:// is encrypted from the first byte".into());
        }
        if settings.tls.only_ca && settings.tls.ca.is_none() {
            return Err("only_ca=true needs ca, the file of the one authority to trust".into());
        }
        if settings.user.is_some() && !settings.encrypted && settings.starttls == StartTls::Off && !near {
            return Err("the password would be sent unencrypted; use smtps://, or leave starttls=off out".into());
        }
        Ok(settings)
    }

    /// Whether a password is needed that the URL does not lead to.
    #[must_use]
    pub fn needs_password(&self) -> bool {
        self.user.is_some() && self.password_file.is_none()
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "password_file" => self.password_file = Some(value.into()),
            "ca" => self.tls.ca = Some(value.into()),
            "only_ca" => {
                self.tls.only_ca = match value {
                    "true" => true,
                    "false" => false,
                    _ => return Err(format!("only_ca is true or false, not `{value}`")),
                }
            }
            "starttls" => {
                self.starttls = match value {
                    "required" => StartTls::Required,
                    "off" => StartTls::Off,
                    _ => return Err(format!("starttls is required or off, not `{value}`")),
                }
            }
            "hello" => {
                let sound = |byte: u8| byte.is_ascii_alphanumeric() || b".-[]:".contains(&byte);
                if !(1..=200).contains(&value.len()) || !value.bytes().all(sound) {
                    return Err(format!(
                        "hello is this machine's name, such as bot.example.com, not `{value}`"
                    ));
                }
                value.clone_into(&mut self.hello);
            }
            "timeout" => self.timeout = span(key, value, 1..=3600)?,
            "idle" => self.idle = span(key, value, 1..=300)?,
            "messages" => {
                let messages = value.parse().ok().filter(|messages| (1..=10_000).contains(messages));
                self.messages =
                    messages.ok_or_else(|| format!("messages is a number from 1 to 10000, not `{value}`"))?;
            }
            _ => {
                return Err(format!(
                    "option `{key}` is not known; there are password_file, starttls, ca, only_ca, hello, timeout, idle and \
                     messages"
                ));
            }
        }
        Ok(())
    }
}

fn span(key: &str, text: &str, seconds: std::ops::RangeInclusive<u64>) -> Result<Duration, String> {
    let parsed = text.parse::<jiff::SignedDuration>().ok();
    let span = parsed.and_then(|span| Duration::try_from(span).ok());
    span.filter(|span| seconds.contains(&span.as_secs())).ok_or_else(|| {
        format!(
            "{key} is a span from {} s to {} s, such as 30s, not `{text}`",
            seconds.start(),
            seconds.end()
        )
    })
}
