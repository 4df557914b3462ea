//! The answer that a mail would get, as its text. What it says is decided in `reply`.

use jiff::Timestamp;

use super::ExplainedReply;
use crate::desk::{DeskSettings, NotAnOrder};
use crate::domain::Order;
use crate::reading::{IncomingMail, ReadingLimits, charset, mime};
use crate::reply::compose::{ComposeError, ComposedReply, order_reply, unrecognised_reply};
use crate::reply::etiquette;
use crate::store::{MessageKey, OutboxId};

pub(super) fn to_order(order: &Order, mail: &IncomingMail, settings: &DeskSettings, now: Timestamp) -> ExplainedReply {
    if let Some(why) = etiquette::refusal(mail, &settings.replies, 0) {
        return withheld(why);
    }
    shown(order_reply(order, mail, &id(mail), &settings.replies, now))
}

pub(super) fn to_no_order(
    mail: &IncomingMail,
    reason: &NotAnOrder,
    settings: &DeskSettings,
    now: Timestamp,
) -> ExplainedReply {
    if !settings.replies.answer_unrecognised || *reason != NotAnOrder::NoLines {
        return withheld("messages that are no orders are not answered".to_owned());
    }
    if let Some(why) = etiquette::refusal(mail, &settings.replies, 0) {
        return withheld(why);
    }
    shown(unrecognised_reply(mail, &id(mail), &settings.replies, now))
}

pub(super) fn withheld(why: String) -> ExplainedReply {
    ExplainedReply {
        to: None,
        withheld: Some(why),
        text: None,
    }
}

fn id(mail: &IncomingMail) -> OutboxId {
    OutboxId::for_message(&MessageKey {
        message_id: mail.message_id.clone(),
        body_hash: mail.body_hash.clone(),
    })
}

fn shown(reply: Result<ComposedReply, ComposeError>) -> ExplainedReply {
    match reply {
        Ok(reply) => ExplainedReply {
            text: text_of(&reply.message),
            to: Some(reply.recipient),
            withheld: None,
        },
        Err(error) => withheld(error.to_string()),
    }
}

/// The plain text of a composed mail.
fn text_of(message: &[u8]) -> Option<String> {
    let (_, leaves) = mime::walk(message, &ReadingLimits::default()).ok()?;
    let text = leaves.iter().find(|leaf| leaf.content_type == "text/plain")?;
    let text = charset::decode(&text.bytes, text.charset.as_deref());
    Some(text.replace("\r\n", "\n").trim_end().to_owned())
}
