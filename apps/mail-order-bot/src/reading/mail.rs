//! The message as the business sees it: sender, subject, identity, facts, leaves. What is in it is `extract`.

use std::collections::HashSet;

use jiff::Timestamp;
use mail_parser::{Address, HeaderName, HeaderValue, Message, MessageParser, MimeHeaders};
use sha2::{Digest, Sha256};

use super::facts::{self, Automation};
use super::mime::{self, Leaf};
use super::{ReadError, ReadingLimits};

/// Longest Message-ID, address and subject that are kept, in characters.
const MAX_MESSAGE_ID: usize = 500;
const MAX_ADDRESS: usize = 254;
const MAX_LINE: usize = 300;
/// Message-IDs of the thread that a reply refers to.
const MAX_THREAD: usize = 20;
/// Messages that a mail says it belongs to.
const MAX_REFERENCES: usize = 32;

/// `X-Loop` fields that are looked at.
const MAX_LOOPS: usize = 50;

/// Someone's address with the name they give themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// In lower case; has one `@`, no white space and no control characters.
    pub address: String,
    /// On one line.
    pub name: Option<String>,
}

/// A message, read within limits.
#[derive(Debug, Clone)]
pub struct IncomingMail {
    /// The Message-ID without angle brackets; when the message has none that can be used, `missing-` and a hash of
    /// sender, date, subject and body.
    pub message_id: String,
    /// Whether `message_id` is the message's own.
    pub has_message_id: bool,
    /// SHA-256 in hex of the body, line ends and trailing white space aside, so that the same message fetched from a
    /// Maildir and over IMAP has the same hash.
    pub body_hash: String,
    /// Who wrote it; `None` if it names nobody, or several: RFC 5322 knows one `From` field, and which of two a reader is
    /// shown is anybody's guess.
    pub from: Option<Sender>,
    /// Who wants the answer, if not the author.
    pub reply_to: Option<Sender>,
    /// The addresses in `To`.
    pub to: Vec<String>,
    /// The subject on one line, decoded, without control characters.
    pub subject: String,
    /// When it was written, as it says.
    pub date: Option<Timestamp>,
    /// The thread it belongs to, oldest first and itself at the end, for the reply's `References`.
    pub thread: Vec<String>,
    /// The messages it answers or belongs to, the nearest first: `In-Reply-To`, then `References` from the last on; at
    /// most 32, each once, without angle brackets.
    pub references: Vec<String>,
    /// Whether a machine sent it.
    pub automation: Option<Automation>,
    /// The addresses in `X-Loop` fields, in lower case: programs that have handled this message before.
    pub loops: Vec<String>,
    /// The `List-Id` without angle brackets, in lower case.
    pub list_id: Option<String>,
    apart_from_list: Option<Automation>,
    /// Its contents.
    pub leaves: Vec<Leaf>,
}

impl IncomingMail {
    /// Judges the message as if the list had not handled it, if it came by one of `own_lists`: a company's own
    /// distribution address (a Google group, for instance) marks every mail as list mail.
    pub fn forgive_lists(&mut self, own_lists: &[String]) {
        let own = |id: &String| own_lists.iter().any(|own| own.eq_ignore_ascii_case(id));
        if self.list_id.as_ref().is_some_and(own) {
            self.automation = self.apart_from_list;
        }
    }
}

pub(super) fn parse(raw: &[u8], limits: &ReadingLimits) -> Result<IncomingMail, ReadError> {
    if raw.len() > limits.message_bytes {
        return Err(ReadError::TooLarge {
            bytes: raw.len(),
            limit: limits.message_bytes,
        });
    }
    let (head, leaves) = mime::walk(raw, limits)?;
    let headers = MessageParser::new()
        .parse_headers(&head)
        .ok_or(ReadError::NotAMessage)?;
    if headers.headers().is_empty() {
        return Err(ReadError::NotAMessage);
    }
    let body = &raw[(head.len().saturating_sub(4)).min(raw.len())..];
    let body_hash = hex(&hash_text(body));
    let from = author(&headers);
    let subject = one_line(headers.subject().unwrap_or_default());
    let own_id = headers.message_id().and_then(usable_id);
    let message_id = own_id.clone().unwrap_or_else(|| {
        let address = from.as_ref().map_or("", |from| from.address.as_str());
        let date = field(&headers, &head, "date").unwrap_or_default();
        let parts = [address, &date, &subject, &body_hash];
        format!("missing-{}", hex(&Sha256::digest(parts.join("\n"))))
    });
    let list_id = field(&headers, &head, "list-id").map(|value| list_id(&value));
    let (automation, apart_from_list) = automation(&headers, &head, from.as_ref());
    Ok(IncomingMail {
        has_message_id: own_id.is_some(),
        thread: thread(&headers, own_id),
        references: references(&headers),
        automation,
        loops: loops(&headers, &head),
        list_id,
        apart_from_list,
        reply_to: headers.reply_to().and_then(first_address),
        to: headers
            .to()
            .map(|to| to.iter().filter_map(|a| a.address()).map(one_line).take(100).collect())
            .unwrap_or_default(),
        date: headers
            .date()
            .filter(|date| date.is_valid())
            .and_then(|d| Timestamp::from_second(d.to_timestamp()).ok()),
        message_id,
        body_hash,
        from,
        subject,
        leaves,
    })
}

