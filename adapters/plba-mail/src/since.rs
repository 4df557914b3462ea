//! Which of the messages that were there before the first connection become tasks.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;

/// The scope of a first connection. Later connections go on where the last one stopped, whatever this says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Since {
    /// Nothing that is there already, only what comes from now on.
    Now,
    /// What nobody has read yet.
    #[default]
    Unseen,
    /// Everything that is not marked as deleted.
    All,
    /// What arrived on this day or later, by the server's (for Maildir: the machine's) time of day.
    Date(Date),
}

/// What is wrong with a `since`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no scope: write now, unseen, all, or a date such as 2026-11-01")]
pub struct BadSince(String);

impl FromStr for Since {
    type Err = BadSince;

    fn from_str(text: &str) -> Result<Self, BadSince> {
        match text {
            "now" => Ok(Since::Now),
            "unseen" => Ok(Since::Unseen),
            "all" => Ok(Since::All),
            date => date.parse().map(Since::Date).map_err(|_| BadSince(text.to_owned())),
        }
    }
}

impl fmt::Display for Since {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Since::Now => out.write_str("now"),
            Since::Unseen => out.write_str("unseen"),
            Since::All => out.write_str("all"),
            Since::Date(date) => date.fmt(out),
        }
    }
}

impl Since {
    /// As search criteria (RFC 9051 section 6.4.4); `None` for nothing at all.
    pub(crate) fn imap_criteria(self) -> Option<String> {
        match self {
            Since::Now => None,
            Since::Unseen => Some("UNSEEN UNDELETED".to_owned()),
            Since::All => Some("UNDELETED".to_owned()),
            Since::Date(date) => Some(format!("SINCE {} UNDELETED", date.strftime("%-d-%b-%Y"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_read_and_become_searches() {
        let cases = [
            ("now", None),
            ("unseen", Some("UNSEEN UNDELETED")),
            ("all", Some("UNDELETED")),
            ("2026-01-05", Some("SINCE 5-Jan-2026 UNDELETED")),
        ];
        for (text, criteria) in cases {
            let since: Since = text.parse().unwrap();
            assert_eq!(since.to_string(), text);
            assert_eq!(since.imap_criteria().as_deref(), criteria);
        }
        for text in ["", "yesterday", "2026-13-01", "Unseen"] {
            assert!(text.parse::<Since>().is_err(), "{text}");
        }
    }
}
