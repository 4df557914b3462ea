//! Messages of serde in words that an operator knows. The place and the key stand beside the message.

/// What types are called in messages, and what people call them.
const NAMES: [(&str, &str); 20] = [
    ("expected u8", "expected a whole number from 0 to 255"),
    ("expected u16", "expected a whole number from 0 to 65535"),
    ("expected u32", "expected a whole number from 0 to 4294967295"),
    ("expected u64", "expected a whole number from 0"),
    ("expected usize", "expected a whole number from 0"),
    ("expected i8", "expected a whole number from -128 to 127"),
    ("expected i16", "expected a whole number from -32768 to 32767"),
    ("expected i32", "expected a whole number"),
    ("expected i64", "expected a whole number"),
    ("expected isize", "expected a whole number"),
    ("expected f32", "expected a number"),
    ("expected f64", "expected a number"),
    ("expected a boolean", "expected true or false"),
    ("expected a string", "expected text"),
    ("expected path string", "expected a path"),
    ("expected a sequence", "expected a list"),
    ("expected a map", "expected a table"),
    ("expected string or map", "expected text"),
    ("expected a nonzero u16", "expected a whole number from 1 to 65535"),
    ("expected a nonzero u32", "expected a whole number from 1 to 4294967295"),
];

/// What a value is called in messages, and what people call it.
const VALUES: [(&str, &str); 8] = [
    ("invalid type: string ", "found the text "),
    ("invalid type: integer ", "found the number "),
    ("invalid type: floating point ", "found the number "),
    ("invalid type: boolean ", "found "),
    ("invalid type: sequence", "found a list"),
    ("invalid type: map", "found a table"),
    ("invalid type: null", "found nothing"),
    ("invalid value: integer ", "the number is out of range: "),
];

/// The message in plain words; what isn't known stays as it is.
pub(crate) fn plain(message: &str) -> String {
    if let Some(field) = message
        .strip_prefix("missing field `")
        .and_then(|rest| rest.strip_suffix('`'))
    {
        return format!("`{field}` is missing");
    }
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        return format!(
            "{} is not a choice{}",
            rest.split(',').next().unwrap_or(rest),
            choices(rest)
        );
    }
    let mut plain = message.to_owned();
    for (word, name) in VALUES {
        if let Some(rest) = plain.strip_prefix(word) {
            plain = format!("{name}{rest}");
            break;
        }
    }
    for (word, name) in NAMES {
        if let Some(before) = plain.strip_suffix(word) {
            plain = format!("{before}{name}");
            break;
        }
    }
    match plain.rsplit_once("expected struct ") {
        Some((before, _)) => format!("{before}expected a table"),
        None => plain,
    }
}

fn choices(rest: &str) -> String {
    let choices = rest.split_once(", expected ").map(|(_, choices)| choices);
    choices
        .map(|choices| format!("; expected {choices}"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn messages_are_put_plainly() {
        for (message, said) in [
            ("missing field `sender`", "`sender` is missing"),
            (
                "invalid type: string \"four\", expected u32",
                "found the text \"four\", expected a whole number from 0 to 4294967295",
            ),
            (
                "invalid type: integer `1`, expected struct Replies",
                "found the number `1`, expected a table",
            ),
            (
                "unknown variant `xml`, expected one of `json`, `pretty`",
                "`xml` is not a choice; expected one of `json`, `pretty`",
            ),
            ("a rate lies between 1 and 300", "a rate lies between 1 and 300"),
        ] {
            assert_eq!(plain(message), said);
        }
    }
}
