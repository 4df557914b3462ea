//! What people mostly mean when TOML is not understood: the first of two equal keys, the bracket that was not closed, text
//! without quotes. Only hints: what is wrong, and where, is the parser's word.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::syntax::SyntaxFault;
use super::toml_file::DUPLICATE;

/// The fault with what else can be said; `read` is what could be read of the text.
pub(super) fn explained(text: &str, read: &DeTable<'_>, fault: SyntaxFault) -> SyntaxFault {
    let at = fault.range.start;
    if fault.message == DUPLICATE {
        let key = text.get(fault.range.clone()).unwrap_or_default();
        let header = line_until(text, at).trim_start().starts_with('[');
        let duplicate = SyntaxFault::duplicate(key, fault.range.clone(), first_of_two(text, &fault.range));
        return match header {
            true => duplicate.help("put what belongs to it under one header"),
            false => duplicate,
        };
    }
    if fault.message.starts_with("unclosed array") || fault.message.starts_with("unclosed inline table") {
        let open = unclosed(text, read, at);
        let closing = if fault.message.contains("array") { ']' } else { '}' };
        let end = if text[at..].trim().is_empty() {
            "the end of the file"
        } else {
            "not possible here"
        };
        return fault
            .label(end)
            .related(open, "opened here")
            .help(format!("close it with `{closing}`"));
    }
    if fault.message.starts_with("missing comma between array elements")
        && let Some(open) = unclosed(text, read, at)
        && text[open.start..at].contains('\n')
    {
        return fault
            .label("not possible in a list")
            .related(Some(open), "the list begins here")
            .help("is a `]` missing before this, or a comma?");
    }
    let found = text[at..].chars().next();
    let help = match fault.message.as_str() {
        message if message.contains("string values must be quoted") => "write text in quotes",
        message if message.starts_with("unclosed table") => "close the header with `]`",
        message if message.contains("basic string") || message.contains("literal string") => {
            "close it with the same quotes that open it"
        }
        message if message.contains("unquoted key") && found == Some(':') => "write `key = value`: TOML takes no colon",
        message if message.contains("key with no value") => "write `key = value`, or `[table]` for a table",
        _ => return fault,
    };
    fault.help(help)
}

fn line_until(text: &str, at: usize) -> &str {
    let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
    &text[start..at]
}

/// The first of two equal keys. The second one gets another name of the same length, and what stands beside it then under the
/// old name is the first.
fn first_of_two(text: &str, second: &Range<usize>) -> Option<Range<usize>> {
    let key = text.get(second.clone())?;
    let name = DeTable::parse(&format!("{key} = 0"))
        .ok()?
        .get_ref()
        .keys()
        .next()?
        .get_ref()
        .to_string();
    let other = |letter: char| letter.to_string().repeat(key.len());
    ['q', 'x', 'z'].into_iter().find_map(|letter| {
        let mut renamed = text.to_owned();
        renamed.replace_range(second.clone(), &other(letter));
        let (table, _) = DeTable::parse_recoverable(&renamed);
        sibling(table.get_ref(), second.start, &name)
    })
}

/// Where the key `name` stands in the table that holds the key at the byte `at`.
fn sibling(table: &DeTable<'_>, at: usize, name: &str) -> Option<Range<usize>> {
    if table.iter().any(|(key, _)| key.span().start == at) {
        let found = table.iter().find(|(key, _)| key.get_ref() == name);
        return found.map(|(key, _)| key.span());
    }
    table
        .iter()
        .find_map(|(_, value)| sibling_in(value.get_ref(), at, name))
}

fn sibling_in(value: &DeValue<'_>, at: usize, name: &str) -> Option<Range<usize>> {
    match value {
        DeValue::Table(table) => sibling(table, at, name),
        DeValue::Array(items) => items.iter().find_map(|item| sibling_in(item.get_ref(), at, name)),
        _ => None,
    }
}

/// The last bracket before the byte `at` that nothing closes.
fn unclosed(text: &str, table: &DeTable<'_>, at: usize) -> Option<Range<usize>> {
    let mut found = None;
    let mut look = |span: Range<usize>| {
        let open = text.get(span.clone()).is_some_and(|part| {
            let closing = match part.chars().next() {
                Some('[') => ']',
                Some('{') => '}',
                _ => return false,
            };
            !part.ends_with(closing)
        });
        if open
            && span.start < at
            && found
                .as_ref()
                .is_none_or(|known: &Range<usize>| known.start < span.start)
        {
            found = Some(span.start..span.start + 1);
        }
    };
    visit(table, &mut look);
    found
}

fn visit(table: &DeTable<'_>, look: &mut dyn FnMut(Range<usize>)) {
    for (_, value) in table {
        look(value.span());
        visit_value(value.get_ref(), look);
    }
}

fn visit_value(value: &DeValue<'_>, look: &mut dyn FnMut(Range<usize>)) {
    match value {
        DeValue::Table(table) => visit(table, look),
        DeValue::Array(items) => {
            for item in items.iter() {
                look(item.span());
                visit_value(item.get_ref(), look);
            }
        }
        _ => {}
    }
}
