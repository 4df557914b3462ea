//! Folder names in modified UTF-7 (RFC 3501 section 5.1.3), both ways. What comes from a server is read leniently: a
//! malformed name stays as it is, because it is only shown and never sent back changed.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

/// Encodes a folder name for the wire.
pub(crate) fn encode(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    let mut shifted: Vec<u16> = Vec::new();
    for character in name.chars() {
        if matches!(character, ' '..='~') {
            flush(&mut shifted, &mut encoded);
            encoded.push(character);
            if character == '&' {
                encoded.push('-');
            }
        } else {
            shifted.extend_from_slice(character.encode_utf16(&mut [0; 2]));
        }
    }
    flush(&mut shifted, &mut encoded);
    encoded
}

/// Decodes a folder name from the wire; a malformed one is answered unchanged.
pub(crate) fn decode(wire: &str) -> String {
    try_decode(wire).unwrap_or_else(|| wire.to_owned())
}

fn flush(shifted: &mut Vec<u16>, encoded: &mut String) {
    if shifted.is_empty() {
        return;
    }
    encoded.push('&');
    let (mut bits, mut count) = (0_u32, 0);
    for unit in shifted.drain(..) {
        bits = (bits << 16) | u32::from(unit);
        count += 16;
        while count >= 6 {
            count -= 6;
            encoded.push(sextet(bits >> count));
        }
        bits &= (1 << count) - 1;
    }
    if count > 0 {
        encoded.push(sextet(bits << (6 - count)));
    }
    encoded.push('-');
}

fn sextet(bits: u32) -> char {
    char::from(ALPHABET[(bits & 63) as usize])
}

fn try_decode(wire: &str) -> Option<String> {
    let mut decoded = String::with_capacity(wire.len());
    let mut rest = wire;
    while let Some((plain, shifted)) = rest.split_once('&') {
        let (code, after) = shifted.split_once('-')?;
        decoded.push_str(plain);
        match code {
            "" => decoded.push('&'),
            code => decoded.push_str(&decode_shifted(code)?),
        }
        rest = after;
    }
    decoded.push_str(rest);
    Some(decoded)
}

fn decode_shifted(code: &str) -> Option<String> {
    let mut units = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for byte in code.bytes() {
        let value = ALPHABET.iter().position(|&letter| letter == byte)?;
        bits = (bits << 6) | value as u32;
        count += 6;
        if count >= 16 {
            count -= 16;
            units.push((bits >> count) as u16);
            bits &= (1 << count) - 1;
        }
    }
    String::from_utf16(&units).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_both_ways() {
        let cases = [
            ("INBOX", "INBOX"),
            ("Aufträge", "Auftr&AOQ-ge"),
            ("Отправленные", "&BB4EQgQ,BEAEMAQyBDsENQQ9BD0ESwQ1-"),
            ("A & B", "A &- B"),
            ("台北/日本語", "&U,BTFw-/&ZeVnLIqe-"),
            ("\u{1f600}", "&2D3eAA-"),
            ("", ""),
        ];
        for (name, wire) in cases {
            assert_eq!(encode(name), wire);
            assert_eq!(decode(wire), name);
        }
    }

    #[test]
    fn malformed_names_stay_as_they_are() {
        for wire in ["&", "&A", "&!!-", "&2D0-", "plain & not closed"] {
            assert_eq!(decode(wire), wire);
        }
    }

    #[test]
    fn any_name_survives_both_ways() {
        let seed = 20_261_122;
        let mut random = fastrand::Rng::with_seed(seed);
        for round in 0..2_000 {
            let name: String = (0..random.usize(0..20)).map(|_| random.char(..)).collect();
            assert_eq!(decode(&encode(&name)), name, "seed {seed}, round {round}");
            assert!(encode(&name).is_ascii());
        }
    }
}
