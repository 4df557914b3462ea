//! The names a request may call us by. A page whose name was re-pointed at this machine (DNS rebinding) reaches our
//! socket, but can't send another Host than its own name; so only names known to be ours are answered.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The host of an authority (RFC 3986 section 3.2.2): an address or a name in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Address(IpAddr),
    Name(String),
}

/// `host` or `host:port`, as in the Host header. No user information: that is never legal there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Authority {
    pub(crate) host: Host,
    pub(crate) port: Option<u16>,
}

impl Authority {
    /// Reads `name`, `name:port`, `1.2.3.4:port` or `[::1]:port`; `None` for anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(bracketed) => {
                let (address, rest) = bracketed.split_once(']')?;
                let address: Ipv6Addr = address.parse().ok()?;
                let port = if rest.is_empty() {
                    None
                } else {
                    Some(rest.strip_prefix(':')?)
                };
                (Host::Address(IpAddr::V6(address).to_canonical()), port)
            }
            None => {
                let (host, port) = text
                    .split_once(':')
                    .map_or((text, None), |(host, port)| (host, Some(port)));
                (Host::parse_unbracketed(host)?, port)
            }
        };
        let port = match port {
            None | Some("") => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
            Some(_) => return None,
        };
        Some(Self { host, port })
    }
}

impl Host {
    fn parse_unbracketed(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Some(Self::Address(address.into()));
        }
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        let fits = (1..=253).contains(&text.len()) && text.bytes().all(legal);
        fits.then(|| Self::Name(text.to_ascii_lowercase()))
    }

    pub(crate) fn is_loopback(&self) -> bool {
        match self {
            Self::Address(address) => address.is_loopback(),
            Self::Name(name) => name == "localhost",
        }
    }
}

/// The hosts that requests may name: exact, never a pattern.
#[derive(Debug)]
pub(crate) struct AllowedHosts(Vec<Host>);

impl AllowedHosts {
    /// The loopback ones, the one we listen on, and `more`; `Err` with the entry that is no host name.
    pub(crate) fn new(listen: &str, more: &[String]) -> Result<Self, String> {
        let mut hosts = vec![
            Host::Name("localhost".into()),
            Host::Address(Ipv4Addr::LOCALHOST.into()),
            Host::Address(Ipv6Addr::LOCALHOST.into()),
        ];
        hosts.extend(Authority::parse(listen).map(|authority| authority.host));
        for name in more {
            // A bare IPv6 address is accepted too: nobody writes brackets in a list of hosts.
            let bare = name
                .parse::<Ipv6Addr>()
                .ok()
                .map(|address| Host::Address(IpAddr::V6(address).to_canonical()));
            let host = bare.or_else(|| Authority::parse(name).map(|authority| authority.host));
            hosts.push(host.ok_or_else(|| name.clone())?);
        }
        Ok(Self(hosts))
    }

    /// Whether a request that came in at our address `local` may name `host`. Our own address as a literal is always
    /// fine, so that probes by address work: a literal can't be rebound.
    pub(crate) fn allow(&self, host: &Host, local: IpAddr) -> bool {
        *host == Host::Address(local.to_canonical()) || self.0.contains(host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_read_exactly() {
        let cases = [
            ("localhost", Some("localhost"), None),
            ("LocalHost:8080", Some("localhost"), Some(8080)),
            ("localhost:", Some("localhost"), None),
            ("127.0.0.1:80", Some("127.0.0.1"), Some(80)),
            ("[0:0::1]:80", Some("::1"), Some(80)),
            ("[::ffff:127.0.0.1]", Some("127.0.0.1"), None),
            ("", None, None),
            (":80", None, None),
            ("::1", None, None),
            ("[::1", None, None),
            ("[::1]x", None, None),
            ("[::1]80", None, None),
            ("localhost:99999", None, None),
            ("localhost:+80", None, None),
            ("localhost:80:80", None, None),
            ("user@localhost", None, None),
            ("localhost/", None, None),
            ("local host", None, None),
            ("localhost,evil.example", None, None),
        ];
        for (text, host, port) in cases {
            let read = Authority::parse(text);
            let shown = read.as_ref().map(|authority| match &authority.host {
                Host::Address(address) => address.to_string(),
                Host::Name(name) => name.clone(),
            });
            assert_eq!(shown.as_deref(), host, "{text:?}");
            assert_eq!(read.and_then(|authority| authority.port), port, "{text:?}");
        }
    }

    #[test]
    fn only_our_own_names_are_allowed() {
        let hosts = AllowedHosts::new("0.0.0.0:8080", &["Orders.example".into(), "fd00::1".into()]).unwrap();
        let local = "10.0.0.7".parse().unwrap();
        let allowed = |text: &str| hosts.allow(&Authority::parse(text).unwrap().host, local);
        for ours in [
            "localhost",
            "127.0.0.1:1",
            "[::1]",
            "orders.example:443",
            "10.0.0.7:8080",
            "[fd00::1]",
        ] {
            assert!(allowed(ours), "{ours}");
        }
        for foreign in [
            "evil.example",
            "localhost.evil.example",
            "xorders.example",
            "orders.example.evil",
            "localhost.",
            "127.1",
            "127.0.0.1.nip.io",
            "10.0.0.8",
        ] {
            assert!(!allowed(foreign), "{foreign}");
        }
        assert_eq!(
            AllowedHosts::new("127.0.0.1:1", &["http://x".into()]).unwrap_err(),
            "http://x"
        );
    }
}
