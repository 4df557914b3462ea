//! What the bot makes of a mail and why, without storing anything: for an operator who wonders, and for the snapshots of the
//! tests. The answer is the same as the desk's, except for what only the store knows: earlier deliveries and orders.

mod answer;
mod told;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use told::told;

use crate::desk::{DeskSettings, NotAnOrder};
use crate::domain::{Catalogue, Intent, LineStatus, Order, OrderId, OrderLine};
use crate::intake::{self, Understood};
use crate::reading::explanation::{Explanation, shortened};
use crate::reading::{self, IncomingMail, ReadError};

/// Everything that was recognised in a mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Explained {
    /// The mail as such.
    pub mail: ExplainedMail,
    /// Who it is from.
    pub sender: ExplainedSender,
    /// `accepted`, `partly_accepted`, `rejected`, `amendment`, `cancellation`, `review`, or `not_an_order`.
    pub outcome: String,
    /// Why it is no order, if it is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_an_order: Option<String>,
    /// Why it would wait on the review list, if it would.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<String>,
    /// What it wants.
    pub intent: Intent,
    /// The customer's own number of the order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_number: Option<String>,
    /// What was recognised, step by step.
    pub explanation: Explanation,
    /// Its lines, each with its verdict.
    pub lines: Vec<ExplainedLine>,
    /// The sum of the accepted lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<String>,
    /// What could not be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The answer.
    pub reply: ExplainedReply,
}

/// The mail as such.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExplainedMail {
    /// The Message-ID, or the one made from the content.
    pub message_id: String,
    /// Whether the Message-ID is the mail's own.
    pub has_message_id: bool,
    /// The subject.
    pub subject: String,
    /// When it was written, as it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// The messages that it answers or belongs to, the nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<String>,
    /// What kind of machine mail it is, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub automation: Option<String>,
}

/// Who a mail is from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExplainedSender {
    /// The address in `From`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The name beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The id of the customer's profile, if one names the sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
}

/// A line with its verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExplainedLine {
    /// Where it stands.
    pub place: String,
    /// The article: the catalogue's number, or what the customer wrote.
    pub article: String,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The quantity as the customer wrote it.
    pub quantity_given: String,
    /// The quantity as it was understood, with the article's unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantity: Option<String>,
    /// The price as the customer wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_given: Option<String>,
    /// The amount, if it is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<String>,
    /// The reason's code, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The reason as the customer reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The answer that would be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExplainedReply {
    /// Where it would go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Why there would be none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withheld: Option<String>,
    /// What it would say. An order gets its number when it is stored; here it is `[number]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// Explains a raw RFC 5322 message; `now` is the date of its answer.
///
/// # Errors
/// The message can't be read, and would be kept as a dead letter.
pub fn explain(
    raw: &[u8],
    catalogue: &Catalogue,
    settings: &DeskSettings,
    now: Timestamp,
) -> Result<Explained, ReadError> {
    let mut mail = reading::read(raw, &settings.limits)?;
    mail.forgive_lists(&settings.own_lists);
    let understood = intake::understand(&mail, catalogue, settings)?;
    let from = mail.from.as_ref();
    let sender = ExplainedSender {
        address: from.map(|from| from.address.clone()),
        name: from.and_then(|from| from.name.as_deref().map(shortened)),
        profile: from
            .and_then(|from| settings.profiles.find(&from.address))
            .map(|profile| profile.id.clone()),
    };
    Ok(match understood {
        Ok(understood) => of_order(&mail, sender, understood, catalogue, settings, now),
        Err(reason) => of_none(&mail, sender, &reason, catalogue, settings, now)?,
    })
}

