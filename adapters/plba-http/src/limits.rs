//! How much one caller may take of the control plane: connections, time and bytes. What a call may cost inside is the
//! surface's business.

use std::time::Duration;

/// The limits of a transport, every default written out in [`Limits::default`].
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at once, from everybody. When they are taken, the one that has waited longest without a request in
    /// hand makes room; only if all have one is a newcomer answered 503. Default 256.
    pub connections: usize,
    /// Connections at once from one IPv4 address or one IPv6 /64 network, with the same rule. Default 64.
    pub connections_per_address: usize,
    /// From accepting a connection to its first byte. Default 5 s.
    pub first_byte: Duration,
    /// From the moment a request may begin to the end of its headers; on a kept-alive connection this is the idle limit
    /// too. Default 10 s.
    pub headers: Duration,
    /// For the whole body of a request. Default 30 s.
    pub body: Duration,
    /// For a client that does not take its answer: the longest wait without progress. Default 30 s.
    pub write: Duration,
    /// After this long a connection is closed as soon as its request is answered, and after twice as long in any case.
    /// Default 10 min.
    pub lifetime: Duration,
    /// After a stop signal, how long requests in hand may take to finish. Default 2 s.
    pub drain: Duration,
    /// Start line and headers of a request, in bytes. Default 16 KiB.
    pub header_bytes: usize,
    /// The body of a request, in bytes. Default 64 KiB.
    pub body_bytes: usize,
    /// Actions at once; one more is answered 503. An action goes on when its caller hangs up, so connections don't bound
    /// them. Default 32.
    pub actions: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            connections_per_address: 64,
            first_byte: Duration::from_secs(5),
            headers: Duration::from_secs(10),
            body: Duration::from_secs(30),
            write: Duration::from_secs(30),
            lifetime: Duration::from_secs(600),
            drain: Duration::from_secs(2),
            header_bytes: 16 * 1024,
            body_bytes: 64 * 1024,
            actions: 32,
        }
    }
}

/// A limit that would let nothing through, or more than is meant.
#[derive(Debug, thiserror::Error)]
#[error("the control plane's limit `{name}` {demand}")]
pub struct InvalidLimits {
    name: &'static str,
    demand: &'static str,
}

impl Limits {
    /// Checks each limit and how they relate.
    ///
    /// # Errors
    /// The first limit that can't be meant.
    pub fn validate(&self) -> Result<(), InvalidLimits> {
        let invalid = |name, demand| Err(InvalidLimits { name, demand });
        let durations = [
            ("first_byte", self.first_byte),
            ("headers", self.headers),
            ("body", self.body),
            ("write", self.write),
            ("lifetime", self.lifetime),
        ];
        if let Some((name, _)) = durations.iter().find(|(_, limit)| limit.is_zero()) {
            return invalid(name, "must be longer than 0");
        }
        if !(1..=10_000).contains(&self.connections) {
            return invalid("connections", "must be from 1 to 10000");
        }
        if !(1..=self.connections).contains(&self.connections_per_address) {
            return invalid("connections_per_address", "must be from 1 to `connections`");
        }
        if !(1024..=1024 * 1024).contains(&self.header_bytes) {
            return invalid("header_bytes", "must be from 1 KiB to 1 MiB");
        }
        if !(1024..=16 * 1024 * 1024).contains(&self.body_bytes) {
            return invalid("body_bytes", "must be from 1 KiB to 16 MiB");
        }
        if !(1..=1000).contains(&self.actions) {
            return invalid("actions", "must be from 1 to 1000");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_nonsense_is_named() {
        assert!(Limits::default().validate().is_ok());
        let more_per_address_than_in_all = Limits {
            connections: 4,
            ..Limits::default()
        };
        let error = more_per_address_than_in_all.validate().unwrap_err().to_string();
        assert!(error.contains("connections_per_address"), "{error}");
        let no_time = Limits {
            headers: Duration::ZERO,
            ..Limits::default()
        };
        assert!(no_time.validate().unwrap_err().to_string().contains("`headers`"));
    }
}
