//! Secrets in texts: passwords within URLs, and lines of files too broken for their keys to be known. Secrets that the
//! schema names are hidden by their place; that is the business of `annotate`.

use plba_contracts::secret::MASK;

/// Words in a key that say its value is a secret.
const SECRET_WORDS: [&str; 8] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "credential",
    "api_key",
    "private_key",
];

/// Whether a key's name says that its value is a secret; the name of a file that holds one is none.
pub(crate) fn sounds_secret(key: &str) -> bool {
    let key = key.to_lowercase().replace('-', "_");
    let points = ["_file", "_path", "_env"].iter().any(|ending| key.ends_with(ending));
    !points && SECRET_WORDS.iter().any(|word| key.contains(word))
}

/// Masks the password in every `scheme://user:password@host` of a text, and values of secret parameters in queries.
pub(crate) fn without_credentials(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at + 3);
        shown.push_str(head);
        let end = tail
            .find(|character: char| character.is_whitespace() || "\"'<>,".contains(character))
            .unwrap_or(tail.len());
        shown.push_str(&url(&tail[..end]));
        rest = &tail[end..];
    }
    shown.push_str(rest);
    shown
}

/// What follows `://`, masked.
fn url(text: &str) -> String {
    let (authority, query) = text.split_once('?').unwrap_or((text, ""));
    // A password may hold a slash that should have been escaped, so the last `@` counts.
    let masked = match authority.rsplit_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((name, _)) => format!("{name}:{MASK}@{host}"),
            None => authority.to_owned(),
        },
        None => authority.to_owned(),
    };
    if query.is_empty() {
        return text.replacen(authority, &masked, 1);
    }
    let pairs: Vec<String> = query
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some((name, _)) if sounds_secret(name) => format!("{name}={MASK}"),
            _ => pair.to_owned(),
        })
        .collect();
    // A `?` within the password puts the `@` into what looks like the query.
    match query.contains('@') {
        true => MASK.to_owned(),
        false => format!("{masked}?{}", pairs.join("&")),
    }
}

/// The range of a broken file that must not be shown around the byte `at`: in such a file nothing but the names of keys
/// says what is secret, so anything from a secret-sounding key on is hidden up to the next key.
pub(crate) fn hidden_around(text: &str, at: usize) -> Option<std::ops::Range<usize>> {
    let mut hidden: Option<std::ops::Range<usize>> = None;
    let mut start = 0;
    let mut multiline = false;
    for line in text.split_inclusive('\n') {
        let end = start + line.len();
        if let Some(separator) = assignment(line).filter(|_| !multiline) {
            let key = &line[..separator];
            hidden = sounds_secret(key).then(|| start + separator + 1..end);
            let value = line[separator + 1..].trim();
            let opens = ["\"\"\"", "'''", "|", ">"].iter().any(|mark| value.starts_with(mark));
            multiline = hidden.is_some() && opens;
        } else if let Some(range) = &mut hidden {
            range.end = end;
        }
        // A flow table or a minified file holds many keys in one line.
        let secret_inside = line
            .split(['{', ',', '}'])
            .any(|part| assignment(part).is_some_and(|at| sounds_secret(&part[..at])));
        if secret_inside && hidden.is_none() && start <= at && at < end.max(start + 1) {
            return Some(start..end);
        }
        if end > at {
            break;
        }
        start = end;
    }
    hidden
}

/// The byte of the `=` or `:` after a key at the beginning of a line.
fn assignment(line: &str) -> Option<usize> {
    let separator = line.find(['=', ':'])?;
    let key = line[..separator]
        .trim()
        .trim_start_matches("- ")
        .trim_matches(['"', '\'']);
    let named = |character: char| character.is_alphanumeric() || "_-.\"' ".contains(character);
    let spaced =
        line[separator + 1..].starts_with([' ', '\t', '"', '\'', '\n', '\r']) || line.as_bytes()[separator] == b'=';
    (!key.is_empty() && key.chars().all(named) && spaced).then_some(separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_urls_are_masked() {
        for (text, shown) in [
            ("imaps://bot:hunter2@mail/INBOX", "imaps://bot:***@mail/INBOX"),
            ("a redis://:pw@h/1, b", "a redis://:***@h/1, b"),
            ("imaps://bot@mail/INBOX?mode=poll", "imaps://bot@mail/INBOX?mode=poll"),
            ("http://h/?token=abc&x=1", "http://h/?token=***&x=1"),
            ("smtp://u:p/a?x@h", "smtp://***"),
            ("maildir:var/inbox", "maildir:var/inbox"),
        ] {
            assert_eq!(without_credentials(text), shown);
        }
    }

    #[test]
    fn names_of_files_are_no_secrets() {
        assert!(sounds_secret("smtp.Password") && sounds_secret("api-key") && !sounds_secret("password_file"));
    }

    #[test]
    fn a_broken_file_hides_what_follows_a_secret_key() {
        let text = "a = 1\npassword = \"\"\"hunter2\nx = 3\nmore\n";
        let hidden = hidden_around(text, text.len() - 1).unwrap();
        assert!(!text[..hidden.start].contains("hunter2") && hidden.end == text.len());
        assert_eq!(hidden_around("password = \"a\"\nworkers = \"four\n", 20), None);
        assert!(hidden_around("x = { password = \"a\n", 10).is_some());
    }
}
