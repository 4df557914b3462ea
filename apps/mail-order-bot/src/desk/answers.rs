//! What is to be sent about a message: the reply to whom wrote it, where that is allowed and possible, and what other
//! systems are told.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::OrderDesk;
use super::outcome::NotAnOrder;
use crate::domain::{Money, Order, OrderState, OrderStatus};
use crate::reading::IncomingMail;
use crate::reply::compose::compose;
use crate::reply::{etiquette, letter};
use crate::store::{Answers, Event, MessageKey, NewMessage, OutboxId, ReplyPlan};

impl OrderDesk {
    /// About an order that is as it will be stored. `recent` is the number of replies to this correspondent within the hour.
    pub(super) fn about_order(&self, mail: &IncomingMail, message: &NewMessage, order: &Order, recent: u64) -> Answers {
        let name = match (order.state, order.version) {
            (OrderState::Cancelled, _) => "cancellation",
            (_, 1) => "order",
            _ => "amendment",
        };
        let language = self.settings.profiles.find(&order.customer.address);
        let language = language.and_then(|profile| profile.language.clone());
        let subject = format!("Your order {}", order.id);
        let letter = Letter {
            name,
            language: language.as_deref(),
            subject: &subject,
            facts: letter::about(order),
        };
        Answers {
            reply: self.reply(mail, &message.key, message.received_at, recent, &letter),
            events: self.events(order, message.received_at),
        }
    }

    /// About a message that is no order.
    pub(super) fn about_no_order(
        &self,
        mail: &IncomingMail,
        message: &NewMessage,
        reason: &NotAnOrder,
        recent: u64,
    ) -> ReplyPlan {
        if !self.settings.replies.answer_unrecognised || *reason != NotAnOrder::NoLines {
            return ReplyPlan::Withhold("messages that are no orders are not answered".to_owned());
        }
        let sender = mail
            .from
            .as_ref()
            .and_then(|from| self.settings.profiles.find(&from.address));
        let letter = Letter {
            name: "unrecognised",
            language: sender.and_then(|profile| profile.language.as_deref()),
            subject: "Your mail",
            facts: letter::about_nothing(),
        };
        self.reply(mail, &message.key, message.received_at, recent, &letter)
    }

    /// An answer where it is allowed and possible. A reply that can't be made must not cost the order.
    fn reply(
        &self,
        mail: &IncomingMail,
        key: &MessageKey,
        now: Timestamp,
        recent: u64,
        letter: &Letter<'_>,
    ) -> ReplyPlan {
        if let Some(refusal) = etiquette::refusal(mail, &self.settings.replies, recent) {
            return ReplyPlan::Withhold(refusal);
        }
        let rendered = match self.templates.render(letter.name, letter.language, &letter.facts) {
            Ok(rendered) => rendered,
            Err(error) => return ReplyPlan::Withhold(error.to_string()),
        };
        let id = OutboxId::for_message(key);
        match compose(rendered, letter.subject, mail, &id, &self.settings.replies, now) {
            Ok(reply) => ReplyPlan::Send {
                recipient: reply.recipient,
                message: reply.message,
                message_id: reply.message_id,
            },
            Err(error) => ReplyPlan::Withhold(error.to_string()),
        }
    }

    /// What each webhook is told: an order of which something is accepted, and every change of one.
    fn events(&self, order: &Order, now: Timestamp) -> Vec<Event> {
        let kind = match (order.state, order.version) {
            (OrderState::Cancelled, _) => "order.cancelled",
            (_, 1) if order.status == OrderStatus::Rejected => return Vec::new(),
            (_, 1) => "order.accepted",
            _ => "order.amended",
        };
        let event = json!({ "type": kind, "timestamp": now.to_string(), "data": shown(order) });
        let body = event.to_string().into_bytes();
        let to = |hook: &String| Event {
            hook: hook.clone(),
            body: body.clone(),
        };
        self.hooks.iter().map(to).collect()
    }
}

/// Which letter, and what stands in it.
struct Letter<'a> {
    name: &'static str,
    language: Option<&'a str>,
    subject: &'a str,
    facts: Value,
}

/// An order as JSON for others: money as decimal text, `53.40`, and not in hundredths; `replaces` is the version before.
#[must_use]
pub fn shown(order: &Order) -> Value {
    let in_units = |value: &mut Value| {
        if let Some(minor) = value.as_i64() {
            *value = Money::from_minor(minor).to_string().into();
        }
    };
    let mut shown = serde_json::to_value(order).unwrap_or_default();
    shown.get_mut("total").map(in_units);
    for line in shown
        .get_mut("lines")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        for name in ["unit_price", "amount"] {
            line.get_mut(name).map(in_units);
        }
    }
    if let Some(fields) = shown.as_object_mut().filter(|_| order.version > 1) {
        fields.insert("replaces".to_owned(), (order.version - 1).into());
    }
    shown
}
