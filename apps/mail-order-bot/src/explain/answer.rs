//! The answer that a mail would get, as its text. What it says is decided in `reply`.

use jiff::Timestamp;

use super::ExplainedReply;
use crate::desk::{DeskSettings, NotAnOrder};
use crate::domain::Order;
use crate::reading::{IncomingMail, ReadingLimits, charset, mime};
use crate::reply::compose::compose;
use crate::reply::{etiquette, letter};
use crate::store::{MessageKey, OutboxId};

pub(super) fn to_order(order: &Order, mail: &IncomingMail, settings: &DeskSettings, now: Timestamp) -> ExplainedReply {
    if let Some(why) = etiquette::refusal(mail, &settings.replies, 0) {
        return withheld(why);
    }
    let language = settings.profiles.find(&order.customer.address);
    let language = language.and_then(|profile| profile.language.as_deref());
    let mut facts = letter::about(order);
    // Nobody is to take 0 for the number that a customer would be told.
    if let Some(number) = facts.pointer_mut("/order/number") {
        *number = "[number]".into();
    }
    shown("order", language, &facts, mail, settings, now)
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
    shown("unrecognised", None, &letter::about_nothing(), mail, settings, now)
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

/// The reply of this name, by the templates that are configured.
fn shown(
    name: &str,
    language: Option<&str>,
    facts: &serde_json::Value,
    mail: &IncomingMail,
    settings: &DeskSettings,
    now: Timestamp,
) -> ExplainedReply {
    let templates = match settings.replies.load_templates() {
        Ok(templates) => templates,
        Err(faults) => return withheld(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
    };
    let reply = match templates.render(name, language, facts) {
        Ok(letter) => compose(letter, "Your mail", mail, &id(mail), &settings.replies, now),
        Err(error) => return withheld(error.to_string()),
    };
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
