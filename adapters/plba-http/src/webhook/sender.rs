//! The sending side: a signed request to somebody else's address, once, within limits. Trying again is the task queue's
//! business, and so is remembering what was delivered.
//!
//! Requests go where the configuration says and nowhere else: redirects are not followed, and a name that leads to a
//! private, link-local or otherwise inner address is refused unless the target allows it. The address that was looked at is
//! the one that is connected to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use hyper::http::uri::{Authority, Scheme};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use plba_contracts::BoxError;
use plba_net::{ClientConfig, ConnectSettings, TlsSettings};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::lookup_host;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::SigningSecret;
use super::request::{ID, SIGNATURE, TIMESTAMP};

/// The longest body that is sent, in bytes; receivers take no more than a few hundred KiB.
pub const MAXIMUM_BODY: usize = 1024 * 1024;

/// The longest `Retry-After` that is heeded.
const LONGEST_PAUSE: Duration = Duration::from_secs(6 * 3600);

/// Where signed requests go.
#[derive(Clone, Debug)]
pub struct TargetSettings {
    /// `https://…`; `http://…` only where `private` is true.
    pub url: String,
    /// What requests are signed with; two while they change.
    pub secrets: Vec<SigningSecret>,
    /// Whether the address may be one of this machine or of the inner network. Default: no.
    pub private: bool,
    /// Whom to trust. Default: the system's authorities.
    pub tls: TlsSettings,
    /// For the whole request. Default: 20 s.
    pub timeout: Duration,
}

impl TargetSettings {
    /// The defaults, for this address.
    pub fn new(url: impl Into<String>, secrets: Vec<SigningSecret>) -> Self {
        Self {
            url: url.into(),
            secrets,
            private: false,
            tls: TlsSettings::default(),
            timeout: Duration::from_secs(20),
        }
    }

    /// Checks address, secrets and ranges.
    ///
    /// # Errors
    /// The field at fault, and the sentence that names what would do.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        Place::of(&self.url, self.private).map_err(|fault| ("url", fault))?;
        if !(1..=super::MAXIMUM_SECRETS).contains(&self.secrets.len()) {
            let most = super::MAXIMUM_SECRETS;
            return Err(("secrets", format!("a webhook is signed with 1 to {most} secrets")));
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(300)).contains(&self.timeout) {
            return Err(("timeout", "a request may take 1 s to 5 min".into()));
        }
        Ok(())
    }
}

/// Why a request was not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The name leads to no address that is allowed.
    #[error("{host} leads to {address}, an address of an inner network; set `private` if that is meant")]
    Inner {
        /// The name.
        host: String,
        /// The address.
        address: IpAddr,
    },
    /// It could not be reached, or the connection was lost before the answer; the request may have been carried out.
    #[error("{host}: {source}")]
    Connection {
        /// The host.
        host: String,
        /// How.
        source: BoxError,
    },
    /// There was no answer in time; the request may have been carried out.
    #[error("{host} did not answer within {limit:?}")]
    Timeout {
        /// The host.
        host: String,
        /// The limit.
        limit: Duration,
    },
    /// It answered that it does not accept the request now.
    #[error("{host} answered {status}")]
    Answered {
        /// The host.
        host: String,
        /// The status.
        status: u16,
        /// After which it wants to be asked again, if it says so.
        retry_after: Option<Duration>,
    },
    /// It answered that it is gone for good (410): it wants no further requests.
    #[error("{host} is gone for good (410); take it out of the configuration")]
    Gone {
        /// The host.
        host: String,
    },
}

/// Sends signed requests to one place.
#[derive(Clone)]
pub struct WebhookSender {
    place: Place,
    secrets: Vec<SigningSecret>,
    tls: Option<Arc<ClientConfig>>,
    timeout: Duration,
}

impl std::fmt::Debug for WebhookSender {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("WebhookSender")
            .field("host", &self.place.host)
            .finish_non_exhaustive()
    }
}

/// An address, taken apart.
#[derive(Clone)]
struct Place {
    encrypted: bool,
    host: String,
    port: u16,
    authority: Authority,
    path: String,
    private: bool,
}

