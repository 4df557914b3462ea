//! Reading parameters: what the command line gives as text comes as text, number or truth value from programs.

use jiff::Timestamp;
use plba_contracts::control::{ControlError, Parameters};
use serde_json::Value;

use crate::queue::Cursor;
use crate::task::TaskId;

/// How many rows a page has unless told otherwise.
const PAGE: usize = 100;

/// How many ids one call may name.
const IDS: usize = 10_000;

pub(super) fn invalid(message: impl Into<String>) -> ControlError {
    ControlError::Invalid(message.into())
}

/// A text; an empty one counts as none.
pub(super) fn text<'a>(parameters: &'a Parameters, name: &str) -> Result<Option<&'a str>, ControlError> {
    match parameters.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        Some(other) => Err(invalid(format!("{name} is a text, not {other}"))),
    }
}

/// The size of a page, 1 to 1,000.
pub(super) fn limit(parameters: &Parameters) -> Result<usize, ControlError> {
    let Some(value) = parameters.get("limit") else {
        return Ok(PAGE);
    };
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
    let number = number.and_then(|number| usize::try_from(number).ok());
    number
        .filter(|limit| (1..=1_000).contains(limit))
        .ok_or_else(|| invalid(format!("limit is a whole number from 1 to 1,000, not {value}")))
}

pub(super) fn cursor(parameters: &Parameters) -> Result<Option<Cursor>, ControlError> {
    Ok(text(parameters, "cursor")?.map(|cursor| Cursor(cursor.to_owned())))
}

pub(super) fn flag(parameters: &Parameters, name: &str) -> Result<bool, ControlError> {
    match parameters.get(name) {
        None | Some(Value::Bool(false)) => Ok(false),
        Some(Value::Bool(true)) => Ok(true),
        Some(Value::String(word)) if word.is_empty() || word == "true" => Ok(true),
        Some(Value::String(word)) if word == "false" => Ok(false),
        Some(other) => Err(invalid(format!("{name} is true or false, not {other}"))),
    }
}

/// The bare words of a call.
pub(super) fn words(parameters: &Parameters, name: &str, what: &str) -> Result<Vec<String>, ControlError> {
    let words = match parameters.get(name) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(words)) => words
            .iter()
            .map(|word| {
                let text = word.as_str().map(str::to_owned);
                text.ok_or_else(|| invalid(format!("{what} is a text, not {word}")))
            })
            .collect::<Result<_, _>>()?,
        Some(other) => return Err(invalid(format!("{name} are a list of texts, not {other}"))),
    };
    if words.len() > IDS {
        return Err(invalid(format!(
            "{} {name} are too many for one call, {IDS} will do",
            words.len()
        )));
    }
    Ok(words)
}

pub(super) fn ids(parameters: &Parameters) -> Result<Vec<TaskId>, ControlError> {
    Ok(words(parameters, "ids", "an id")?
        .into_iter()
        .map(TaskId::from)
        .collect())
}

/// A moment such as `2026-11-22T06:30:00Z`.
pub(super) fn moment(parameters: &Parameters, name: &str) -> Result<Option<Timestamp>, ControlError> {
    let Some(text) = text(parameters, name)? else {
        return Ok(None);
    };
    let unfit = || {
        invalid(format!(
            "{name} is a moment such as 2026-11-22T06:30:00Z, not \"{text}\""
        ))
    };
    text.parse().map(Some).map_err(|_| unfit())
}
