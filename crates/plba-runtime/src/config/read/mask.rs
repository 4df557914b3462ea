//! Secrets in texts: lines of files too broken for their keys to be known. Passwords within URLs are masked by the contracts;
//! secrets that the schema names are hidden by their place, which is the business of `annotate`.

use std::collections::BTreeSet;
use std::ops::Range;

use plba_contracts::secret::SECRET_WORDS;
pub(crate) use plba_contracts::secret::{sounds_secret, without_credentials};
use serde_json::Value;

use crate::config::check::schema::former_names;

/// The keys that schemas name, for judging lines of files too broken to be read.
#[derive(Debug, Default)]
pub(crate) struct KnownKeys {
    /// Keys whose values may be shown.
    plain: BTreeSet<String>,
    /// Keys whose values are secrets.
    secret: BTreeSet<String>,
}

impl KnownKeys {
    /// All keys of a schema.
    pub(crate) fn of(schema: &Value) -> Self {
        let mut keys = Self::default();
        keys.collect(schema);
        keys
    }

    fn collect(&mut self, schema: &Value) {
        let properties = schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten();
        for (name, property) in properties {
            let choices = property.get("anyOf").and_then(Value::as_array).into_iter().flatten();
            let secret = std::iter::once(property)
                .chain(choices)
                .any(|schema| schema.get("writeOnly").is_some());
            let keys = if secret { &mut self.secret } else { &mut self.plain };
            keys.insert(name.clone());
            keys.extend(former_names(property).map(str::to_owned));
        }
        match schema {
            Value::Object(entries) => entries.values().for_each(|entry| self.collect(entry)),
            Value::Array(items) => items.iter().for_each(|item| self.collect(item)),
            _ => {}
        }
    }

    fn is_secret(&self, key: &str) -> bool {
        sounds_secret(key) || self.secret.contains(last(key))
    }

    fn is_plain(&self, key: &str) -> bool {
        !self.is_secret(key) && self.plain.contains(last(key))
    }

    /// What of a broken file must not be shown of the line of the byte `at`. Nothing but names of keys tells there what a
    /// value is, and they may be broken too: a line is only shown if all of it is well known.
    pub(crate) fn hidden_around(&self, text: &str, at: usize) -> Option<Range<usize>> {
        let at = at.min(text.len().saturating_sub(1));
        let mut start = 0;
        let mut inside_secret = false;
        let mut multiline = false;
        for line in text.split_inclusive('\n') {
            let end = start + line.len();
            let separator = assignment(line).filter(|_| !multiline);
            if let Some(separator) = separator {
                inside_secret = self.is_secret(key(&line[..separator]));
                let value = line[separator + 1..].trim();
                let opens = ["\"\"\"", "'''", "|", ">"].iter().any(|mark| value.starts_with(mark));
                multiline = inside_secret && opens;
            }
            if end > at {
                let within = inside_secret && separator.is_none();
                return if within {
                    Some(start..end)
                } else {
                    self.hidden_in(line, start)
                };
            }
            start = end;
        }
        None
    }

    /// What of a line can't be shown; `start` is where the line begins.
    fn hidden_in(&self, line: &str, start: usize) -> Option<Range<usize>> {
        let lower = line.to_lowercase();
        let names_secret = SECRET_WORDS.iter().any(|word| lower.contains(word))
            || self.secret.iter().any(|key| lower.contains(&key.to_lowercase()));
        let mut parts = line.split(['{', '}', ',', '[', ']']);
        if !names_secret && (self.is_header(line) || parts.all(|part| self.is_harmless(part))) {
            return None;
        }
        let end = line.trim_end().len();
        let known = |separator: &usize| {
            let name = last(key(&line[..*separator]));
            self.plain.contains(name) || self.secret.contains(name)
        };
        let indent = |from: usize| from + line[from..].len() - line[from..].trim_start().len();
        let from = assignment(line)
            .filter(known)
            .map_or(indent(0), |separator| indent(separator + 1));
        (from < end).then(|| start + from..start + end)
    }

    fn is_header(&self, line: &str) -> bool {
        let names = line.trim().trim_start_matches('[').trim_end_matches(']');
        line.trim().starts_with('[') && names.split('.').all(|name| self.plain.contains(last(name)))
    }

    /// Whether a part of a line is no more than a known key with one plain value.
    fn is_harmless(&self, part: &str) -> bool {
        let harmless = |character: char| character.is_ascii_digit() || "+-.\"' \t\r\n".contains(character);
        if part.chars().all(harmless) {
            return true;
        }
        let separators = separators(part);
        let Some(separator) = separators.first().filter(|_| separators.len() == 1) else {
            return false;
        };
        let value = part[separator + 1..].trim();
        let quotes = value
            .chars()
            .filter(|character| matches!(character, '"' | '\''))
            .count();
        self.is_plain(key(&part[..*separator])) && quotes <= 2 && !value.contains(char::is_whitespace)
    }
}

/// The key in what stands before a separator.
fn key(text: &str) -> &str {
    text.trim().trim_start_matches("- ").trim().trim_matches(['"', '\''])
}

/// The last part of a dotted key.
fn last(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key).trim().trim_matches(['"', '\''])
}

/// Where in a line an `=`, or a `:` before white space or a value, stands.
fn separators(line: &str) -> Vec<usize> {
    let separates =
        |at: usize| line[at + 1..].is_empty() || line[at + 1..].starts_with([' ', '\t', '"', '\'', '\n', '\r']);
    let found = line.match_indices(['=', ':']);
    found
        .filter(|(at, sign)| *sign == "=" || separates(*at))
        .map(|(at, _)| at)
        .collect()
}

/// The byte of the separator after a key at the beginning of a line.
fn assignment(line: &str) -> Option<usize> {
    let separator = *separators(line).first()?;
    let named = |character: char| character.is_alphanumeric() || "_-.\"' ".contains(character);
    let key = key(&line[..separator]);
    (!key.is_empty() && key.chars().all(named)).then_some(separator)
}

#[cfg(test)]
mod tests {
    use plba_contracts::secret::MASK;
    use serde_json::json;

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

    #[track_caller]
    fn check(line: &str, shown: &str) {
        let schema = json!({ "properties": {
            "bot": { "properties": { "workers": {}, "password": {}, "pin": { "writeOnly": true } } },
        } });
        let hidden = KnownKeys::of(&schema).hidden_around(line, line.trim_end().len());
        let text = hidden.into_iter().fold(line.to_owned(), |mut text, range| {
            text.replace_range(range, MASK);
            text
        });
        assert_eq!(text, shown);
    }

    #[test]
    fn a_broken_file_shows_values_of_known_keys_only() {
        for shown in [
            "workers = \"four\n",
            "[bot\n",
            "{\"bot\": {\"workers\": 4, }\n",
            "workers = [1, 2\n",
        ] {
            check(shown, shown);
        }
        check("password = \"hunter2", "password = ***");
        check("pass\"hunter2\"\n", "***\n");
        check("pin = hunter2 x\n", "pin = ***\n");
        check("workers = 5 password = \"hunter2\n", "workers = ***\n");
        check("workers = 5 = \"hunter2\n", "workers = ***\n");
        check("workers = \"5 \"hunter2\"\n", "workers = ***\n");
        check("bot = { workers = 1, password = \"hunter2\"\n", "bot = ***\n");
        check("pin: |\n  hunter2\n", "pin: |\n***");
        check("pin = \"\"\"\nworkers = hunter2\n", "pin = \"\"\"\n***");
        check("- hunter2: [\n", "***\n");
        check("password[bot = \"hunter2\"\n", "***\n");
    }
}
