//! Who must not be answered (RFC 3834, section 2), so that two robots never write to each other for ever.

use super::ReplySettings;
use crate::reading::IncomingMail;

/// The address that an answer to `mail` goes to: `Reply-To`, else `From`; `None` when it names nobody.
#[must_use]
pub fn correspondent(mail: &IncomingMail) -> Option<&str> {
    mail.reply_to
        .as_ref()
        .or(mail.from.as_ref())
        .map(|sender| sender.address.as_str())
}

/// Why `mail` must not be answered, if it must not. `recent` is the number of replies that went to its correspondent
/// within the last hour.
#[must_use]
pub fn refusal(mail: &IncomingMail, settings: &ReplySettings, recent: u64) -> Option<String> {
    if let Some(automation) = mail.automation {
        return Some(format!("the message is {}", automation.describe()));
    }
    let Some(address) = correspondent(mail) else {
        return Some("the message names no sender".to_owned());
    };
    if settings.is_own(address) {
        return Some("the answer would go to our own address".to_owned());
    }
    let local = address.split('@').next().unwrap_or_default();
    if [
        "mailer-daemon",
        "postmaster",
        "no-reply",
        "noreply",
        "donotreply",
        "do-not-reply",
    ]
    .contains(&local)
    {
        return Some(format!("nobody reads {address}"));
    }
    if recent >= settings.max_per_hour {
        return Some(format!(
            "{recent} replies went to {address} within the hour, which is the limit"
        ));
    }
    None
}
