//! Whether the tags of an XML file close one another. A scanner and no parser: what it passes may be wrong in other ways.

/// How deep elements may lie in each other; a spreadsheet needs a dozen.
const MAX_DEPTH: usize = 200;

/// Whether every element is closed by its own name, and nothing else is. calamine reads an ODS file on and on that ends before
/// its table does.
pub(super) fn is_balanced(xml: &[u8]) -> bool {
    let mut open: Vec<&[u8]> = Vec::new();
    let mut rest = xml;
    while let Some(start) = rest.iter().position(|byte| *byte == b'<') {
        rest = &rest[start + 1..];
        let skipped = [
            (&b"!--"[..], &b"-->"[..]),
            (b"![CDATA[", b"]]>"),
            (b"?", b"?>"),
            (b"!", b">"),
        ];
        if let Some((_, end)) = skipped.into_iter().find(|(begin, _)| rest.starts_with(begin)) {
            let Some(place) = rest.windows(end.len()).position(|window| window == end) else {
                return false;
            };
            rest = &rest[place + end.len()..];
            continue;
        }
        let Some(length) = tag_length(rest) else { return false };
        let tag = &rest[..length];
        rest = &rest[length + 1..];
        match tag.strip_prefix(b"/") {
            Some(name) if open.pop() != Some(name.trim_ascii_end()) => return false,
            Some(_) => {}
            None if tag.ends_with(b"/") => {}
            None if open.len() == MAX_DEPTH => return false,
            None => {
                let end = tag.iter().position(u8::is_ascii_whitespace).unwrap_or(tag.len());
                open.push(&tag[..end]);
            }
        }
    }
    open.is_empty()
}

/// Where a tag ends: at the first `>` that is not in an attribute's value.
fn tag_length(rest: &[u8]) -> Option<usize> {
    let mut quote = None;
    rest.iter().position(|byte| match (quote, byte) {
        (None, b'>') => true,
        (None, b'"' | b'\'') => {
            quote = Some(*byte);
            false
        }
        (Some(open), _) => {
            if open == *byte {
                quote = None;
            }
            false
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_closes_as_it_opens_is_balanced() {
        let deep = "<a>".repeat(MAX_DEPTH + 1) + &"</a>".repeat(MAX_DEPTH + 1);
        for (xml, expected) in [
            ("", true),
            (
                "<?xml version=\"1.0\"?><a b='>' c=\"'\"><d/><!-- <e> --><![CDATA[</a>]]></a >",
                true,
            ),
            ("<!DOCTYPE a><a\n b=\"1\">x > y</a>", true),
            ("<a><b></a></b>", false),
            ("<a></b>", false),
            ("<a>", false),
            ("</a>", false),
            ("<a", false),
            ("<a b=\"></a>", false),
            ("<!-- <a>", false),
            (deep.as_str(), false),
        ] {
            assert_eq!(is_balanced(xml.as_bytes()), expected, "{xml}");
        }
    }
}
