//! Keys of rows: the dotted keys of a file, taken apart. What they are keys of is not known here.

/// How deep a key may lead.
const PARTS: usize = 32;

/// The parts of a dotted key, as TOML has them: bare, `"in double quotes"` (with `\"` and `\\`) or `'in single ones'`.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse(text: &str) -> Result<Vec<String>, &'static str> {
    let (mut path, mut rest) = (Vec::new(), text);
    loop {
        let (part, after) = part(rest)?;
        path.push(part);
        if path.len() > PARTS {
            return Err("has more than 32 parts");
        }
        if after.is_empty() {
            return Ok(path);
        }
        rest = after
            .strip_prefix('.')
            .ok_or("has other characters than letters, digits, _ and - in a part without quotes")?;
    }
}

/// The first part, and what comes after it.
fn part(text: &str) -> Result<(String, &str), &'static str> {
    const OPEN: &str = "has a quote that is not closed";
    if let Some(quoted) = text.strip_prefix('\'') {
        let (part, after) = quoted.split_once('\'').ok_or(OPEN)?;
        return Ok((part.to_owned(), after));
    }
    if let Some(quoted) = text.strip_prefix('"') {
        return in_double_quotes(quoted).ok_or(OPEN)?;
    }
    let bare = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '-');
    let end = text.find(|character| !bare(character)).unwrap_or(text.len());
    match text.split_at(end) {
        ("", "") => Err("has an empty part"),
        ("", after) if after.starts_with('.') => Err("has an empty part"),
        ("", _) => Err("has other characters than letters, digits, _ and - in a part without quotes"),
        (part, after) => Ok((part.to_owned(), after)),
    }
}

/// What stands before the closing quote; `None` without one.
fn in_double_quotes(text: &str) -> Option<Result<(String, &str), &'static str>> {
    let (mut part, mut characters) = (String::new(), text.char_indices());
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some(Ok((part, &text[at + 1..]))),
            '\\' => match characters.next()? {
                (_, escaped @ ('"' | '\\')) => part.push(escaped),
                _ => return Some(Err("has a backslash before something else than a quote or a backslash")),
            },
            _ => part.push(character),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_taken_apart_as_in_a_file() {
        for (text, parts) in [
            ("workers", &["workers"][..]),
            ("mail_order_bot.poll-every.2", &["mail_order_bot", "poll-every", "2"]),
            (
                r#"prices."blue \"hats\" \\ 1.5".a"#,
                &["prices", r#"blue "hats" \ 1.5"#, "a"],
            ),
            (r"'a\.b'.c", &[r"a\.b", "c"]),
            (r#"a."""#, &["a", ""]),
            ("a.'größe'", &["a", "größe"]),
        ] {
            assert_eq!(parse(text).unwrap(), parts, "{text}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused_with_what_is_wrong() {
        let deep = "a.".repeat(32) + "a";
        for (text, says) in [
            ("", "empty part"),
            ("a..b", "empty part"),
            (".a", "empty part"),
            ("a.", "empty part"),
            ("a b", "other characters"),
            (" a", "other characters"),
            ("größe", "other characters"),
            (r#""a"b"#, "other characters"),
            (r#"a."b"#, "not closed"),
            (r#"a."b\"#, "not closed"),
            ("'a", "not closed"),
            (r#""a\n""#, "backslash"),
            (deep.as_str(), "more than 32"),
        ] {
            let refused = parse(text).unwrap_err();
            assert!(refused.contains(says), "{text}: {refused}");
        }
    }
}
