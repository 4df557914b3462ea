//! Binding the listening socket, and saying what to do when that fails.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::host::Authority;

/// Why the control plane can't listen. Ends the start-up.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The setting can't be read or its name can't be resolved.
    #[error(
        "the control plane can't listen on \"{listen}\": that is no address:port such as 127.0.0.1:8080 or [::1]:8080 \
         ({source}); correct platform.control.listen"
    )]
    Invalid {
        /// The setting.
        listen: String,
        /// What the system says.
        source: io::Error,
    },
    /// Somebody else listens there.
    #[error(
        "the control plane can't listen on {listen}: the port is in use, perhaps by another instance of this program \
         (`ss -ltnp` shows by whom); stop that one, or choose another port with --set platform.control.listen={other}"
    )]
    InUse {
        /// The setting.
        listen: String,
        /// The same address with a port that the system chooses.
        other: String,
    },
    /// The system refuses for another reason.
    #[error(
        "the control plane can't listen on {listen}: {source}; {remedy}, or choose another address with \
         --set platform.control.listen={other}"
    )]
    Refused {
        /// The setting.
        listen: String,
        /// What would help.
        remedy: &'static str,
        /// An address that works everywhere.
        other: String,
        /// What the system says.
        source: io::Error,
    },
    /// An entry of `platform.control.hosts` is no host name.
    #[error("\"{0}\" in platform.control.hosts is no host name; write names only, such as orders.example.org")]
    Host(String),
}

/// Whether only this machine can reach `listen` (`address:port`). A name other than `localhost` counts as reachable from
/// outside, because it may resolve to anything.
pub fn is_loopback(listen: &str) -> bool {
    Authority::parse(listen).is_some_and(|authority| authority.host.is_loopback())
}

/// Binds `listen`; port 0 lets the system choose.
pub(crate) async fn bind(listen: &str) -> Result<(TcpListener, SocketAddr), ListenError> {
    let bound = async {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bound.await.map_err(|source| explain(listen, source))
}

fn explain(listen: &str, source: io::Error) -> ListenError {
    let host = listen.rsplit_once(':').map_or("127.0.0.1", |(host, _)| host);
    let remedy = match source.kind() {
        io::ErrorKind::AddrInUse => {
            return ListenError::InUse {
                listen: listen.into(),
                other: format!("{host}:0"),
            };
        }
        io::ErrorKind::AddrNotAvailable => "use an address that this machine has",
        io::ErrorKind::PermissionDenied => "use a port from 1024 up",
        // Not the system's error, but that of reading or resolving the setting.
        _ if source.raw_os_error().is_none() => {
            return ListenError::Invalid {
                listen: listen.into(),
                source,
            };
        }
        _ => "see to the cause",
    };
    ListenError::Refused {
        listen: listen.into(),
        remedy,
        other: "127.0.0.1:0".into(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_this_machine_reaches() {
        for inside in [
            "127.0.0.1:8080",
            "127.9.9.9:1",
            "[::1]:0",
            "localhost:8080",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(is_loopback(inside), "{inside}");
        }
        for outside in [
            "0.0.0.0:8080",
            "[::]:8080",
            "10.0.0.1:1",
            ":8080",
            "localhost.example:1",
            "*:80",
            "",
            "x",
        ] {
            assert!(!is_loopback(outside), "{outside}");
        }
    }

    #[tokio::test]
    async fn each_failure_to_bind_names_the_setting_and_a_remedy() {
        let (_holder, taken) = bind("127.0.0.1:0").await.unwrap();
        let cases = [
            (taken.to_string(), "in use"),
            ("nonsense".into(), "no address:port"),
            ("127.0.0.1:99999".into(), "no address:port"),
            ("192.0.2.1:1".into(), "an address that this machine has"),
        ];
        for (listen, says) in cases {
            let error = bind(&listen).await.unwrap_err().to_string();
            assert!(error.contains(says) && error.contains(&listen), "{error}");
            assert!(error.contains("platform.control.listen"), "{error}");
        }
    }
}
