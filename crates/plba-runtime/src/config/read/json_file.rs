//! Reads JSON into a tree of values with their places: `serde_json` judges the syntax, then a walk over the text, now
//! known to be right, finds where values stand.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::de::IgnoredAny;
use serde_json::Value;

use super::sources::Place;
use super::syntax::{MAXIMUM_DEPTH, MAXIMUM_VALUES, Parsed, SyntaxFault, openers};
use super::tree::{Content, Node};

/// Reads a document.
pub(crate) fn parse(text: &str, source: usize) -> Parsed {
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        return Err(vec![fault(text, &error)]);
    }
    let mut walk = Walk {
        text,
        source,
        at: 0,
        values: 0,
    };
    let root = walk.value(0).map_err(|fault| vec![fault])?;
    match root.content {
        Content::Table(_) => Ok(root),
        _ => Err(vec![SyntaxFault::new(
            "the outermost value must be an object of tables",
            root.place.start..root.place.end,
        )]),
    }
}

fn fault(text: &str, error: &serde_json::Error) -> SyntaxFault {
    let line_start = text
        .split_inclusive('\n')
        .take(error.line().saturating_sub(1))
        .map(str::len)
        .sum::<usize>();
    // The column counts bytes, and is that of the last byte read.
    let mut start = (line_start + error.column().saturating_sub(1)).min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let width = text[start..].chars().next().map_or(0, char::len_utf8);
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    explained(text, message, start..start + width)
}

/// A message of `serde_json` with what people mostly mean when they get it.
fn explained(text: &str, message: &str, range: Range<usize>) -> SyntaxFault {
    let found = &text[range.clone()];
    let before = text[..range.start].trim_end();
    let plain = |message: &str| SyntaxFault::new(message, range.clone());
    let opener = || openers(text, range.start).pop();
    if message.starts_with("EOF while parsing") {
        let Some((open, closing)) = opener() else {
            return plain("the text ends too early");
        };
        return plain(&format!("the text ends before a `{closing}`"))
            .label("the end of the file")
            .related(Some(open..open + 1), "opened here")
            .help("was the file written completely?");
    }
    match (message, found) {
        (_, "/" | "#") => plain("JSON has no comments").help("take the comment out, or write the file as YAML or TOML"),
        ("key must be a string", "}") | ("trailing comma", _) => {
            plain("a comma before the closing brace, or a key is missing").help("leave out the last comma")
        }
        ("key must be a string", _) => plain(message).help("write keys in double quotes"),
        ("expected value", "'") => plain(message).help("write text in double quotes"),
        ("expected value", "]" | "}") if before.ends_with([',', ':']) => {
            plain("a value is missing here").help("write a value, or leave out what asks for it")
        }
        ("expected value", _) => plain(message)
            .label("no value begins like this")
            .help("a value is text in double quotes, a number, true, false, null, a list or an object"),
        ("expected `,` or `}`" | "expected `,` or `]`", _) => {
            let open = opener().map(|(open, _)| open..open + 1);
            plain(message)
                .label("something else is found")
                .related(open, "in what begins here")
                .help("is a comma missing before this?")
        }
        ("trailing characters", _) => plain("something follows the end of the configuration")
            .label("the outermost object ended before this")
            .help("a configuration file holds one object"),
        _ => plain(message),
    }
}

/// A walk over text that is known to be JSON.
struct Walk<'a> {
    text: &'a str,
    source: usize,
    at: usize,
    values: usize,
}

impl Walk<'_> {
    fn peek(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(b'}')
    }

    /// Skips white space and what separates values.
    fn skip(&mut self) {
        while self.at < self.text.len() && matches!(self.peek(), b' ' | b'\t' | b'\n' | b'\r' | b',' | b':') {
            self.at += 1;
        }
    }

    fn place(&self, range: Range<usize>) -> Place {
        Place::new(self.source, range)
    }

    fn value(&mut self, depth: usize) -> Result<Node, SyntaxFault> {
        self.skip();
        let start = self.at;
        self.values += 1;
        if depth > MAXIMUM_DEPTH {
            return Err(SyntaxFault::depth(start..start + 1));
        }
        if self.values > MAXIMUM_VALUES {
            return Err(SyntaxFault::values(start..start + 1));
        }
        let content = match self.peek() {
            b'{' => self.table(depth)?,
            b'[' => self.list(depth)?,
            _ => Content::Scalar(self.scalar()?),
        };
        Ok(Node::new(content, self.place(start..self.at)))
    }

    fn table(&mut self, depth: usize) -> Result<Content, SyntaxFault> {
        let mut entries = BTreeMap::new();
        self.at += 1;
        self.skip();
        while self.peek() != b'}' {
            let start = self.at;
            let key = match self.scalar()? {
                Value::String(key) => key,
                other => other.to_string(),
            };
            let range = start..self.at;
            let node = self.value(depth + 1)?.keyed(self.place(range.clone()));
            if let Some(first) = entries.insert(key.clone(), node) {
                let first = first.key.map(|place| place.start..place.end);
                return Err(SyntaxFault::duplicate(&key, range, first));
            }
            self.skip();
        }
        self.at += 1;
        Ok(Content::Table(entries))
    }

    fn list(&mut self, depth: usize) -> Result<Content, SyntaxFault> {
        let mut items = Vec::new();
        self.at += 1;
        self.skip();
        while self.at < self.text.len() && self.peek() != b']' {
            items.push(self.value(depth + 1)?);
            self.skip();
        }
        self.at += 1;
        Ok(Content::List(items))
    }

    fn scalar(&mut self) -> Result<Value, SyntaxFault> {
        let start = self.at;
        if self.peek() == b'"' {
            self.at += 1;
            while self.at < self.text.len() && self.peek() != b'"' {
                self.at += if self.peek() == b'\\' { 2 } else { 1 };
            }
            self.at += 1;
        } else {
            while self.at < self.text.len() && !matches!(self.peek(), b' ' | b'\t' | b'\n' | b'\r' | b',' | b']' | b'}')
            {
                self.at += 1;
            }
        }
        let text = self.text.get(start..self.at).unwrap_or_default();
        // `IgnoredAny` passes numbers that no type can hold.
        serde_json::from_str(text).map_err(|error| {
            let message = error.to_string();
            SyntaxFault::new(message.split(" at line ").next().unwrap_or_default(), start..self.at)
        })
    }
}