impl Place {
    fn of(url: &str, private: bool) -> Result<Self, String> {
        let uri: Uri = url
            .parse()
            .map_err(|_| "this is no address; write https://HOST/PATH".to_owned())?;
        let authority = uri
            .authority()
            .cloned()
            .ok_or("it names no host; write https://HOST/PATH")?;
        if authority.as_str().contains('@') {
            return Err("names and passwords don't belong into the address: requests are signed".into());
        }
        let encrypted = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP && private => false,
            Some(scheme) if *scheme == Scheme::HTTP => {
                return Err(
                    "http:// sends orders unencrypted; write https://, or set `private` for an inner network".into(),
                );
            }
            _ => return Err("write https://HOST/PATH".into()),
        };
        Ok(Self {
            encrypted,
            // IPv6 addresses stand in brackets in an address and nowhere else.
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(if encrypted { 443 } else { 80 }),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            authority,
            private,
        })
    }

    /// Addresses that may be connected to.
    async fn addresses(&self) -> Result<Vec<SocketAddr>, SendError> {
        let found = lookup_host((self.host.as_str(), self.port)).await;
        let found: Vec<SocketAddr> = found.map_err(|error| self.broken(error))?.collect();
        let allowed: Vec<SocketAddr> = found
            .iter()
            .copied()
            .filter(|address| is_allowed(address.ip(), self.private))
            .collect();
        match (allowed.is_empty(), found.first()) {
            (false, _) => Ok(allowed),
            (true, Some(address)) => Err(SendError::Inner {
                host: self.host.clone(),
                address: address.ip(),
            }),
            (true, None) => Err(self.broken("its name has no address")),
        }
    }

    fn broken(&self, source: impl Into<BoxError>) -> SendError {
        SendError::Connection {
            host: self.host.clone(),
            source: source.into(),
        }
    }
}

impl WebhookSender {
    /// Prepares a sender; connects to nobody yet. Reads the authorities' certificates, which blocks for a moment.
    ///
    /// # Errors
    /// Those of [`TargetSettings::validate`], in a sentence; TLS can't be set up.
    pub fn new(settings: &TargetSettings) -> Result<Self, BoxError> {
        settings
            .validate()
            .map_err(|(field, fault)| format!("{field}: {fault}"))?;
        let place = Place::of(&settings.url, settings.private)?;
        let tls = place.encrypted.then(|| settings.tls.client_config()).transpose()?;
        Ok(Self {
            place,
            secrets: settings.secrets.clone(),
            tls,
            timeout: settings.timeout,
        })
    }

    /// Sends one request. `id` is the same for every try of one thing, so that the receiver can tell them from others;
    /// `timestamp` is that of this try, in seconds since 1970. Gives the status, which is 200 to 299.
    ///
    /// # Errors
    /// [`SendError`]; all but `Gone` may pass by themselves.
    ///
    /// # Cancel safety
    /// A dropped call closes its connection; the request may have been carried out.
    pub async fn send(&self, id: &str, timestamp: i64, body: Bytes) -> Result<u16, SendError> {
        match timeout(self.timeout, self.exchange(id, timestamp, body)).await {
            Ok(result) => result,
            Err(_) => Err(SendError::Timeout {
                host: self.place.host.clone(),
                limit: self.timeout,
            }),
        }
    }

    async fn exchange(&self, id: &str, timestamp: i64, body: Bytes) -> Result<u16, SendError> {
        let place = &self.place;
        if body.len() > MAXIMUM_BODY {
            return Err(place.broken(format!("a body of more than {MAXIMUM_BODY} bytes is not sent")));
        }
        let request = self.request(id, timestamp, body).map_err(|error| place.broken(error))?;
        let limits = ConnectSettings {
            timeout: self.timeout,
            ..ConnectSettings::default()
        };
        let mut latest = place.broken("its name has no address");
        for address in place.addresses().await? {
            let stream = match plba_net::connect(&address.ip().to_string(), address.port(), limits).await {
                Ok(stream) => stream,
                Err(error) => {
                    latest = place.broken(error);
                    continue;
                }
            };
            let Some(tls) = &self.tls else {
                return self.ask(stream, request).await;
            };
            let name = ServerName::try_from(place.host.clone()).map_err(|error| place.broken(error))?;
            let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await;
            return self.ask(stream.map_err(|error| place.broken(error))?, request).await;
        }
        Err(latest)
    }

    fn request(&self, id: &str, timestamp: i64, body: Bytes) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let signatures: Vec<String> = self
            .secrets
            .iter()
            .map(|secret| secret.sign(id, timestamp, &body))
            .collect();
        Request::post(self.place.path.as_str())
            .header(HOST, self.place.authority.as_str())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("plba/", env!("CARGO_PKG_VERSION")))
            .header(ID, id)
            .header(TIMESTAMP, timestamp)
            .header(SIGNATURE, signatures.join(" "))
            .body(Full::new(body))
    }

    /// One request on a connection of its own; the answer's body is not read.
    async fn ask<S>(&self, stream: S, request: Request<Full<Bytes>>) -> Result<u16, SendError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let place = &self.place;
        let handshake = http1::Builder::new()
            .max_headers(100)
            .handshake(TokioIo::new(stream))
            .await;
        let (mut requests, connection) = handshake.map_err(|error| place.broken(error))?;
        let asking = requests.send_request(request);
        let mut connection = std::pin::pin!(connection);
        let mut asking = std::pin::pin!(asking);
        let answer = tokio::select! {
            answer = &mut asking => answer,
            // It may have ended after the answer, and badly: many servers close TLS connections without saying so.
            ended = &mut connection => match (asking.await, ended) {
                (Err(_), Err(error)) => Err(error),
                (answer, _) => answer,
            },
        };
        let answer = answer.map_err(|error| place.broken(error))?;
        let host = place.host.clone();
        match answer.status() {
            status if status.is_success() => Ok(status.as_u16()),
            StatusCode::GONE => Err(SendError::Gone { host }),
            status => Err(SendError::Answered {
                host,
                status: status.as_u16(),
                retry_after: answer.headers().get(RETRY_AFTER).and_then(|value| {
                    let seconds = value.to_str().ok()?.trim().parse().ok()?;
                    Some(Duration::from_secs(seconds).min(LONGEST_PAUSE))
                }),
            }),
        }
    }
}