/// `text` without line ends and control characters (decoded headers can hold any of them), shortened.
pub(crate) fn one_line(text: &str) -> String {
    // Marks that turn the writing direction, and characters that nobody sees, make a name look like another.
    let hidden = |c: char| matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    let plain = text
        .chars()
        .filter(|c| !hidden(*c))
        .map(|c| if c.is_control() { ' ' } else { c });
    let plain: String = plain.take(4 * MAX_LINE).collect();
    plain
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .take(MAX_LINE)
        .collect()
}

/// The one who wrote the message.
pub(crate) fn author(headers: &Message<'_>) -> Option<Sender> {
    let mut fields = headers
        .headers()
        .iter()
        .filter(|header| header.name == HeaderName::From);
    let (field, None) = (fields.next()?, fields.next()) else {
        return None;
    };
    let addresses = field.value.as_address()?;
    // A comma in a name that isn't quoted makes two "addresses", of which one has no `@`.
    let mut mailboxes = addresses
        .iter()
        .filter(|addr| addr.address().is_some_and(|text| text.contains('@')));
    let (_, None) = (mailboxes.next()?, mailboxes.next()) else {
        return None;
    };
    first_address(addresses)
}

fn first_address(addresses: &Address<'_>) -> Option<Sender> {
    addresses.iter().find_map(|addr| {
        let address = addr.address()?.trim();
        let plain = address
            .chars()
            .all(|c| !c.is_control() && !c.is_whitespace() && !"<>,;:\"()".contains(c));
        let (local, domain) = address.split_once('@')?;
        let whole = !local.is_empty() && !domain.is_empty() && !domain.contains('@');
        (plain && whole && address.len() <= MAX_ADDRESS).then(|| Sender {
            address: address.to_lowercase(),
            // A name that looks like an address is one that somebody wants to be taken for.
            name: addr
                .name()
                .map(one_line)
                .filter(|name| !name.is_empty() && !name.contains(['@', '＠'])),
        })
    })
}

/// A Message-ID that may be stored and sent back: printable ASCII without brackets.
fn usable_id(id: &str) -> Option<String> {
    let id = id.trim().trim_start_matches('<').trim_end_matches('>');
    let plain = id.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>".contains(&byte));
    (plain && !id.is_empty() && id.len() <= MAX_MESSAGE_ID).then(|| id.to_owned())
}

fn ids(value: &HeaderValue<'_>) -> Vec<String> {
    match value {
        HeaderValue::Text(id) => usable_id(id).into_iter().collect(),
        HeaderValue::TextList(ids) => ids.iter().filter_map(|id| usable_id(id)).collect(),
        _ => Vec::new(),
    }
}

fn references(headers: &Message<'_>) -> Vec<String> {
    let mut nearest_first = ids(headers.in_reply_to());
    nearest_first.extend(ids(headers.references()).into_iter().rev());
    let mut seen = HashSet::new();
    nearest_first.retain(|id| seen.insert(id.clone()));
    nearest_first.truncate(MAX_REFERENCES);
    nearest_first
}

fn thread(headers: &Message<'_>, own: Option<String>) -> Vec<String> {
    let mut thread = ids(headers.references());
    if thread.is_empty() {
        thread = ids(headers.in_reply_to());
    }
    thread.extend(own);
    thread.split_off(thread.len().saturating_sub(MAX_THREAD))
}

/// `Orders <orders.example.com>` → `orders.example.com` (RFC 2919).
fn list_id(value: &str) -> String {
    let id = value.rsplit_once('<').map_or(value, |(_, id)| id);
    id.trim().trim_end_matches('>').to_ascii_lowercase()
}

/// The verdict, and what it would be without the marks of a mailing list.
fn automation(headers: &Message<'_>, head: &[u8], from: Option<&Sender>) -> (Option<Automation>, Option<Automation>) {
    let content_type = headers.root_part().content_type();
    let content_type = content_type
        .map(|t| format!("{}/{}", t.ctype(), t.subtype().unwrap_or_default()).to_ascii_lowercase())
        .unwrap_or_default();
    let fields: Vec<(String, String)> = headers
        .headers()
        .iter()
        .map(|header| {
            (
                header.name().to_ascii_lowercase(),
                raw_value(head, header.offset_start, header.offset_end),
            )
        })
        .collect();
    let find = |name: &str| {
        fields
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    };
    let judge = |by_list| facts::judge(find, &content_type, from.map(|from| from.address.as_str()), by_list);
    (judge(true), judge(false))
}

fn loops(headers: &Message<'_>, head: &[u8]) -> Vec<String> {
    let fields = headers
        .headers()
        .iter()
        .filter(|header| header.name().eq_ignore_ascii_case("x-loop"));
    let values = fields.map(|header| raw_value(head, header.offset_start, header.offset_end).to_ascii_lowercase());
    values.take(MAX_LOOPS).collect()
}

fn field(headers: &Message<'_>, head: &[u8], name: &str) -> Option<String> {
    let header = headers
        .headers()
        .iter()
        .find(|header| header.name().eq_ignore_ascii_case(name))?;
    Some(raw_value(head, header.offset_start, header.offset_end))
}

fn raw_value(head: &[u8], start: u32, end: u32) -> String {
    one_line(&String::from_utf8_lossy(
        head.get(start as usize..end as usize).unwrap_or_default(),
    ))
}

/// Hash of a body without carriage returns and trailing white space.
fn hash_text(body: &[u8]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    let body = body.trim_ascii();
    for piece in body.split(|byte| *byte == b'\r') {
        hasher.update(piece);
    }
    hasher.finalize().into()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String can't fail.
            _ = write!(text, "{byte:02x}");
            text
        })
}
