//! Parameters on the wire: a query string for views, a JSON object for actions. What a parameter means and which ones
//! there are is the endpoint's business.

use std::fmt::{self, Write};

use axum::extract::Query;
use axum::http::Uri;
use plba_contracts::control::{CatalogueEntry, ParameterKind, Parameters};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::Value;

/// The most parameters that a query may have.
const MOST_PAIRS: usize = 256;

/// Reads the parameters of a view, as the endpoint's `entry` says it takes them: words are a list even if there is only
/// one, a flag is true or false (`?all` and `?all=true` are the same), and everything else is a string, or a list of
/// strings if it comes more than once.
pub(crate) fn from_query(uri: &Uri, entry: Option<&CatalogueEntry>) -> Result<Parameters, String> {
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|_| "the query string can't be read; write name=value&name=value".to_owned())?;
    if pairs.len() > MOST_PAIRS {
        return Err(format!("at most {MOST_PAIRS} parameters can be given"));
    }
    let mut parameters = Parameters::new();
    for (name, text) in pairs {
        // Decoding replaces what is no UTF-8; such a value is not what the caller meant, so it is refused.
        if [&name, &text]
            .iter()
            .any(|text| text.contains(['\0', char::REPLACEMENT_CHARACTER]))
        {
            return Err("the query string has a character that is not allowed: NUL, or bytes that are no UTF-8".into());
        }
        let known = entry.and_then(|entry| entry.parameters.iter().find(|known| known.name == name));
        let value = match known.map(|known| known.kind) {
            Some(ParameterKind::Flag) => Value::Bool(flag(&name, &text)?),
            Some(ParameterKind::Words) if !parameters.contains_key(&name) => Value::Array(vec![text.into()]),
            Some(ParameterKind::Words | ParameterKind::Value) | None => Value::String(text),
        };
        match parameters.get_mut(&name) {
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
            None => drop(parameters.insert(name, value)),
        }
    }
    Ok(parameters)
}

fn flag(name: &str, text: &str) -> Result<bool, String> {
    match text {
        "" | "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("{name} is a flag: write {name}, {name}=true or {name}=false")),
    }
}

/// Reads the parameters of an action: a JSON object, or nothing at all for none.
pub(crate) fn from_json(body: &[u8]) -> Result<Parameters, String> {
    if body.is_empty() {
        return Ok(Parameters::new());
    }
    serde_json::from_slice::<Object>(body)
        .map(|object| object.0)
        .map_err(|error| format!("the body is not a JSON object of parameters: {error}"))
}

/// Writes the parameters of a view; `Err` for a value that a query string can't carry.
pub(crate) fn to_query(parameters: &Parameters) -> Result<String, String> {
    let mut query = String::new();
    for (name, value) in parameters {
        match value {
            Value::Array(values) => values.iter().try_for_each(|value| push(&mut query, name, value))?,
            value => push(&mut query, name, value)?,
        }
    }
    Ok(query)
}

fn push(query: &mut String, name: &str, value: &Value) -> Result<(), String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            return Err(format!(
                "{name} must be a text, a number, true or false, or a list of those"
            ));
        }
    };
    if !query.is_empty() {
        query.push('&');
    }
    encode(query, name);
    query.push('=');
    encode(query, &text);
    Ok(())
}

/// Percent-encodes all but the unreserved characters (RFC 3986 section 2.3).
fn encode(query: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            query.push(char::from(byte));
        } else {
            // Writing to a string can't fail.
            let _ = write!(query, "%{byte:02X}");
        }
    }
}

/// A JSON object whose names are all different: of two values for one name, either may be what was meant.
struct Object(Parameters);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object such as {\"name\": \"value\"}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
        let mut parameters = Parameters::new();
        while let Some(name) = map.next_key::<String>()? {
            if parameters.contains_key(&name) {
                return Err(A::Error::custom(format_args!("\"{name}\" is given twice")));
            }
            parameters.insert(name, map.next_value()?);
        }
        Ok(Object(parameters))
    }
}

#[cfg(test)]
mod tests {
    use plba_contracts::control::{Parameter, Role};
    use serde_json::json;

    use super::*;

    fn read(query: &str) -> Result<Value, String> {
        let entry = CatalogueEntry {
            name: "orders".into(),
            summary: String::new(),
            changes: false,
            role: Role::Viewer,
            parameters: [("words", ParameterKind::Words), ("all", ParameterKind::Flag)]
                .map(|(name, kind)| Parameter { name, help: "", kind })
                .to_vec(),
            answer: Value::Null,
        };
        let uri = Uri::try_from(format!("/x?{query}")).unwrap();
        from_query(&uri, Some(&entry)).map(Value::Object)
    }

    #[test]
    fn a_query_becomes_strings_and_lists() {
        let cases = [
            ("", json!({})),
            ("a=1&b=x%20y+z", json!({"a": "1", "b": "x y z"})),
            ("a=1&b=2&a=3&a=", json!({"a": ["1", "3", ""], "b": "2"})),
            ("words=one", json!({"words": ["one"]})),
            ("words=one&words=two", json!({"words": ["one", "two"]})),
            ("flag", json!({"flag": ""})),
            ("all", json!({"all": true})),
            ("all=false", json!({"all": false})),
            ("a=%26%3D", json!({"a": "&="})),
        ];
        for (query, expected) in cases {
            assert_eq!(read(query), Ok(expected), "{query}");
        }
        for refused in ["all=yes", "a=%00", "a=%ff", "%c3=1", &"a&".repeat(MOST_PAIRS + 1)] {
            assert!(read(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let parameters = json!({"a&b": "ü =%+", "n": 5, "all": true, "words": ["one"], "list": ["x", "y"], "none": []});
        let Value::Object(parameters) = parameters else {
            unreachable!()
        };
        let query = to_query(&parameters).unwrap();
        let expected = json!({"a&b": "ü =%+", "n": "5", "all": true, "words": ["one"], "list": ["x", "y"]});
        assert_eq!(read(&query), Ok(expected));
        for unfit in [json!({"a": null}), json!({"a": {"b": 1}}), json!({"a": [[1]]})] {
            assert!(to_query(unfit.as_object().unwrap()).is_err(), "{unfit}");
        }
    }

    #[test]
    fn a_body_that_is_no_plain_object_is_refused_with_its_place() {
        assert_eq!(from_json(b"").unwrap(), Parameters::new());
        assert_eq!(Value::Object(from_json(b"{\"a\": [1]}").unwrap()), json!({"a": [1]}));
        let deep = format!("{{\"a\": {}", "[".repeat(30_000));
        let cases: [(&[u8], &str); 7] = [
            (b"[]", "an object such as"),
            (b"null", "an object such as"),
            (b"{\"a\": 1, \"a\": 2}", "\"a\" is given twice"),
            (b"{\"a\": NaN}", "line 1 column 7"),
            (b"{\"a\": \"\xff\"}", "line 1 column"),
            (b"{} {}", "trailing characters"),
            (deep.as_bytes(), "recursion limit"),
        ];
        for (body, says) in cases {
            let error = from_json(body).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
