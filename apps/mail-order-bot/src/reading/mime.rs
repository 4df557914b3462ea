//! The parts of a message: walking the MIME tree without recursion and decoding the leaves to their raw bytes.
//! What a part means is decided elsewhere. Nested messages (`message/*`) are leaves: nobody orders inside them.

use std::borrow::Cow;

use mail_parser::decoders::base64::base64_decode;
use mail_parser::decoders::quoted_printable::quoted_printable_decode;
use mail_parser::{HeaderName, HeaderValue, Message, MessageParser, MimeHeaders};

use super::{ReadError, ReadingLimits};

/// One leaf of the MIME tree, its transfer encoding undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// The declared type in lower case, `text/plain` when none is declared. A claim, not a fact.
    pub content_type: String,
    /// The declared character set, if any.
    pub charset: Option<String>,
    /// The declared file name, made harmless, and still never used as a path.
    pub file_name: Option<String>,
    /// Whether it is declared as an attachment.
    pub attachment: bool,
    /// The content.
    pub bytes: Vec<u8>,
}

/// What is left of the limits that hold for all parts together.
struct Budget<'l> {
    limits: &'l ReadingLimits,
    header_bytes: usize,
    headers: usize,
    parts: usize,
}

/// The header block of one entity, with the empty line that ends it.
pub(crate) type Head = Vec<u8>;

/// Splits a message into its header block and its leaves, in order.
pub(crate) fn walk(raw: &[u8], limits: &ReadingLimits) -> Result<(Head, Vec<Leaf>), ReadError> {
    let mut budget = Budget {
        limits,
        header_bytes: 0,
        headers: 0,
        parts: 0,
    };
    let mut top = None;
    let mut leaves = Vec::new();
    let mut open = vec![(raw, 0_usize)];
    while let Some((entity, depth)) = open.pop() {
        if depth > limits.depth {
            return Err(ReadError::TooDeep { limit: limits.depth });
        }
        budget.parts += 1;
        if budget.parts > limits.parts {
            return Err(ReadError::TooManyParts { limit: limits.parts });
        }
        let (head, body) = budget.split_head(entity)?;
        let children = match MessageParser::new().parse_headers(&head) {
            Some(headers) => open_entity(&headers, body, limits, &mut leaves)?,
            None => {
                leaves.push(plain_leaf(body));
                Vec::new()
            }
        };
        open.extend(children.into_iter().rev().map(|child| (child, depth + 1)));
        if depth == 0 {
            top = Some(head);
        }
    }
    Ok((top.unwrap_or_default(), leaves))
}

/// The header block of a message alone.
pub(super) fn head(raw: &[u8], limits: &ReadingLimits) -> Result<Head, ReadError> {
    let mut budget = Budget {
        limits,
        header_bytes: 0,
        headers: 0,
        parts: 0,
    };
    Ok(budget.split_head(raw)?.0)
}

impl Budget<'_> {
    /// Splits an entity at its first empty line, counting header bytes and fields.
    fn split_head<'r>(&mut self, entity: &'r [u8]) -> Result<(Head, &'r [u8]), ReadError> {
        let mut at = 0;
        let mut end = 0;
        while at < entity.len() {
            let line = &entity[at..];
            let length = line
                .iter()
                .position(|byte| *byte == b'\n')
                .map_or(line.len(), |newline| newline + 1);
            self.header_bytes += length;
            if self.header_bytes > self.limits.header_bytes {
                return Err(ReadError::HeadersTooLarge {
                    limit: self.limits.header_bytes,
                });
            }
            at += length;
            if matches!(&line[..length], b"\n" | b"\r\n") {
                break;
            }
            end = at;
            if !line[0].is_ascii_whitespace() {
                self.headers += 1;
                if self.headers > self.limits.headers {
                    return Err(ReadError::TooManyHeaders {
                        limit: self.limits.headers,
                    });
                }
            }
        }
        let mut head = entity[..end].to_vec();
        head.extend_from_slice(b"\r\n\r\n");
        Ok((head, &entity[at..]))
    }
}