fn of_order(
    mail: &IncomingMail,
    sender: ExplainedSender,
    understood: Understood,
    catalogue: &Catalogue,
    settings: &DeskSettings,
    now: Timestamp,
) -> Explained {
    let review = understood.needs_review(settings).map(|(_, why)| why);
    let Understood {
        customer,
        extracted,
        checked,
        ..
    } = understood;
    let currency = catalogue.currency();
    let lines: Vec<ExplainedLine> = checked.lines.iter().map(|line| explained(line, currency)).collect();
    let order = serde_json::json!({
        "id": OrderId(0), "status": checked.status, "customer": customer, "message_id": mail.message_id, "subject": mail.subject,
        "received_at": now, "total": checked.total, "currency": currency, "notes": extracted.notes, "lines": checked.lines,
    });
    let withheld = match (&review, extracted.intent) {
        (Some(_), _) => Some("mails on the review list are not answered before somebody has decided".to_owned()),
        // What becomes of a change depends on the order that it is about, which only the store knows.
        (None, Intent::Amendment | Intent::Cancellation) => Some(
            "it depends on the order that this is about, which only the running bot knows; where it fits none of this \
             customer's open orders, it waits on the review list, unanswered"
                .to_owned(),
        ),
        (None, Intent::Order) => None,
    };
    // By way of its JSON: what an order has beyond this is the store's, with defaults.
    let reply = match (withheld, serde_json::from_value::<Order>(order)) {
        (Some(why), _) => answer::withheld(why),
        (None, Ok(order)) => answer::to_order(&order, mail, settings, now),
        (None, Err(error)) => answer::withheld(error.to_string()),
    };
    Explained {
        mail: explained_mail(mail),
        sender,
        outcome: match (&review, extracted.intent) {
            (Some(_), _) => "review".to_owned(),
            (None, Intent::Order) => checked.status.to_string(),
            (None, change) => change.to_string(),
        },
        not_an_order: None,
        review,
        intent: extracted.intent,
        order_number: extracted.order_number,
        explanation: extracted.explanation,
        lines,
        total: Some(format!("{} {currency}", checked.total)),
        notes: extracted.notes,
        reply,
    }
}

fn of_none(
    mail: &IncomingMail,
    sender: ExplainedSender,
    reason: &NotAnOrder,
    catalogue: &Catalogue,
    settings: &DeskSettings,
    now: Timestamp,
) -> Result<Explained, ReadError> {
    // What was looked at says why nothing was found; of machine mail nothing is.
    let extracted = match reason {
        NotAnOrder::NoLines => intake::extract(mail, catalogue, settings)?,
        _ => reading::Extracted::default(),
    };
    Ok(Explained {
        mail: explained_mail(mail),
        sender,
        outcome: "not_an_order".to_owned(),
        not_an_order: Some(reason.to_string()),
        review: None,
        intent: extracted.intent,
        order_number: extracted.order_number,
        explanation: extracted.explanation,
        lines: Vec::new(),
        total: None,
        notes: Vec::new(),
        reply: answer::to_no_order(mail, reason, settings, now),
    })
}

fn explained_mail(mail: &IncomingMail) -> ExplainedMail {
    ExplainedMail {
        message_id: mail.message_id.clone(),
        has_message_id: mail.has_message_id,
        subject: mail.subject.clone(),
        date: mail.date.map(|date| date.to_string()),
        references: mail.references.clone(),
        automation: mail.automation.map(|automation| automation.describe().to_owned()),
    }
}

fn explained(line: &OrderLine, currency: &str) -> ExplainedLine {
    let unit = line.unit.as_deref().unwrap_or_default();
    let amount = match &line.status {
        LineStatus::Accepted { unit_price, amount } => Some(format!("{unit_price} = {amount} {currency}")),
        LineStatus::Rejected { .. } => None,
    };
    ExplainedLine {
        place: line.place.clone(),
        article: shortened(&line.article),
        name: line.name.as_deref().map(shortened),
        quantity_given: shortened(&line.quantity_given),
        quantity: line
            .quantity
            .map(|quantity| format!("{quantity} {unit}").trim().to_owned()),
        price_given: line.price_given.as_deref().map(shortened),
        amount,
        code: line.reason().map(|reason| reason.code().to_owned()),
        reason: line.reason().map(ToString::to_string),
    }
}

#[cfg(test)]
mod mails;
#[cfg(test)]
mod tests;
