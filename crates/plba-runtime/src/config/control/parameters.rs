//! What is said to the actions on the configuration, and what of it may be recorded.

use jiff::Timestamp;
use plba_contracts::config::TimeSpan;
use plba_contracts::control::{ControlError, Parameters};
use plba_contracts::secret::MASK;
use serde::Deserialize;
use serde_json::Value;

use crate::config::snapshot::Configuration;

/// The parameter `values`: `KEY=VALUE`, one or a list of them, or an object of keys with their values as JSON.
///
/// # Errors
/// It is something else.
pub fn assignments(
    parameters: &Parameters,
    configuration: &Configuration,
) -> Result<Vec<(String, Value)>, ControlError> {
    let read = |text: &Value| {
        let assignment = text.as_str().and_then(|text| configuration.assignment(text));
        // What can't be read may be a secret.
        assignment.ok_or_else(|| ControlError::Invalid("write KEY=VALUE, such as platform.logging.level=debug".into()))
    };
    match parameters.get("values") {
        Some(text @ Value::String(_)) => Ok(vec![read(text)?]),
        Some(Value::Array(texts)) if !texts.is_empty() => texts.iter().map(read).collect(),
        Some(Value::Object(values)) if !values.is_empty() => {
            Ok(values.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
        }
        _ => Err(ControlError::Invalid(
            "name what is to be set as KEY=VALUE, such as platform.logging.level=debug".into(),
        )),
    }
}

/// The parameter `keys`: one key or a list of them.
///
/// # Errors
/// It is something else.
pub fn keys(parameters: &Parameters) -> Result<Vec<String>, ControlError> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let keys = match parameters.get("keys") {
        Some(Value::Array(keys)) => keys.iter().map(text).collect(),
        Some(key) => text(key).map(|key| vec![key]),
        None => None,
    };
    let keys = keys.filter(|keys| !keys.is_empty());
    keys.ok_or_else(|| ControlError::Invalid("name a key, such as platform.logging.level".into()))
}

/// The parameters `for` and `until`: at most one of them.
///
/// # Errors
/// They can't be read, or both are given.
pub fn until(parameters: &Parameters, now: Timestamp) -> Result<Option<Timestamp>, ControlError> {
    let given = |name: &str| parameters.get(name).filter(|given| !given.is_null());
    let wrong = |sentence: &str, given: &Value| Err(ControlError::Invalid(format!("{sentence}, not {given}")));
    match (given("until"), given("for")) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(ControlError::Invalid(
            "either `until` or `for` is given, not both".into(),
        )),
        (Some(until), None) => match until.as_str().map(str::parse) {
            Some(Ok(moment)) => Ok(Some(moment)),
            _ => wrong(
                "until takes a moment with its zone, such as `2026-12-01T08:00:00Z` (RFC 3339)",
                until,
            ),
        },
        (None, Some(given)) => {
            let span = TimeSpan::deserialize(given).ok().filter(|span| !span.0.is_zero());
            match span.and_then(|span| now.checked_add(span.0).ok()) {
                Some(moment) => Ok(Some(moment)),
                None => wrong("for takes a span of time longer than 0, such as `1h 30m`", given),
            }
        }
    }
}

/// The parameter `why`.
///
/// # Errors
/// It is no text.
pub fn why(parameters: &Parameters) -> Result<Option<String>, ControlError> {
    match parameters.get("why").filter(|why| !why.is_null()) {
        None => Ok(None),
        Some(Value::String(why)) => Ok(Some(why.trim().to_owned()).filter(|why| !why.is_empty())),
        Some(other) => Err(ControlError::Invalid(format!("why takes a text, not {other}"))),
    }
}

/// The parameters with secrets masked, by the type of their keys.
pub fn recorded(mut parameters: Parameters, configuration: &Configuration) -> Parameters {
    let assignment = |text: &Value| -> Value {
        let read = text.as_str().and_then(|text| configuration.assignment(text));
        read.map_or(MASK.into(), |(key, value)| {
            let shown = match configuration.masked(&key, &value) {
                Value::String(text) => text,
                other => other.to_string(),
            };
            format!("{key}={shown}").into()
        })
    };
    if let Some(values) = parameters.get_mut("values") {
        *values = match &*values {
            Value::Array(texts) => texts.iter().map(assignment).collect(),
            Value::Object(entries) => {
                let shown = entries.iter();
                let shown = shown.map(|(key, value)| (key.clone(), configuration.masked(key, value)));
                Value::Object(shown.collect())
            }
            text => assignment(text),
        };
    }
    parameters
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn given(value: Value) -> Parameters {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn an_end_is_a_moment_or_a_span() {
        let now = Timestamp::UNIX_EPOCH;
        let end = |value| until(&given(value), now);
        assert_eq!(end(json!({})).unwrap(), None);
        assert_eq!(
            end(json!({ "for": "2h" })).unwrap(),
            Some("1970-01-01T02:00:00Z".parse().unwrap())
        );
        assert_eq!(
            end(json!({ "until": "2026-12-01T09:00:00+01:00" })).unwrap(),
            Some("2026-12-01T08:00:00Z".parse().unwrap())
        );
        for wrong in [
            json!({ "for": "0s" }),
            json!({ "for": "two hours" }),
            json!({ "for": "99999999999h" }),
            json!({ "until": "tomorrow" }),
            json!({ "until": "2026-12-01T08:00:00Z", "for": "1h" }),
        ] {
            assert!(matches!(end(wrong.clone()), Err(ControlError::Invalid(_))), "{wrong}");
        }
    }

    #[test]
    fn keys_are_one_or_many() {
        assert_eq!(keys(&given(json!({ "keys": "a.b" }))).unwrap(), ["a.b"]);
        assert_eq!(keys(&given(json!({ "keys": ["a", "b"] }))).unwrap(), ["a", "b"]);
        for wrong in [
            json!({}),
            json!({ "keys": [] }),
            json!({ "keys": [1] }),
            json!({ "keys": 1 }),
        ] {
            assert!(keys(&given(wrong)).is_err());
        }
    }
}
