//! IMAP: a checked client on async-imap. Which messages become tasks, and when they are marked, is the source's business.

mod connect;
mod error;
mod fetch;
mod folder;
mod session;
mod store;
mod uid_set;
mod utf7;
mod wire;

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
pub(crate) mod scripted;

pub use connect::Account;
pub use error::{ImapError, NextMove};
pub use fetch::{Body, Message};
pub use folder::{Folder, Listed};
pub use session::{Authentication, Changes, ImapSession, Timing};
pub use store::Marked;
pub use wire::ByteStream;
