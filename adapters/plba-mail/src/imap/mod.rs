//! IMAP: a checked client on async-imap, and on it the source that makes messages tasks.

mod ahead;
pub(crate) mod connect;
mod describe;
mod error;
pub(crate) mod fetch;
mod folder;
mod idle;
mod login;
mod look;
mod pieces;
mod relocate;
mod scram;
mod session;
pub(crate) mod source;
mod store;
mod uid_set;
mod utf7;
mod wire;

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod idle_tests;
#[cfg(test)]
pub(crate) mod model;
#[cfg(test)]
pub(crate) mod scripted;

pub use ahead::Fetched;
pub use connect::Account;
pub use error::{ImapError, NextMove};
pub use fetch::{Body, Message};
pub use folder::{Folder, Known, Listed};
pub use idle::Notice;
pub use login::Authentication;
pub use relocate::{Moved, Place};
pub use session::{Changes, ImapSession, Timing};
pub use source::{ConnectionState, ConnectionStatus, ImapSource};
pub use store::Marked;
pub use wire::ByteStream;
