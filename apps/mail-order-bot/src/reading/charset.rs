//! Bytes of text → text, whatever the sender's program called them.

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};

/// Decodes text. A byte order mark decides; else valid UTF-8 is UTF-8; else the declared character set; else
/// windows-1252. Never fails: what can't be decoded becomes U+FFFD, which no article number contains.
#[must_use]
pub fn decode(bytes: &[u8], declared: Option<&str>) -> String {
    if let Some((encoding, mark)) = Encoding::for_bom(bytes) {
        return encoding.decode_without_bom_handling(&bytes[mark..]).0.into_owned();
    }
    // encoding_rs leaves UTF-7 out, because a browser that guesses it can be tricked; here it is only text.
    let utf_7 =
        |label: &str| ["utf-7", "utf7", "unicode-1-1-utf-7"].contains(&label.trim().to_ascii_lowercase().as_str());
    if declared.is_some_and(utf_7) {
        return decode_utf_7(bytes);
    }
    let declared = declared.and_then(|label| Encoding::for_label(label.trim().as_bytes()));
    // ISO-2022-JP and UTF-16 are made of ASCII bytes or hide in valid UTF-8: there the declaration counts.
    if let Some(encoding) = declared.filter(|encoding| !encoding.is_ascii_compatible()) {
        return encoding.decode_without_bom_handling(bytes).0.into_owned();
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        return text.to_owned();
    }
    let encoding = declared.filter(|encoding| ![UTF_8, UTF_16BE, UTF_16LE].contains(encoding));
    encoding
        .unwrap_or(WINDOWS_1252)
        .decode_without_bom_handling(bytes)
        .0
        .into_owned()
}

/// UTF-7 (RFC 2152): between `+` and the first byte that isn't BASE64, UTF-16 in BASE64.
fn decode_utf_7(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'+' {
            text.push(if first.is_ascii() {
                char::from(*first)
            } else {
                '\u{fffd}'
            });
            continue;
        }
        let length = rest
            .iter()
            .position(|byte| sextet(*byte).is_none())
            .unwrap_or(rest.len());
        let (encoded, after) = rest.split_at(length);
        rest = after;
        let ended = rest.first() == Some(&b'-');
        if encoded.is_empty() {
            text.push('+');
        }
        // What is left over when the last whole unit is complete is padding.
        let bits: Vec<bool> = encoded
            .iter()
            .filter_map(|byte| sextet(*byte))
            .flat_map(|sextet| (0..6).rev().map(move |bit| sextet >> bit & 1 == 1))
            .collect();
        let units: Vec<u16> = bits
            .chunks_exact(16)
            .map(|unit| unit.iter().fold(0, |unit, bit| unit << 1 | u16::from(*bit)))
            .collect();
        text.push_str(&String::from_utf16_lossy(&units));
        rest = if ended { &rest[1..] } else { rest };
    }
    text
}

fn sextet(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_decoded_by_what_it_is() {
        let table: &[(&[u8], Option<&str>, &str)] = &[
            (b"St\xfcck", None, "Stück"),
            (b"St\xfcck", Some("utf-8"), "Stück"),
            ("Stück".as_bytes(), Some("iso-8859-1"), "Stück"),
            (b"\xef\xbb\xbfa;b", Some("windows-1252"), "a;b"),
            (b"\xff\xfea\0;\0", None, "a;"),
            (b"12,50 \x80", Some("no-such-charset"), "12,50 €"),
            (b"\xe9\xea", Some("windows-1251"), "йк"),
            (b"2 St+APw-ck", Some("UTF-7"), "2 Stück"),
            (b"Caf+AOk", Some("unicode-1-1-utf-7"), "Café"),
            (b"2 x ART-001 +", Some("utf-7"), "2 x ART-001 +"),
            (b"1 +- 1 +AOk\n2", Some("utf-7"), "1 + 1 é\n2"),
            (b"+2D3cqQ- \xff +2D0- +A", Some("utf-7"), "\u{1f4a9} \u{fffd} \u{fffd} "),
            // Two encodings in one text: what isn't UTF-8 as a whole is read byte by byte.
            ("Stück St\u{fffd}ck".as_bytes(), None, "Stück St\u{fffd}ck"),
            (b"St\xc3\xbcck und St\xfcck", Some("utf-8"), "StÃ¼ck und Stück"),
            (b"\x1b$B", Some("iso-2022-jp"), ""),
            (b"\xd8\x00", Some("utf-16be"), "\u{fffd}"),
            (b"\0\x01\xff", Some("\0\r\n"), "\0\u{1}ÿ"),
        ];
        for (bytes, declared, expected) in table {
            assert_eq!(decode(bytes, *declared), *expected, "{bytes:?} as {declared:?}");
        }
    }
}
