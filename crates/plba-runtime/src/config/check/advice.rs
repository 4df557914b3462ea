//! What to write in place of a value that can't be used: the same value in the right type where that is plain to see, the
//! nearest choice, an example. Never a secret's value.

use serde_json::Value;

use super::schema::SchemaView;
use super::sections::nearest;
use crate::config::read::tree::{Content, Node};
use crate::config::tell::show::inline;

/// What to write for a key that is missing.
pub(super) fn missing(field: &str, view: &SchemaView<'_>) -> String {
    match view.type_name().as_str() {
        "anything" => format!("add `{field}`"),
        "true or false" => format!("add `{field}`, which is true or false"),
        choices if choices.starts_with("one of") => format!("add `{field}`, which is {choices}"),
        name => format!("add `{field}`, a {name}"),
    }
}

/// What to write in place of a value that the type refuses; `None` where nothing better is known than what the fault says.
pub(super) fn wrong(node: &Node, view: &SchemaView<'_>) -> Option<String> {
    if node.secret || view.is_secret() {
        return (!matches!(&node.content, Content::Scalar(Value::String(_))))
            .then(|| "write the secret as text".to_owned());
    }
    let Content::Scalar(value) = &node.content else {
        return None;
    };
    // A scalar looks the same in all three formats, and so does a list of them.
    let written = |value: &Value| format!("`{}`", inline(value));
    let choices = view.choices();
    if !choices.is_empty() {
        let names: Vec<String> = choices
            .iter()
            .filter_map(|choice| choice.as_str())
            .map(str::to_owned)
            .collect();
        return nearest(value.as_str()?, &names).map(|choice| format!("did you mean `{choice}`?"));
    }
    let types = view.types();
    match value {
        Value::Number(_) | Value::Bool(_) | Value::String(_)
            if types.contains("array") && fits(value, &view.child("0")) =>
        {
            Some(format!(
                "put it in brackets: {}",
                written(&Value::Array(vec![value.clone()]))
            ))
        }
        Value::String(text) if !types.contains("string") => {
            let meant = meant(text).filter(|value| fits(value, view))?;
            let quotes = if meant.is_boolean() {
                "write"
            } else {
                "leave out the quotes:"
            };
            Some(format!("{quotes} {}", written(&meant)))
        }
        Value::Number(_) | Value::Bool(_) if types.contains("string") && view.has_format("time-span") => Some(format!(
            "add the unit, such as {}",
            written(&Value::from(format!("{value}s")))
        )),
        Value::Number(_) | Value::Bool(_) if types.contains("string") => Some(format!(
            "put it in quotes: {}",
            written(&Value::from(value.to_string()))
        )),
        _ => None,
    }
}

/// The number or choice that a text stands for.
fn meant(text: &str) -> Option<Value> {
    let text = text.trim();
    let number = || {
        let digits: String = text.chars().filter(|character| !"_,' ".contains(*character)).collect();
        let whole = digits.parse::<i64>().ok().map(Value::from);
        whole.or_else(|| {
            digits
                .parse::<f64>()
                .ok()
                .filter(|number| number.is_finite())
                .map(Value::from)
        })
    };
    match text.to_lowercase().as_str() {
        "true" | "yes" | "on" => Some(true.into()),
        "false" | "no" | "off" => Some(false.into()),
        _ => number(),
    }
}

/// Whether a value is of a type that the schema names.
fn fits(value: &Value, view: &SchemaView<'_>) -> bool {
    let types = view.types();
    match value {
        Value::Bool(_) => types.contains("boolean"),
        Value::Number(number) => types.contains("number") || (types.contains("integer") && !number.is_f64()),
        Value::String(_) => types.contains("string"),
        _ => false,
    }
}
