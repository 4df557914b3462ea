//! Mail as a source of tasks: Maildir folders and IMAP mailboxes. What a message means is the application's business.

pub mod imap;
mod location;
pub mod maildir;
mod since;

pub use location::{BadLocation, Common, ImapLocation, Location, MaildirLocation};
pub use since::{BadSince, Since};
