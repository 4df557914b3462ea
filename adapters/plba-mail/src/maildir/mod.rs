//! Maildir: one file per message. Which messages become tasks, and when they are marked, is the source's business.

mod folder;
mod name;
mod watch;

#[cfg(test)]
mod tests;

pub use folder::{Content, Entry, Maildir, MaildirError, Marked};
