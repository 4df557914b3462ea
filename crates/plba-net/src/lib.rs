//! What network adapters share: TLS client settings, connecting with a time-out, deadlines on every read and write, and
//! how long to wait before the next connection. No protocol lives here, and nothing that listens.

mod backoff;
mod connect;
mod deadline;
mod tls;

pub use backoff::{Backoff, BackoffSettings};
pub use connect::{ConnectError, ConnectSettings, connect, connect_tls};
pub use deadline::Deadline;
pub use rustls::ClientConfig;
pub use tls::{TlsError, TlsSettings};
