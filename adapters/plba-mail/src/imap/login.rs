//! Proving to the server who we are: LOGIN and AUTHENTICATE with PLAIN, XOAUTH2 and SCRAM-SHA-256. Where passwords and
//! tokens come from is the source's business.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use plba_contracts::secret::Secret;
use tokio::time::{Instant, timeout_at};

use super::error::{ImapError, lost};
use super::scram::Scram;
use super::session::{Heard, ImapSession};

/// How to prove to the server who we are.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Authentication {
    /// User name and password, by LOGIN (RFC 9051 section 6.2.3).
    Password {
        /// The account.
        user: String,
        /// Its password.
        password: Secret,
    },
    /// User name and password, by AUTHENTICATE PLAIN (RFC 4616).
    Plain {
        /// The account.
        user: String,
        /// Its password.
        password: Secret,
    },
    /// User name and password, by AUTHENTICATE SCRAM-SHA-256 (RFC 5802, RFC 7677): the password is not sent, and the
    /// server has to prove that it knows it too.
    ScramSha256 {
        /// The account.
        user: String,
        /// Its password.
        password: Secret,
        /// What the client contributes to the proof: random, new for each connection, printable and without commas.
        nonce: String,
    },
    /// An OAuth 2.0 access token, by AUTHENTICATE XOAUTH2 as Google and Microsoft have it.
    XOAuth2 {
        /// The account.
        user: String,
        /// The access token.
        token: Secret,
    },
}

impl Authentication {
    /// The secret that is shown to the server, or proven.
    pub(crate) fn secret(&self) -> &Secret {
        match self {
            Authentication::Password { password, .. }
            | Authentication::Plain { password, .. }
            | Authentication::ScramSha256 { password, .. } => password,
            Authentication::XOAuth2 { token, .. } => token,
        }
    }
}

impl ImapSession {
    pub(super) async fn log_in(&mut self, authentication: &Authentication, limit: Duration) -> Result<(), ImapError> {
        match authentication {
            Authentication::Password { user, password } => self.login(user, password, limit).await,
            Authentication::Plain { user, password } => {
                let response = format!("\0{user}\0{}", password.expose());
                let steps = Steps::Once(Some(response.into_bytes()));
                self.authenticate("PLAIN", steps, limit).await
            }
            Authentication::XOAuth2 { user, token } => {
                let response = format!("user={user}\x01auth=Bearer {}\x01\x01", token.expose());
                let steps = Steps::Once(Some(response.into_bytes()));
                self.authenticate("XOAUTH2", steps, limit).await
            }
            Authentication::ScramSha256 { user, password, nonce } => {
                let scram = Scram::new(user, password, nonce).map_err(|text| ImapError::Credentials { text })?;
                self.authenticate("SCRAM-SHA-256", Steps::Scram(Box::new(scram)), limit)
                    .await
            }
        }
    }

    async fn login(&mut self, user: &str, password: &Secret, limit: Duration) -> Result<(), ImapError> {
        // A server that tells in its greeting not to take passwords in the clear is not sent one (RFC 9051 section 6.2.3).
        if self.greeted_with.iter().flatten().any(|name| name == "LOGINDISABLED") {
            return Err(ImapError::Unsupported {
                command: "LOGIN",
                text:
                    "it takes no password over an unencrypted connection, or not by LOGIN; use imaps://, or auth=plain"
                        .into(),
            });
        }
        let line = match (quoted(user), quoted(password.expose())) {
            (Some(user), Some(password)) => format!("LOGIN {user} {password}"),
            _ => {
                return Err(ImapError::Credentials {
                    text: "user and password may not contain line breaks".into(),
                });
            }
        };
        let answer = self.run("LOGIN", &line, limit, |_| {}).await;
        answer.map_err(as_credentials)
    }

    /// AUTHENTICATE (RFC 9051 section 6.2.2). The first response waits for the server's invitation, which all servers
    /// understand, those without SASL-IR included.
    async fn authenticate(&mut self, mechanism: &'static str, steps: Steps, limit: Duration) -> Result<(), ImapError> {
        if let Some(offered) = &self.greeted_with {
            let offers: Vec<&str> = offered.iter().filter_map(|name| name.strip_prefix("AUTH=")).collect();
            if !offers.contains(&mechanism) {
                return Err(ImapError::Unsupported {
                    command: "AUTHENTICATE",
                    text: format!("it offers not {mechanism}, but {}", offers.join(", ")),
                });
            }
        }
        self.begin("AUTHENTICATE")?;
        let answer = timeout_at(Instant::now() + limit, self.converse(mechanism, steps)).await;
        self.conclude("AUTHENTICATE", limit, answer).map_err(as_credentials)
    }

    async fn converse(
        &mut self,
        mechanism: &'static str,
        mut steps: Steps,
    ) -> Result<Result<(), ImapError>, ImapError> {
        const COMMAND: &str = "AUTHENTICATE";
        let tag = self.send_tagged(COMMAND, &format!("{COMMAND} {mechanism}")).await?;
        // The reason stands in a challenge that XOAUTH2 servers send before they refuse.
        let mut reason = None;
        loop {
            let challenge = match self.hear(COMMAND, &tag, |_| {}).await? {
                Heard::Ended(Ok(())) if !steps.is_proven() => {
                    return Err(lost(
                        COMMAND,
                        None,
                        "the server did not prove that it knows the password",
                    ));
                }
                Heard::Ended(Err(ImapError::Refused { command, text })) => {
                    let text = reason.map_or(text.clone(), |reason: String| format!("{text} {reason}"));
                    return Ok(Err(ImapError::Refused { command, text }));
                }
                Heard::Ended(ended) => return Ok(ended),
                Heard::Aside => continue,
                Heard::Invited(text) => text,
            };
            let challenge = BASE64
                .decode(challenge.trim())
                .map_err(|_| lost(COMMAND, None, "the server's challenge is not in base64"))?;
            let next = match steps.answer(&challenge) {
                Ok(next) => next,
                Err(text) => return Err(lost(COMMAND, None, &text)),
            };
            if next.is_empty() && !challenge.is_empty() && matches!(steps, Steps::Once(None)) {
                reason = Some(String::from_utf8_lossy(&challenge).chars().take(200).collect());
            }
            self.send(COMMAND, &BASE64.encode(next)).await?;
        }
    }
}

/// What a mechanism says in turn.
enum Steps {
    /// One response; whatever is asked after it gets an empty one.
    Once(Option<Vec<u8>>),
    Scram(Box<Scram>),
}

impl Steps {
    fn answer(&mut self, challenge: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Steps::Once(response) => Ok(response.take().unwrap_or_default()),
            Steps::Scram(scram) => scram.answer(challenge),
        }
    }

    /// Whether the server has done its part, where it has one.
    fn is_proven(&self) -> bool {
        match self {
            Steps::Once(_) => true,
            Steps::Scram(scram) => scram.is_proven(),
        }
    }
}

/// A refusal here is about the credentials, unless it asked for a pause.
fn as_credentials(error: ImapError) -> ImapError {
    match error {
        ImapError::Refused { text, .. } => ImapError::Credentials { text },
        other => other,
    }
}

/// A quoted string (RFC 9051 section 4.3); `None` for what can't be one.
fn quoted(text: &str) -> Option<String> {
    let fits = !text.contains(['\r', '\n', '\0']);
    fits.then(|| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}
