//! Finding out who sent a message: by what a trusted server wrote into it, else by checking signatures and policies here,
//! with mail-auth. It asks the DNS server that it is given.

use std::net::{IpAddr, SocketAddr};

use mail_auth::common::verify::VerifySignature as _;
use mail_auth::dmarc::verify::DmarcParameters;
use mail_auth::hickory_resolver::config::{NameServerConfig, ResolverConfig, ResolverOpts};
use mail_auth::spf::verify::SpfParameters;
use mail_auth::{
    AuthenticatedMessage, DkimOutput, DkimResult, DmarcOutput, DmarcResult, MessageAuthenticator, SpfOutput, SpfResult,
};
use mail_parser::{HeaderName, HeaderValue, Host, Message, MessageParser};

use super::options::{AuthenticationSettings, Policy};
use super::verdict::{Finding, Verdict};
use super::{aligned, results};
use crate::reading::{self, ReadingLimits};

/// Signatures of a message that are checked: each one asks the DNS.
const MAX_SIGNATURES: usize = 5;
/// What verdicts of this program name as their author.
const OURSELVES: &str = "mail-order-bot";

/// Why a message can't be authenticated now; later it may.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthenticationError {
    /// The resolver can't be set up.
    #[error("the DNS cannot be asked: {problem}; set authentication.dns to a server's address")]
    Resolver {
        /// What the resolver says.
        problem: String,
    },
    /// A look-up failed.
    #[error("the sender's domain {domain} cannot be looked up now")]
    LookUp {
        /// The domain in `From`.
        domain: String,
    },
    /// It took too long.
    #[error("looking up the sender's domain took longer than {seconds} s")]
    TimedOut {
        /// The limit.
        seconds: u64,
    },
}

/// Authenticates messages. Shared by all workers.
pub struct Authenticator {
    settings: AuthenticationSettings,
    limits: ReadingLimits,
    resolver: Option<MessageAuthenticator>,
}

/// What was found about a message, and what is to be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authenticated {
    /// What was found.
    pub verdict: Verdict,
    /// What is to be done.
    pub policy: Policy,
}

impl Authenticator {
    /// An authenticator for messages within `limits`. To be called on an executor.
    ///
    /// # Errors
    /// [`AuthenticationError::Resolver`].
    pub fn new(settings: AuthenticationSettings, limits: ReadingLimits) -> Result<Self, AuthenticationError> {
        let resolver = settings.verify.then(|| resolver(settings.dns)).transpose()?;
        Ok(Self {
            settings,
            limits,
            resolver,
        })
    }

