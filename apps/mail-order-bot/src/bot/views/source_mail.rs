//! A mail as text for people: its headers, its text, and what else is in it. Nothing of it is carried out or followed.

use serde_json::{Value, json};

use crate::desk::Processed;
use crate::reading::{self, ReadingLimits, charset};

/// The longest text of a part that is shown, in bytes.
const MAX_PART: usize = 16 * 1024;

pub(super) fn as_text(raw: &[u8]) -> String {
    let mail = match reading::read(raw, &ReadingLimits::default()) {
        Ok(mail) => mail,
        Err(error) => return format!("({error})"),
    };
    let mut text = String::new();
    let mut header = |name: &str, value: &str| {
        if !value.is_empty() {
            text.push_str(&format!("{name}: {value}\n"));
        }
    };
    let from = mail.from.as_ref().map_or("", |from| from.address.as_str());
    header("From", from);
    header("Reply-To", mail.reply_to.as_ref().map_or("", |to| to.address.as_str()));
    header("To", &mail.to.join(", "));
    header("Subject", &mail.subject);
    header("Date", &mail.date.map(|date| date.to_string()).unwrap_or_default());
    header("Message-ID", &mail.message_id);
    for leaf in &mail.leaves {
        text.push('\n');
        let name = leaf.file_name.as_deref().unwrap_or_default();
        let is_text = leaf.content_type == "text/plain" && !leaf.attachment;
        if !is_text {
            let name = reading::mail::one_line(name);
            text.push_str(&format!("[{} {name}, {} bytes]\n", leaf.content_type, leaf.bytes.len()));
        }
        if is_text || leaf.content_type.starts_with("text/") {
            let bytes = &leaf.bytes[..leaf.bytes.len().min(MAX_PART)];
            let plain = charset::decode(bytes, leaf.charset.as_deref());
            let shown = |c: char| c == '\n' || c == '\t' || !c.is_control();
            text.extend(plain.chars().filter(|c| shown(*c)));
            if bytes.len() < leaf.bytes.len() {
                text.push_str("\n[…]");
            }
            text.push('\n');
        }
    }
    text
}

/// What became of a mail, in one line of a table.
pub(super) fn outcome(processed: &Processed) -> Value {
    match processed {
        Processed::Stored { order_id, status, .. } => json!(format!("order {order_id}, {status}")),
        Processed::Changed {
            order_id,
            version,
            status,
            state,
            ..
        } => json!(format!("order {order_id}, version {version}, {status}, {state}")),
        Processed::Duplicate { order_id, .. } => match order_id {
            Some(order) => json!(format!("order {order}, as before")),
            None => json!("as before"),
        },
        Processed::NotAnOrder { reason, .. } => json!(format!("no order: {reason}")),
        Processed::Review { detail, .. } => json!(format!("on the review list: {detail}")),
    }
}
