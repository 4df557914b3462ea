//! What an operator may set about authentication, and what follows from it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::verdict::{Standing, Verdict};

/// What is done with a message whose sender isn't certain. Whatever it is, what was found is kept with the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// It is an order like any other.
    Ignore,
    /// It is an order like any other, and what was found is logged.
    #[default]
    Note,
    /// A person decides: it goes to the review list, and isn't answered.
    Review,
    /// It becomes a dead letter with its raw bytes and what was found, and isn't answered.
    Reject,
}

/// How messages are authenticated. Nothing is checked unless `trusted_server` or `verify` is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AuthenticationOptions {
    /// The name under which the company's own mail server writes `Authentication-Results` (its authserv-id). The server
    /// has to remove such fields of the same name from what comes in, as RFC 8601 demands. Default none.
    pub trusted_server: Option<String>,
    /// Whether the bot itself checks signatures and policies, where no trusted server has; it asks the DNS for that.
    /// Default no.
    pub verify: bool,
    /// The name of the company's own mail server in its `Received` fields, for checking SPF. Default none.
    pub received_by: Option<String>,
    /// The DNS server: `system`, or an address such as `127.0.0.1` or `127.0.0.1:5353`. Default `system`.
    pub dns: String,
    /// Seconds that checking one message may take before it is tried again later, 1 to 60. Default 10.
    pub timeout_seconds: u64,
    /// What is done with a message that is certainly not from where it says. Default `note`.
    pub on_fail: Policy,
    /// What is done with a message that proves nothing either way. Default `note`.
    pub on_none: Policy,
}

impl Default for AuthenticationOptions {
    fn default() -> Self {
        Self {
            trusted_server: None,
            verify: false,
            received_by: None,
            dns: "system".to_owned(),
            timeout_seconds: 10,
            on_fail: Policy::Note,
            on_none: Policy::Note,
        }
    }
}

/// [`AuthenticationOptions`], checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthenticationSettings {
    pub(super) trusted_server: Option<String>,
    pub(super) verify: bool,
    pub(super) received_by: Option<String>,
    /// `None` is the system's.
    pub(super) dns: Option<SocketAddr>,
    pub(super) timeout: Duration,
    on_fail: Policy,
    on_none: Policy,
}

/// Faulty [`AuthenticationOptions`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthenticationOptionsError {
    /// The DNS server.
    #[error("dns {value:?} is neither `system` nor an address such as `127.0.0.1` or `[::1]:5353`")]
    Dns {
        /// What it says.
        value: String,
    },
    /// The time-out.
    #[error("timeout_seconds takes 1 to 60, not {value}")]
    Timeout {
        /// What it says.
        value: u64,
    },
    /// A policy that would refuse everything.
    #[error("on_fail and on_none have no effect on their own; set trusted_server or verify too")]
    Nothing,
}

impl AuthenticationOptions {
    /// Checks all options.
    ///
    /// # Errors
    /// The first fault.
    pub fn validate(&self) -> Result<AuthenticationSettings, AuthenticationOptionsError> {
        let dns = match self.dns.as_str() {
            "system" => None,
            text => Some(address(text).ok_or_else(|| AuthenticationOptionsError::Dns { value: text.to_owned() })?),
        };
        if !(1..=60).contains(&self.timeout_seconds) {
            return Err(AuthenticationOptionsError::Timeout {
                value: self.timeout_seconds,
            });
        }
        let checked = self.verify || self.trusted_server.is_some();
        if !checked && self.on_fail.max(self.on_none) > Policy::Note {
            return Err(AuthenticationOptionsError::Nothing);
        }
        let name = |name: &Option<String>| name.as_ref().map(|name| name.trim().to_ascii_lowercase());
        Ok(AuthenticationSettings {
            trusted_server: name(&self.trusted_server),
            verify: self.verify,
            received_by: name(&self.received_by),
            dns,
            timeout: Duration::from_secs(self.timeout_seconds),
            on_fail: self.on_fail,
            on_none: self.on_none,
        })
    }
}

impl AuthenticationSettings {
    /// What is to be done with a message of this verdict.
    #[must_use]
    pub fn policy(&self, verdict: &Verdict) -> Policy {
        match verdict.standing {
            Standing::Pass => Policy::Ignore,
            Standing::Fail => self.on_fail,
            Standing::None => self.on_none,
        }
    }
}

fn address(text: &str) -> Option<SocketAddr> {
    const DNS_PORT: u16 = 53;
    let with_port = text.parse::<SocketAddr>().ok();
    with_port.or_else(|| Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, DNS_PORT)))
}
