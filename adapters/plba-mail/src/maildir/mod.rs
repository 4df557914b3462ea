//! Maildir: one file per message; the folder on disk, and on it the source that makes messages tasks.

mod folder;
mod keeper;
mod name;
mod source;
mod watch;

#[cfg(test)]
mod tests;

pub use folder::{Content, Delivered, Entry, Maildir, MaildirError, Marked};
pub use source::MaildirSource;
