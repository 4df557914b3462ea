//! Mail as a source of tasks: Maildir folders and IMAP mailboxes. What a message means is the application's business.

pub mod imap;
pub mod maildir;
