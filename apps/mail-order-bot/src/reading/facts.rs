//! Whether a machine sent a message (RFC 3834): what must not be answered, and what can't be an order.

use serde::{Deserialize, Serialize};

/// What kind of machine mail it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Automation {
    /// A delivery report: null return path, `multipart/report`, or from a mailer daemon. Never an order.
    Bounce,
    /// An automatic answer, such as an out-of-office note that quotes our mail. Never an order.
    AutoReply,
    /// Mailing list or bulk mail. Never an order.
    Bulk,
    /// Written by a program (`Auto-Submitted: auto-generated`), such as a shop system: may be an order, is not answered.
    Generated,
    /// The sender asks not to be answered automatically (`X-Auto-Response-Suppress`): may be an order.
    AnswerUnwanted,
}

impl Automation {
    /// Whether such a message can be an order at all.
    #[must_use]
    pub const fn may_order(self) -> bool {
        matches!(self, Self::Generated | Self::AnswerUnwanted)
    }

    /// What it is, for people.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Bounce => "a delivery report",
            Self::AutoReply => "an automatic answer",
            Self::Bulk => "mailing list or bulk mail",
            Self::Generated => "written by a program",
            Self::AnswerUnwanted => "sent with the wish not to be answered automatically",
        }
    }
}

/// Judges by the header fields; `field` gives the unfolded value of a field by its lower-case name. `by_list` says
/// whether the marks of a mailing list count.
pub(super) fn judge<'h>(
    field: impl Fn(&str) -> Option<&'h str>,
    content_type: &str,
    from: Option<&str>,
    by_list: bool,
) -> Option<Automation> {
    let value = |name: &str| {
        field(name)
            .map(|text| text.trim().to_ascii_lowercase())
            .unwrap_or_default()
    };
    let word = |name: &str| value(name).split([';', ',', ' ']).next().unwrap_or_default().to_owned();

    let local_part = from
        .and_then(|address| address.split_once('@'))
        .map(|(local, _)| local.to_ascii_lowercase());
    let daemon = matches!(
        local_part.as_deref(),
        Some("mailer-daemon" | "postmaster" | "mail-daemon")
    );
    let nobody = field("return-path").is_some_and(|path| path.trim().trim_matches(['<', '>', ' ']).is_empty());
    let failed = field("x-failed-recipients").is_some();
    if nobody || failed || content_type == "multipart/report" || daemon {
        return Some(Automation::Bounce);
    }
    let submitted = word("auto-submitted");
    let precedence = word("precedence");
    // Exchange marks what its rules and out-of-office notes write in this way only.
    let rules = value("x-ms-exchange-generated-message-source").contains("rules agent");
    let answering = [
        "x-autoreply",
        "x-autorespond",
        "x-autoresponder",
        "x-autoreply-from",
        "x-mail-autoreply",
        "x-ms-exchange-inbox-rules-loop",
    ];
    let answering = rules || answering.iter().any(|name| field(name).is_some());
    let replied = matches!(submitted.as_str(), "auto-replied" | "auto-notified");
    if replied || matches!(precedence.as_str(), "auto_reply" | "auto-reply") || answering {
        return Some(Automation::AutoReply);
    }
    let listed = [
        "list-id",
        "list-post",
        "list-unsubscribe",
        "list-help",
        "list-owner",
        "list-archive",
        "list-subscribe",
        "mailing-list",
        "x-mailing-list",
        "x-beenthere",
    ];
    let listed = precedence == "list" || listed.iter().any(|name| field(name).is_some());
    if matches!(precedence.as_str(), "bulk" | "junk") || listed && by_list {
        return Some(Automation::Bulk);
    }
    if !submitted.is_empty() && submitted != "no" {
        return Some(Automation::Generated);
    }
    let suppress = value("x-auto-response-suppress");
    let unwanted = suppress
        .split([',', ';', ' '])
        .any(|word| matches!(word, "all" | "autoreply" | "oof"));
    unwanted.then_some(Automation::AnswerUnwanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_recognised_by_their_headers() {
        let table: &[(&str, &str, Option<Automation>)] = &[
            ("subject", "Order", None),
            ("auto-submitted", "no", None),
            ("auto-submitted", "No (really)", None),
            (
                "auto-submitted",
                "auto-replied; owner-email=x",
                Some(Automation::AutoReply),
            ),
            ("auto-submitted", " Auto-Generated", Some(Automation::Generated)),
            ("return-path", "<>", Some(Automation::Bounce)),
            ("return-path", " < > ", Some(Automation::Bounce)),
            ("return-path", "", Some(Automation::Bounce)),
            ("return-path", "<a@b.c>", None),
            ("x-failed-recipients", "x@y.z", Some(Automation::Bounce)),
            ("x-ms-exchange-inbox-rules-loop", "a@b.c", Some(Automation::AutoReply)),
            (
                "x-ms-exchange-generated-message-source",
                "Mailbox Rules Agent",
                Some(Automation::AutoReply),
            ),
            ("precedence", "Auto_Reply", Some(Automation::AutoReply)),
            ("mailing-list", "list x@y.z", Some(Automation::Bulk)),
            ("precedence", "bulk", Some(Automation::Bulk)),
            ("precedence", "first-class", None),
            ("list-unsubscribe", "<https://x.example/u>", Some(Automation::Bulk)),
            ("x-autoreply", "yes", Some(Automation::AutoReply)),
            (
                "x-auto-response-suppress",
                "DR, OOF, AutoReply",
                Some(Automation::AnswerUnwanted),
            ),
            ("x-auto-response-suppress", "DR", None),
        ];
        for (name, value, expected) in table {
            let found = judge(
                |wanted| (wanted == *name).then_some(*value),
                "text/plain",
                Some("a@b.c"),
                true,
            );
            assert_eq!(found, *expected, "{name}: {value}");
        }
        assert_eq!(
            judge(|_| None, "multipart/report", None, true),
            Some(Automation::Bounce)
        );
        assert_eq!(
            judge(|_| None, "text/plain", Some("MAILER-DAEMON@b.c"), true),
            Some(Automation::Bounce)
        );
    }
}
