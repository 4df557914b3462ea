//! Secrets as a type: a value that can be read on purpose only, and never prints, serialises or stays in memory after
//! its last owner. Where secrets come from is the configuration's business.

use std::cell::Cell;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What stands in place of a secret wherever it would be shown.
pub const MASK: &str = "***";

/// A value that must not be shown: a password, a token.
///
/// `Debug`, `Display` and `Serialize` give [`MASK`]; only [`expose`](Self::expose) gives the value, so that every place
/// that reads a secret can be found by searching for that word. The memory is cleared when it is dropped.
///
/// ```
/// use plba_contracts::secret::Secret;
///
/// let password = Secret::from("hunter2");
/// assert_eq!(format!("{password:?} {password}"), "*** ***");
/// assert_eq!(password.expose(), "hunter2");
/// ```
#[derive(Clone, Default)]
pub struct Secret(SecretString);

impl Secret {
    /// The value itself. Hand it to the one call that needs it, and keep no copy.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl From<&str> for Secret {
    fn from(value: &str) -> Self {
        Self(SecretString::from(value))
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(SecretString::from(value))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match TOLD_APART.get() {
            false => serializer.serialize_str(MASK),
            true => serializer.serialize_u64(mark_of(self.expose())),
        }
    }
}

thread_local! {
    /// Whether what is written on this thread is only to be compared.
    static TOLD_APART: Cell<bool> = const { Cell::new(false) };
}

/// Within `work`, and on its thread, secrets are written as numbers that tell them apart: a keyed hash, whose key is this
/// process's own. The values themselves are not written here either.
pub(crate) fn told_apart<T>(work: impl FnOnce() -> T) -> T {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            TOLD_APART.set(self.0);
        }
    }
    let _before = Before(TOLD_APART.replace(true));
    work()
}

fn mark_of(secret: &str) -> u64 {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    KEY.hash_one(secret)
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "password", "writeOnly": true })
    }
}

/// Words in a key that say its value is a secret.
pub const SECRET_WORDS: [&str; 8] = [
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
pub fn sounds_secret(key: &str) -> bool {
    let key = key.to_lowercase().replace('-', "_");
    let points = ["_file", "_path", "_env"].iter().any(|ending| key.ends_with(ending));
    !points && SECRET_WORDS.iter().any(|word| key.contains(word))
}

/// Masks the password in every `scheme://user:password@host` of a text, and values of secret parameters in queries.
pub fn without_credentials(text: &str) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_but_never_written() {
        let secret: Secret = serde_json::from_str("\"hunter2\"").unwrap();
        assert_eq!(secret.expose(), "hunter2");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"***\"");
    }
}
