//! A message's bytes → who wrote it, whether it may be answered, and the order lines in it.
//!
//! Every step is bounded ([`ReadingLimits`]) and linear in the message's size; all of it runs under `catch_unwind`, so
//! that a defect in a parser costs one message, not the process; workbooks are parsed in a process of their own
//! ([`WorkbookParser`]). MIME nesting is walked by [`mime`], not by
//! mail-parser: its recursive message type overflows the stack when a deeply nested message is dropped, and it decodes
//! mislabelled attachments lossily (mail-parser#125). Header grammar and transfer decoding are mail-parser's.
//!
//! Where lines are looked for, first hit wins, so that the same order in two forms isn't counted twice:
//! 1. attachments: workbooks (XLSX, ODS, XLS) and CSV, recognised by content; all of them together,
//! 2. tables in the HTML body (`html.rs`),
//! 3. lines of the text body ([`text`] documents the grammar).

mod body;
pub mod charset;
pub(crate) mod columns;
mod csv;
pub mod draft;
pub mod explanation;
pub mod extract;
pub mod facts;
mod headings;
mod html;
mod intent;
mod labelled;
pub mod limits;
pub mod mail;
pub mod mime;
pub mod names;
mod plain;
mod table;
pub mod text;
mod text_table;
mod units;
pub mod workbook;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use draft::{DraftLine, Value};
pub use explanation::Explanation;
pub use extract::Extracted;
pub use facts::Automation;
pub use limits::ReadingLimits;
pub(crate) use mail::author;
pub use mail::{IncomingMail, Sender};
pub use workbook::WorkbookParser;

use crate::domain::CustomerProfile;

/// A message that can't be read, now or later: it belongs with the dead letters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// More bytes than allowed.
    #[error("the message has {bytes} bytes; at most {limit} are read")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// More header fields than allowed, all parts together.
    #[error("the message has more than {limit} header fields")]
    TooManyHeaders {
        /// The limit.
        limit: usize,
    },
    /// More bytes of headers than allowed, all parts together.
    #[error("the message has more than {limit} bytes of headers")]
    HeadersTooLarge {
        /// The limit.
        limit: usize,
    },
    /// Multiparts nested deeper than allowed.
    #[error("the message nests its parts deeper than {limit} levels")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// More parts than allowed.
    #[error("the message has more than {limit} parts")]
    TooManyParts {
        /// The limit.
        limit: usize,
    },
    /// No header field at all.
    #[error("this is not an e-mail message: it has no header fields")]
    NotAMessage,
    /// A parser panicked; the message is kept as a dead letter for inspection.
    #[error("the message made a parser panic: {message}; keep it and report it as a defect")]
    Panicked {
        /// What the panic said.
        message: String,
    },
    /// The process that reads workbooks can't be started.
    #[error("a workbook cannot be read now: {problem}")]
    Unavailable {
        /// What the system said.
        problem: String,
    },
}

impl ReadError {
    /// Whether the same message may be read later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

/// Reads headers and parts of a raw RFC 5322 message.
///
/// # Errors
/// [`ReadError`], always permanent: the same bytes give the same error.
pub fn read(raw: &[u8], limits: &ReadingLimits) -> Result<IncomingMail, ReadError> {
    contained(|| mail::parse(raw, limits))?
}

/// The header block of a message within limits, its empty line included, for whoever judges the header alone.
///
/// # Errors
/// As [`read`].
pub(crate) fn head(raw: &[u8], limits: &ReadingLimits) -> Result<Vec<u8>, ReadError> {
    if raw.len() > limits.message_bytes {
        return Err(ReadError::TooLarge {
            bytes: raw.len(),
            limit: limits.message_bytes,
        });
    }
    mime::head(raw, limits)
}

/// Finds the order lines in `mail`; `known` says whether the catalogue has an article of this number or name, and `parser`
/// reads the workbooks.
///
/// # Errors
/// Only [`ReadError::Panicked`] and [`ReadError::Unavailable`]: what can't be read otherwise is a note in [`Extracted`].
pub fn extract(
    mail: &IncomingMail,
    profile: &CustomerProfile,
    known: &dyn Fn(&str) -> bool,
    limits: &ReadingLimits,
    parser: &WorkbookParser,
) -> Result<Extracted, ReadError> {
    contained(|| extract::extract(mail, profile, known, limits, parser))?
}

fn contained<T>(work: impl FnOnce() -> T) -> Result<T, ReadError> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        let message = text
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_default();
        ReadError::Panicked { message }
    })
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod torture;
