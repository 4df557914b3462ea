//! Mail as a source of tasks: Maildir folders and IMAP mailboxes, opened by URL; and mail as it is sent, through a server
//! ([`smtp`]) or into a [`maildir`]. What a message means is the application's business.
#![doc = ""]
#![doc = include_str!("requirements.md")]

mod board;
mod completions;
#[cfg(test)]
mod dovecot_after_tests;
#[cfg(test)]
mod dovecot_idle_tests;
#[cfg(test)]
mod dovecot_tests;
pub mod imap;
mod location;
pub mod maildir;
mod open;
mod parked;
mod preview;
mod settings;
mod since;
pub mod smtp;
mod sources;
#[cfg(test)]
mod test_bench;
#[cfg(test)]
mod test_ledger;
mod views;

pub use board::LastError;
pub use location::{
    After, BadLocation, Common, ImapLocation, Location, MaildirLocation, Mark, Mechanism, TokenSource, Watch,
};
pub use open::{MailSource, OpenError, SCHEMES, open};
pub use parked::Parked;
pub use preview::{Headline, Preview, PreviewError};
pub use settings::SourceSettings;
pub use since::{BadSince, Since};
pub use sources::{Again, MailSources, NoSuchSource};
pub use views::{Resync, SourceShown, endpoints};
