//! A letter as a mail: headers per RFC 5322 and RFC 3834, a text and an HTML alternative. The same order gives the same
//! bytes.

use std::time::SystemTime;

use jiff::Timestamp;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use lettre::{Address, Message};

use super::templates::Letter;
use super::{ReplySettings, etiquette};
use crate::reading::IncomingMail;
use crate::store::OutboxId;

/// Longest part of the original subject that is repeated, in characters.
const MAX_SUBJECT: usize = 120;

/// A reply ready for the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComposedReply {
    /// The address it goes to.
    pub recipient: String,
    /// Its Message-ID without angle brackets: the same for the same message, so that a retry is no second mail.
    pub message_id: String,
    /// The whole message, RFC 5322, with CRLF line ends.
    pub message: Vec<u8>,
}

/// A reply that can't be made into a mail.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ComposeError {
    /// The sender's address is not one that mail can be sent to.
    #[error("{address:?} is not an address that can be answered")]
    Address {
        /// The address.
        address: String,
    },
    /// The message can't be built.
    #[error("the reply cannot be built: {problem}")]
    Build {
        /// What the builder says.
        problem: String,
    },
}

/// Composes the answer to `mail` from a letter; `fallback_subject` is for a mail without one. `now` becomes its date.
///
/// # Errors
/// [`ComposeError`], permanent for this mail.
pub fn compose(
    letter: Letter,
    fallback_subject: &str,
    mail: &IncomingMail,
    id: &OutboxId,
    settings: &ReplySettings,
    now: Timestamp,
) -> Result<ComposedReply, ComposeError> {
    let recipient = etiquette::correspondent(mail).unwrap_or_default().to_owned();
    let address: Address = recipient.parse().map_err(|_| ComposeError::Address {
        address: recipient.clone(),
    })?;
    // The mail date format begins in 1970.
    let date = SystemTime::from(now.max(Timestamp::UNIX_EPOCH));
    let message_id = format!("reply-{id}@{}", settings.from.email.domain());
    let mut builder = Message::builder()
        .from(settings.from.clone())
        .to(Mailbox::new(None, address))
        .subject(letter.subject.map_or_else(
            || subject(&mail.subject, fallback_subject),
            |own| own.chars().filter(|c| !c.is_control()).take(2 * MAX_SUBJECT).collect(),
        ))
        .date(date)
        .message_id(Some(format!("<{message_id}>")))
        .raw_header(header("Auto-Submitted", "auto-replied"))
        .raw_header(header("X-Auto-Response-Suppress", "All"))
        .raw_header(header("X-Loop", settings.from.email.as_ref()));
    if mail.has_message_id {
        builder = builder.in_reply_to(format!("<{}>", mail.message_id));
    }
    if !mail.thread.is_empty() {
        let thread: Vec<String> = mail.thread.iter().map(|id| format!("<{id}>")).collect();
        builder = builder.references(thread.join(" "));
    }
    let parts = MultiPart::alternative()
        .boundary(format!("reply-{id}"))
        .singlepart(SinglePart::plain(letter.text))
        .singlepart(SinglePart::html(letter.html));
    let message = builder.multipart(parts).map_err(|error| ComposeError::Build {
        problem: error.to_string(),
    })?;
    Ok(ComposedReply {
        recipient,
        message_id,
        message: message.formatted(),
    })
}

fn header(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
}

/// `Re: …`, without a second `Re:`.
fn subject(original: &str, fallback: &str) -> String {
    let original: String = original.chars().filter(|c| !c.is_control()).take(MAX_SUBJECT).collect();
    let bare = original.trim();
    let answered = bare
        .get(..3)
        .is_some_and(|start| start.eq_ignore_ascii_case("re:") || start.eq_ignore_ascii_case("aw:"));
    match (bare.is_empty(), answered) {
        (true, _) => fallback.to_owned(),
        (false, true) => bare.to_owned(),
        (false, false) => format!("Re: {bare}"),
    }
}