    /// Finds out who sent `raw`; `None` where nothing is configured that could tell, or the message can't be read, which
    /// its reader will say.
    ///
    /// # Errors
    /// [`AuthenticationError`]: try again later.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn authenticate(&self, raw: &[u8]) -> Result<Option<Authenticated>, AuthenticationError> {
        if self.settings.trusted_server.is_none() && self.resolver.is_none() {
            return Ok(None);
        }
        let Ok(head) = reading::head(raw, &self.limits) else {
            return Ok(None);
        };
        let Some(headers) = MessageParser::new().parse_headers(&head) else {
            return Ok(None);
        };
        let author = reading::author(&headers).and_then(|sender| Some(sender.address.rsplit_once('@')?.1.to_owned()));
        let verdict = match self.reported(&headers, &head, author.as_deref()) {
            Some(verdict) => verdict,
            None => match (&self.resolver, author) {
                (Some(resolver), Some(author)) => self.verify(resolver, raw, &headers, author).await?,
                _ => Verdict {
                    checked_by: OURSELVES.to_owned(),
                    ..Verdict::default()
                },
            },
        };
        let policy = self.settings.policy(&verdict);
        Ok(Some(Authenticated { verdict, policy }))
    }

    /// What the trusted server found.
    fn reported(&self, headers: &Message<'_>, head: &[u8], author: Option<&str>) -> Option<Verdict> {
        let trusted = self.settings.trusted_server.as_deref()?;
        let fields: Vec<(String, String)> = headers
            .headers()
            .iter()
            .map(|header| {
                let value = head.get(header.offset_start as usize..header.offset_end as usize);
                let value = String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
                (header.name().to_owned(), value)
            })
            .collect();
        let fields = fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        results::verdict(fields, trusted, author)
    }

    async fn verify(
        &self,
        resolver: &MessageAuthenticator,
        raw: &[u8],
        headers: &Message<'_>,
        author: String,
    ) -> Result<Verdict, AuthenticationError> {
        let hop = self.settings.received_by.as_deref().and_then(|name| hop(headers, name));
        // A task of its own, so that a panic in somebody else's code costs the verdict and not the worker.
        let checking = tokio::spawn({
            let (resolver, raw, author) = (resolver.clone(), raw.to_vec(), author.clone());
            async move { check(&resolver, &raw, hop, author).await }
        });
        let abort = checking.abort_handle();
        match tokio::time::timeout(self.settings.timeout, checking).await {
            Ok(Ok(verdict)) => verdict.ok_or(AuthenticationError::LookUp { domain: author }),
            // It panicked: the same bytes would do it again.
            Ok(Err(_)) => Ok(Verdict {
                domain: Some(author),
                checked_by: OURSELVES.to_owned(),
                dkim: Finding::PermError,
                ..Verdict::default()
            }),
            Err(_) => {
                abort.abort();
                let seconds = self.settings.timeout.as_secs();
                Err(AuthenticationError::TimedOut { seconds })
            }
        }
    }
}

/// How the message came to our own server.
struct Hop {
    address: IpAddr,
    helo: String,
    envelope: String,
    server: String,
}

/// The topmost `Received` field that our own server `name` wrote.
fn hop(headers: &Message<'_>, name: &str) -> Option<Hop> {
    let named = |host: &Host<'_>| matches!(host, Host::Name(known) if known.eq_ignore_ascii_case(name));
    let received = headers.headers().iter().find_map(|header| match &header.value {
        HeaderValue::Received(received) if received.by.as_ref().is_some_and(named) => Some(received),
        _ => None,
    })?;
    let helo = match &received.from {
        Some(Host::Name(helo)) => helo.to_string(),
        Some(Host::IpAddr(_)) | None => String::new(),
    };
    let envelope = headers.header(HeaderName::ReturnPath).and_then(|value| value.as_text());
    Some(Hop {
        address: received.from_ip?,
        helo,
        envelope: envelope.unwrap_or_default().trim_matches(['<', '>', ' ']).to_owned(),
        server: name.to_owned(),
    })
}

/// `None` when a look-up failed that would decide.
async fn check(resolver: &MessageAuthenticator, raw: &[u8], hop: Option<Hop>, author: String) -> Option<Verdict> {
    let mut verdict = Verdict {
        domain: Some(author.clone()),
        checked_by: OURSELVES.to_owned(),
        ..Verdict::default()
    };
    let Some(mut message) = AuthenticatedMessage::parse(raw) else {
        return Some(verdict);
    };
    message.dkim_headers.truncate(MAX_SIGNATURES);
    let signatures = resolver.verify_dkim(&message).await;
    let spf = match &hop {
        Some(hop) => {
            let parameters = SpfParameters::verify_mail_from(hop.address, &hop.helo, &hop.server, &hop.envelope);
            resolver.verify_spf(parameters).await
        }
        None => SpfOutput::default(),
    };
    let envelope = hop.as_ref().and_then(|hop| hop.envelope.rsplit_once('@'));
    let policy = resolver
        .verify_dmarc(DmarcParameters {
            message: &message,
            dkim_output: &signatures,
            rfc5321_mail_from_domain: envelope.map_or("", |(_, domain)| domain),
            spf_output: &spf,
            // What is aligned with the author has the same "organisation" as the author; see `aligned`.
            domain_suffix_fn: |domain| if aligned(domain, &author) { "aligned" } else { domain },
        })
        .await;
    verdict.dkim = dkim(&signatures, &author);
    verdict.spf = sender_policy(spf.result());
    verdict.dmarc = dmarc(&policy);
    for signature in signatures.iter().filter(|output| *output.result() == DkimResult::Pass) {
        verdict.vouched_by.extend(
            signature
                .signature()
                .map(|signature| signature.domain().to_ascii_lowercase()),
        );
    }
    if verdict.spf == Finding::Pass {
        verdict.vouched_by.push(spf.domain().to_ascii_lowercase());
    }
    verdict.conclude();
    let undecided = [verdict.dmarc, verdict.dkim, verdict.spf].contains(&Finding::TempError);
    (verdict.standing == super::Standing::Pass || !undecided).then_some(verdict)
}

