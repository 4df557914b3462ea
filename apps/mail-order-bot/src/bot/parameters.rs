//! The parameters of views and actions, read and checked. Each fault names the parameter and what would do.

use jiff::Timestamp;
use plba::control::{ControlError, Parameters};
use serde_json::Value;

use crate::domain::{OrderState, OrderStatus};

/// Most words that one call takes.
pub(super) const MAX_WORDS: usize = 1000;

pub(super) fn invalid(message: impl Into<String>) -> ControlError {
    ControlError::Invalid(message.into())
}

pub(super) fn text(parameters: &Parameters, name: &str) -> Option<String> {
    let value = parameters.get(name)?;
    Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

pub(super) fn number(parameters: &Parameters, name: &str, most: u64) -> Result<Option<u64>, ControlError> {
    let Some(text) = text(parameters, name) else {
        return Ok(None);
    };
    match text.parse::<u64>() {
        Ok(number) if number <= most => Ok(Some(number)),
        _ => Err(invalid(format!("{name} takes a number from 0 to {most}, not {text:?}"))),
    }
}

pub(super) fn flag(parameters: &Parameters, name: &str) -> bool {
    parameters
        .get(name)
        .is_some_and(|value| *value == Value::Bool(true) || *value == "true")
}

pub(super) fn time(parameters: &Parameters, name: &str) -> Result<Option<Timestamp>, ControlError> {
    let Some(text) = text(parameters, name) else {
        return Ok(None);
    };
    let read = text.parse().or_else(|_| format!("{text}T00:00:00Z").parse());
    let wrong = |_| {
        invalid(format!(
            "{name} takes a time such as 2026-11-22T08:00:00Z or 2026-11-22, not {text:?}"
        ))
    };
    read.map(Some).map_err(wrong)
}

pub(super) fn words(parameters: &Parameters, name: &str) -> Result<Vec<String>, ControlError> {
    let words = match parameters.get(name) {
        None => return Ok(Vec::new()),
        Some(Value::Array(words)) => words.clone(),
        Some(word) => vec![word.clone()],
    };
    if words.len() > MAX_WORDS {
        return Err(invalid(format!("at most {MAX_WORDS} {name} can be named at once")));
    }
    let word = |word: &Value| word.as_str().map_or_else(|| word.to_string(), str::to_owned);
    Ok(words.iter().map(word).collect())
}

/// The words as numbers from 1.
pub(super) fn numbers(parameters: &Parameters, name: &str) -> Result<Vec<i64>, ControlError> {
    let number = |word: String| match word.parse::<i64>() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(invalid(format!("{word:?} is no number of the list"))),
    };
    words(parameters, name)?.into_iter().map(number).collect()
}

pub(super) fn order_status(parameters: &Parameters) -> Result<Option<OrderStatus>, ControlError> {
    let Some(word) = text(parameters, "status") else {
        return Ok(None);
    };
    let status = OrderStatus::from_word(&word);
    let wrong = || {
        invalid(format!(
            "status takes accepted, partly_accepted or rejected, not {word:?}"
        ))
    };
    status.map(Some).ok_or_else(wrong)
}

pub(super) fn order_state(parameters: &Parameters) -> Result<Option<OrderState>, ControlError> {
    let Some(word) = text(parameters, "state") else {
        return Ok(None);
    };
    let state = OrderState::from_word(&word);
    let wrong = || {
        invalid(format!(
            "state takes open, exported, shipped or cancelled, not {word:?}"
        ))
    };
    state.map(Some).ok_or_else(wrong)
}
