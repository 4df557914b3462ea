//! Who must not be answered (RFC 3834, section 2), so that two robots never write to each other for ever.

use super::ReplySettings;
use crate::reading::IncomingMail;

/// Local parts that no person reads.
const UNREAD: [&str; 10] = [
    "mailer-daemon",
    "mail-daemon",
    "postmaster",
    "no-reply",
    "noreply",
    "no_reply",
    "donotreply",
    "do-not-reply",
    "bounce",
    "bounces",
];
/// How the names of addresses end that lists and senders of mass mail use for themselves (RFC 3834, section 2).
const UNREAD_ENDS: [&str; 3] = ["-request", "-bounces", "-noreply"];

/// The address that an answer to `mail` goes to: `Reply-To`, else `From`; `None` when it names nobody.
#[must_use]
pub fn correspondent(mail: &IncomingMail) -> Option<&str> {
    mail.reply_to
        .as_ref()
        .or(mail.from.as_ref())
        .map(|sender| sender.address.as_str())
}

/// How the Message-IDs of replies begin.
pub(crate) const REPLY_ID: &str = "reply-";

/// Whether `mail` is one of the bot's own, however it came back: written from an address of its own, marked by it against
/// loops, or under a Message-ID that it made.
#[must_use]
pub fn is_ours(mail: &IncomingMail, settings: &ReplySettings) -> bool {
    let domain = settings.from.email.domain();
    let named = |id: &str| {
        let (left, right) = id.rsplit_once('@').unwrap_or_default();
        left.starts_with(REPLY_ID) && right.eq_ignore_ascii_case(domain)
    };
    mail.from.as_ref().is_some_and(|from| settings.is_own(&from.address))
        || mail.loops.iter().any(|address| settings.is_own(address))
        || mail.has_message_id && named(&mail.message_id)
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
    if !address.is_ascii() {
        // Such addresses exist where every server on the way knows SMTPUTF8 (RFC 6531); elsewhere their domain is written
        // `xn--…`, and that can be answered.
        return Some(format!("{address} can only be reached by servers that know SMTPUTF8"));
    }
    if settings.is_own(address) {
        return Some("the answer would go to our own address".to_owned());
    }
    if is_ours(mail, settings) {
        return Some("the message is our own, come back".to_owned());
    }
    let local = address.split('@').next().unwrap_or_default();
    if UNREAD.contains(&local) || UNREAD_ENDS.iter().any(|end| local.ends_with(end)) {
        return Some(format!("nobody reads {address}"));
    }
    if recent >= settings.max_per_hour {
        return Some(format!(
            "{recent} replies went to {address} within the hour, which is the limit"
        ));
    }
    None
}
