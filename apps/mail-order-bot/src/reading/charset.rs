//! Bytes of text → text, whatever the sender's program called them.

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};

/// Decodes text. A byte order mark decides; else valid UTF-8 is UTF-8; else the declared character set; else
/// windows-1252. Never fails: what can't be decoded becomes U+FFFD, which no article number contains.
#[must_use]
pub fn decode(bytes: &[u8], declared: Option<&str>) -> String {
    if let Some((encoding, mark)) = Encoding::for_bom(bytes) {
        return encoding.decode_without_bom_handling(&bytes[mark..]).0.into_owned();
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
        ];
        for (bytes, declared, expected) in table {
            assert_eq!(decode(bytes, *declared), *expected, "{bytes:?} as {declared:?}");
        }
    }
}
