//! Every mail that was worked on, with what became of it: where to look when somebody asks after an order that is not there.

use plba::control::{ControlError, Endpoint, Parameters};
use plba::services::Services;
use serde_json::{Value, json};

use super::{failed, reading, source_mail};
use crate::bot::parameters::{flag, invalid, number, numbers, text};
use crate::store::messages::MAX_MAILS;
use crate::store::{MailFilter, SeenMail};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::view::<Value, _, _>(
            "mails",
            "Lists mails that were worked on and what became of each, the newest first",
            list,
        )
        .flag("ignored", "only those that are no orders and wait for nobody")
        .parameter("text", "only those with this text in sender, subject or Message-ID")
        .parameter("before", "only those with a smaller number: the next page")
        .parameter("limit", "how many at most, up to 1000; 100 when left out"),
        Endpoint::view::<Value, _, _>("mails.show", "Shows one of them as text", show)
            .words("ids", "the number of a mail, as `mails` shows it"),
    ]
}

async fn list(services: Services, parameters: Parameters) -> Result<Value, ControlError> {
    let default = MailFilter::default();
    let filter = MailFilter {
        ignored: flag(&parameters, "ignored"),
        text: text(&parameters, "text").filter(|text| !text.is_empty()),
        before: number(&parameters, "before", i64::MAX as u64)?.map(|before| before as i64),
        limit: number(&parameters, "limit", MAX_MAILS as u64)?.map_or(default.limit, |limit| limit as usize),
    };
    let mails = reading(&services, Vec::new(), move |reads| {
        reads.seen_mails(&filter).map_err(failed)
    });
    Ok(mails.await?.iter().map(row).collect())
}

async fn show(services: Services, parameters: Parameters) -> Result<Value, ControlError> {
    let [id] = numbers(&parameters, "ids")?[..] else {
        return Err(invalid("name one mail by its number, as `mails` shows it"));
    };
    let found = reading(&services, None, move |reads| reads.seen_mail(id).map_err(failed)).await?;
    let (mail, raw) = found.ok_or_else(|| invalid(format!("there is no mail {id}; see `mails`")))?;
    let mut shown = row(&mail);
    if let Some(fields) = shown.as_object_mut() {
        let text = raw.map_or_else(|| "(not kept any more)".to_owned(), |raw| source_mail::as_text(&raw));
        fields.insert("mail".to_owned(), text.into());
    }
    Ok(shown)
}

fn row(mail: &SeenMail) -> Value {
    let became = match (mail.order, mail.review) {
        (Some(order), _) => format!("order {order}"),
        (None, Some(review)) => format!("review {review}"),
        (None, None) => "no order".to_owned(),
    };
    let why = mail.not_an_order.as_deref().filter(|_| mail.order.is_none());
    json!({
        "id": mail.id,
        "received_at": mail.received_at,
        "sender": mail.sender,
        "subject": mail.subject,
        "message_id": mail.message_id,
        "became": became,
        "why": why,
    })
}