/// The best signature that speaks for the author; else the worst thing that can be said of any.
fn dkim(signatures: &[DkimOutput<'_>], author: &str) -> Finding {
    let speaks = |output: &DkimOutput<'_>| {
        output
            .signature()
            .is_some_and(|signed| aligned(signed.domain(), author))
    };
    let finding = |output: &DkimOutput<'_>| match output.result() {
        DkimResult::Pass => Finding::Pass,
        // A body that was changed is reported as neutral; for us the signature doesn't hold.
        DkimResult::Fail(_) | DkimResult::Neutral(mail_auth::Error::FailedBodyHashMatch) => Finding::Fail,
        DkimResult::Neutral(_) => Finding::Neutral,
        DkimResult::TempError(_) => Finding::TempError,
        DkimResult::PermError(_) => Finding::PermError,
        DkimResult::None => Finding::None,
    };
    let ours: Vec<Finding> = signatures.iter().filter(|output| speaks(output)).map(finding).collect();
    let order = [
        Finding::Pass,
        Finding::TempError,
        Finding::Fail,
        Finding::PermError,
        Finding::Neutral,
    ];
    let best = order.into_iter().find(|wanted| ours.contains(wanted));
    // A mailing list's or provider's signature says nothing about the author.
    best.unwrap_or(if signatures.is_empty() {
        Finding::None
    } else {
        Finding::Neutral
    })
}

fn sender_policy(result: SpfResult) -> Finding {
    match result {
        SpfResult::Pass => Finding::Pass,
        SpfResult::Fail => Finding::Fail,
        SpfResult::SoftFail => Finding::SoftFail,
        SpfResult::Neutral => Finding::Neutral,
        SpfResult::TempError => Finding::TempError,
        SpfResult::PermError => Finding::PermError,
        SpfResult::None => Finding::None,
    }
}

fn dmarc(output: &DmarcOutput) -> Finding {
    let results = [output.dkim_result(), output.spf_result()];
    let any = |wanted: fn(&DmarcResult) -> bool| results.iter().any(|result| wanted(result));
    if any(|result| *result == DmarcResult::Pass) {
        Finding::Pass
    } else if any(|result| matches!(result, DmarcResult::TempError(_))) {
        Finding::TempError
    } else if output.dmarc_record().is_some() {
        // The domain has a policy, and nothing speaks for the message.
        Finding::Fail
    } else if any(|result| matches!(result, DmarcResult::PermError(_))) {
        Finding::PermError
    } else {
        Finding::None
    }
}

fn resolver(dns: Option<SocketAddr>) -> Result<MessageAuthenticator, AuthenticationError> {
    let made = match dns {
        None => MessageAuthenticator::new_system_conf(),
        Some(address) => {
            let mut server = NameServerConfig::udp_and_tcp(address.ip());
            for connection in &mut server.connections {
                connection.port = address.port();
            }
            let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
            MessageAuthenticator::new(config, ResolverOpts::default())
        }
    };
    made.map_err(|error| AuthenticationError::Resolver {
        problem: error.to_string(),
    })
}