/// Whether requests may go to an address: to those of the whole Internet, and where `private` is true to those of inner
/// networks and of this machine. Never to link-local ones, where clouds keep their secrets.
fn is_allowed(address: IpAddr, private: bool) -> bool {
    match address {
        IpAddr::V4(address) => is_allowed_v4(address, private),
        IpAddr::V6(address) => {
            // An IPv4 address in the clothes of an IPv6 one (RFC 4291, 2.5.5.2; RFC 6052, 2.1).
            if let Some(inner) = address.to_ipv4_mapped() {
                return is_allowed_v4(inner, private);
            }
            let segments = address.segments();
            if segments[..6] == [0x64, 0xff9b, 0, 0, 0, 0] {
                let [high, low] = [segments[6].to_be_bytes(), segments[7].to_be_bytes()];
                return is_allowed_v4(Ipv4Addr::new(high[0], high[1], low[0], low[1]), private);
            }
            is_allowed_v6(address, private)
        }
    }
}

fn is_allowed_v4(address: Ipv4Addr, private: bool) -> bool {
    let [first, second, ..] = address.octets();
    let never = address.is_link_local() || address.is_multicast() || first == 0 || first >= 240;
    // 100.64.0.0/10 is shared by carriers, 198.18.0.0/15 is for benchmarks.
    let inner = address.is_private()
        || address.is_loopback()
        || address.is_documentation()
        || (first == 100 && (64..128).contains(&second))
        || (first == 198 && (18..20).contains(&second))
        || (first == 192 && second == 0 && address.octets()[2] == 0);
    !never && (private || !inner)
}

fn is_allowed_v6(address: Ipv6Addr, private: bool) -> bool {
    let never = address.is_unspecified() || address.is_multicast() || address.is_unicast_link_local();
    let documentation = address.segments()[..2] == [0x2001, 0xdb8];
    // Old tunnels (6to4, Teredo) carry IPv4 addresses that nobody has looked at.
    let tunnel = address.segments()[0] == 0x2002 || address.segments()[..2] == [0x2001, 0];
    let inner = address.is_loopback() || address.is_unique_local() || documentation || tunnel;
    !never && (private || !inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inner_addresses_are_told_from_those_of_the_internet() {
        for (address, outer, private) in [
            ("93.184.216.34", true, true),
            ("2606:2800:220:1::1", true, true),
            ("10.0.0.1", false, true),
            ("127.0.0.1", false, true),
            ("192.168.1.1", false, true),
            ("100.64.0.1", false, true),
            ("::1", false, true),
            ("fd00::1", false, true),
            ("::ffff:10.0.0.1", false, true),
            ("64:ff9b::a00:1", false, true),
            ("169.254.169.254", false, false),
            ("::ffff:169.254.169.254", false, false),
            ("64:ff9b::a9fe:a9fe", false, false),
            ("fe80::1", false, false),
            ("0.0.0.0", false, false),
            ("255.255.255.255", false, false),
            ("ff02::1", false, false),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(is_allowed(address, false), outer, "{address}");
            assert_eq!(is_allowed(address, true), private, "{address}, private");
        }
    }

    #[test]
    fn an_address_that_would_not_do_is_refused_with_the_remedy() {
        for (url, private, says) in [
            ("http://shop.example/hook", false, "write https://"),
            ("ftp://shop.example", true, "write https://"),
            ("https://", false, "no address"),
            ("https://user:secret@shop.example/", false, "don't belong"),
            ("/hook", false, "names no host"),
        ] {
            let fault = Place::of(url, private).err().unwrap();
            assert!(fault.contains(says), "{url}: {fault}");
            assert!(!fault.contains("secret"), "{fault}");
        }
        let place = Place::of("http://[::1]:8080/hook?a=1", true).unwrap();
        assert_eq!(
            (place.host.as_str(), place.port, place.path.as_str()),
            ("::1", 8080, "/hook?a=1")
        );
    }
}