/// Either pushes a leaf or returns the children of a multipart.
fn open_entity<'r>(
    headers: &Message<'_>,
    body: &'r [u8],
    limits: &ReadingLimits,
    leaves: &mut Vec<Leaf>,
) -> Result<Vec<&'r [u8]>, ReadError> {
    let part = headers.root_part();
    let content_type = part.content_type();
    if let Some(boundary) = content_type
        .filter(|t| t.ctype() == "multipart")
        .and_then(|t| t.attribute("boundary"))
    {
        let children = split_parts(body, boundary.as_bytes(), limits)?;
        if !children.is_empty() {
            return Ok(children);
        }
    }
    let declared = content_type.map_or_else(
        || "text/plain".to_owned(),
        |t| format!("{}/{}", t.ctype(), t.subtype().unwrap_or_default()).to_ascii_lowercase(),
    );
    leaves.push(Leaf {
        content_type: declared,
        charset: content_type.and_then(|t| t.attribute("charset")).map(str::to_owned),
        file_name: part.attachment_name().and_then(super::names::file_name),
        attachment: part
            .content_disposition()
            .is_some_and(|disposition| disposition.is_attachment()),
        bytes: decode(headers.header(HeaderName::ContentTransferEncoding), body).into_owned(),
    });
    Ok(Vec::new())
}

fn plain_leaf(body: &[u8]) -> Leaf {
    let content_type = "text/plain".to_owned();
    Leaf {
        content_type,
        charset: None,
        file_name: None,
        attachment: false,
        bytes: body.to_vec(),
    }
}

/// The parts between the delimiter lines of `boundary` (RFC 2046, section 5.1.1). A missing end delimiter is forgiven.
fn split_parts<'r>(body: &'r [u8], boundary: &[u8], limits: &ReadingLimits) -> Result<Vec<&'r [u8]>, ReadError> {
    let mut parts = Vec::new();
    let mut start = None;
    let mut at = 0;
    while at < body.len() {
        let rest = &body[at..];
        let next = rest
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(body.len(), |newline| at + newline + 1);
        if let Some(last) = delimiter(&body[at..next], boundary) {
            if let Some(start) = start {
                parts.push(without_line_end(&body[start..at]));
                if parts.len() > limits.parts {
                    return Err(ReadError::TooManyParts { limit: limits.parts });
                }
            }
            if last {
                return Ok(parts);
            }
            start = Some(next);
        }
        at = next;
    }
    if let Some(start) = start.filter(|start| *start < body.len()) {
        parts.push(&body[start..]);
    }
    Ok(parts)
}

/// Whether `line` is a delimiter, and if so whether it is the last.
fn delimiter(line: &[u8], boundary: &[u8]) -> Option<bool> {
    let rest = line.strip_prefix(b"--")?.strip_prefix(boundary)?;
    let (last, padding) = match rest.strip_prefix(b"--") {
        Some(padding) => (true, padding),
        None => (false, rest),
    };
    padding.iter().all(u8::is_ascii_whitespace).then_some(last)
}

/// The line end before a delimiter belongs to the delimiter.
fn without_line_end(part: &[u8]) -> &[u8] {
    let part = part.strip_suffix(b"\n").unwrap_or(part);
    part.strip_suffix(b"\r").unwrap_or(part)
}

/// Undoes the transfer encoding; content that isn't what it claims to be stays as it is.
fn decode<'b>(encoding: Option<&HeaderValue<'_>>, body: &'b [u8]) -> Cow<'b, [u8]> {
    let encoding = encoding.and_then(HeaderValue::as_text).unwrap_or_default().trim();
    let decoded = if encoding.eq_ignore_ascii_case("base64") {
        // Mailing lists append a footer after the padding: decode up to the first byte that can't belong.
        let belongs = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=\r\n\t ".contains(byte);
        let length = body.iter().position(|byte| !belongs(byte)).unwrap_or(body.len());
        base64_decode(&body[..length])
    } else if encoding.eq_ignore_ascii_case("quoted-printable") {
        quoted_printable_decode(body)
    } else {
        None
    };
    decoded.map_or(Cow::Borrowed(body), Cow::Owned)
}
