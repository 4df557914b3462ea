//! Text as people see it → text as the readers of orders take it: digits of any script, full-width forms as keyboards in
//! East Asia write them, and characters that nobody sees but that tear numbers of articles apart.

/// Where the decimal digits of scripts begin, each ten in order (Unicode general category Nd).
const ZEROS: [char; 12] = [
    '\u{660}', '\u{6f0}', '\u{966}', '\u{9e6}', '\u{a66}', '\u{ae6}', '\u{b66}', '\u{be6}', '\u{c66}', '\u{ce6}',
    '\u{d66}', '\u{e50}',
];

/// `text` with ASCII digits and forms, and without what nobody sees.
pub(super) fn plain(text: String) -> String {
    // Most mails have nothing of the kind.
    if text.chars().all(|c| plain_char(c) == Some(c)) {
        return text;
    }
    text.chars().filter_map(plain_char).collect()
}

fn plain_char(c: char) -> Option<char> {
    match c {
        '\0'
        | '\u{ad}'
        | '\u{61c}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{2069}'
        | '\u{feff}' => None,
        c if c < '\u{660}' => Some(c),
        // `！` to `～`, in the order of ASCII.
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xff01 + 0x21),
        '\u{3000}' => Some(' '),
        // The minus sign of typographers.
        '\u{2212}' => Some('-'),
        c => Some(digit(c).unwrap_or(c)),
    }
}

fn digit(c: char) -> Option<char> {
    let value = ZEROS
        .iter()
        .find_map(|zero| u32::from(c).checked_sub(u32::from(*zero)).filter(|value| *value < 10))?;
    char::from_digit(value, 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_number_is_one_and_what_nobody_sees_is_gone() {
        for (text, expected) in [
            ("ART-001 ２個　１，５", "ART-001 2個 1,5"),
            ("ART-001 ١٢ / ۱۲ / १२ / ๑๒", "ART-001 12 / 12 / 12 / 12"),
            ("ART\u{200b}-0\u{ad}01\u{feff} x\0", "ART-001 x"),
            ("ＡＲＴ－００１", "ART-001"),
            ("\u{2212}5", "-5"),
            ("Größe 5 €, 4½ — „ja“", "Größe 5 €, 4½ — „ja“"),
        ] {
            assert_eq!(plain(text.to_owned()), expected, "{text:?}");
        }
    }
}
