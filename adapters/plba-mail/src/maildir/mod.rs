//! Maildir: one file per message; the folder on disk, and on it the source that makes messages tasks.

mod dead;
mod finish;
mod folder;
mod keeper;
mod name;
mod source;
mod watch;

#[cfg(test)]
mod tests;

pub use finish::Finished;
pub use folder::{Content, Delivered, Entry, Maildir, MaildirError};
pub use source::MaildirSource;
