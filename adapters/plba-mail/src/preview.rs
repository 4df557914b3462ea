//! What a first connection would take in, without taking anything in.

use plba_contracts::BoxError;
use schemars::JsonSchema;
use serde::Serialize;

/// How many messages a preview describes.
pub(crate) const SHOWN: usize = 5;

/// How much of a message a preview reads.
pub(crate) const HEAD: u64 = 64 * 1024;

/// What a first connection would take in now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Preview {
    /// The source's name.
    pub source: String,
    /// The scope asked for.
    pub since: String,
    /// How many messages are there at all.
    pub total: u64,
    /// How many of them would become tasks.
    pub count: u64,
    /// The first few of those.
    pub first: Vec<Headline>,
}

/// A message in a preview. Header fields are as in the message, not decoded, and may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Headline {
    /// The source's key of the message.
    pub key: String,
    /// The `From` field.
    pub from: String,
    /// The `Subject` field.
    pub subject: String,
    /// The `Date` field.
    pub date: String,
}

/// Why there is no preview; the message says what to do.
#[derive(Debug, thiserror::Error)]
#[error("cannot look into {name}: {}", plba_contracts::describe(.source.as_ref()))]
pub struct PreviewError {
    /// The mail source.
    pub name: String,
    /// What happened.
    pub source: BoxError,
}

impl Headline {
    /// Reads the fields out of the beginning of a message (RFC 5322 section 2.2).
    pub(crate) fn read(key: String, head: &[u8]) -> Self {
        let text = String::from_utf8_lossy(head);
        let mut headline = Headline {
            key,
            ..Headline::default()
        };
        let mut fields: Vec<String> = Vec::new();
        for line in text.lines().take_while(|line| !line.is_empty()) {
            match fields.last_mut() {
                Some(last) if line.starts_with([' ', '\t']) => {
                    last.push(' ');
                    last.push_str(line.trim());
                }
                _ => fields.push(line.to_owned()),
            }
        }
        for (name, value) in fields.iter().filter_map(|field| field.split_once(':')) {
            let value = || value.trim().chars().filter(|c| !c.is_control()).take(200).collect();
            match name.to_ascii_lowercase().as_str() {
                "from" => headline.from = value(),
                "subject" => headline.subject = value(),
                "date" => headline.date = value(),
                _ => {}
            }
        }
        headline
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_folded_or_not_and_bodies_are_not() {
        let head = b"from: Ada <ada@example.org>\r\nSubject: two\r\n lines\r\nX: y\r\n\r\nDate: not this\r\n";
        let headline = Headline::read("7:1".into(), head);
        assert_eq!(headline.from, "Ada <ada@example.org>");
        assert_eq!(headline.subject, "two lines");
        assert_eq!(headline.date, "");
        assert_eq!(Headline::read("k".into(), b"\xff\xfe\0").from, "");
    }
}
