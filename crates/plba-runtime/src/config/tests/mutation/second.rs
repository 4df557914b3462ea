//! A second reading of a file, by parsers that share nothing with ours: `basic-toml` and `libyaml-safer`, a port of libyaml, with
//! the rules of YAML's core schema written down once more; for JSON `serde_json`'s own tree.

use std::collections::HashMap;
use std::panic::catch_unwind;
use std::path::Path;

use libyaml_safer::{EventData, Parser, ScalarStyle};
use serde_json::{Map, Number, Value};

/// How deep values are nested at the most.
const MAXIMUM_DEPTH: usize = 100;

pub(super) fn read(path: &Path, text: &str) -> Result<Value, String> {
    let extension = path.extension().unwrap().to_str().unwrap();
    match extension {
        "toml" => basic_toml::from_str(text).map_err(|error| error.to_string()),
        "json" => serde_json::from_str(text).map_err(|error| error.to_string()),
        // It panics where a text ends within a block of lines.
        _ => catch_unwind(|| Yaml::read(text)).unwrap_or_else(|_| Err("a panic".to_owned())),
    }
}

struct Yaml {
    events: std::vec::IntoIter<EventData>,
    anchors: HashMap<String, Value>,
}

impl Yaml {
    fn read(text: &str) -> Result<Value, String> {
        let mut input = text.as_bytes();
        let mut parser = Parser::new();
        parser.set_input_string(&mut input);
        let mut events = Vec::new();
        for event in parser {
            events.push(event.map_err(|error| error.to_string())?.data);
        }
        let mut yaml = Self {
            events: events.into_iter(),
            anchors: HashMap::new(),
        };
        let mut root = Value::Null;
        let mut documents = 0;
        while let Some(event) = yaml.events.next() {
            match event {
                EventData::DocumentStart { .. } => documents += 1,
                EventData::StreamStart { .. } | EventData::StreamEnd | EventData::DocumentEnd { .. } => {}
                event => root = yaml.value(event, 0)?,
            }
        }
        match root {
            _ if documents > 1 => Err("several documents".to_owned()),
            Value::Null => Ok(Value::Object(Map::new())),
            root => Ok(root),
        }
    }

    fn next(&mut self) -> Result<EventData, String> {
        self.events.next().ok_or_else(|| "too early an end".to_owned())
    }

    fn value(&mut self, event: EventData, depth: usize) -> Result<Value, String> {
        if depth > MAXIMUM_DEPTH {
            return Err("too deep".to_owned());
        }
        let (anchor, value) = match event {
            EventData::Alias { anchor } => {
                let found = self.anchors.get(&anchor).cloned();
                return found.ok_or_else(|| "an unknown alias".to_owned());
            }
            EventData::Scalar {
                anchor,
                tag,
                value,
                style,
                ..
            } => (anchor, scalar(&value, style, tag.as_deref())?),
            EventData::SequenceStart { anchor, tag, .. } => {
                collection(tag.as_deref(), "seq")?;
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        EventData::SequenceEnd => break,
                        event => items.push(self.value(event, depth + 1)?),
                    }
                }
                (anchor, Value::Array(items))
            }
            EventData::MappingStart { anchor, tag, .. } => {
                collection(tag.as_deref(), "map")?;
                let mut entries = Map::new();
                loop {
                    let key = match self.next()? {
                        EventData::MappingEnd => break,
                        // `&a: 1` anchors a number as `a:` (YAML 1.2.2, production 102); here `a` anchors an empty key.
                        EventData::Scalar {
                            value, anchor: Some(_), ..
                        } if value.is_empty() => return Err("an anchor that ends with a colon".to_owned()),
                        EventData::Scalar { value, .. } => value,
                        _ => return Err("a key that is no text".to_owned()),
                    };
                    let event = self.next()?;
                    let value = self.value(event, depth + 1)?;
                    if entries.insert(key, value).is_some() {
                        return Err("a key twice".to_owned());
                    }
                }
                (anchor, Value::Object(entries))
            }
            _ => return Err("an event out of place".to_owned()),
        };
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor, value.clone());
        }
        Ok(value)
    }
}

fn collection(tag: Option<&str>, name: &str) -> Result<(), String> {
    match tag {
        None | Some("!") => Ok(()),
        Some(tag) if tag == format!("tag:yaml.org,2002:{name}") => Ok(()),
        Some(tag) => Err(format!("the tag {tag}")),
    }
}

/// A scalar by chapter 10.3.2 of YAML 1.2.2, the core schema.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&str>) -> Result<Value, String> {
    match tag {
        Some("!" | "tag:yaml.org,2002:str") => return Ok(text.into()),
        Some(tag) => return Err(format!("the tag {tag}")),
        None if style != ScalarStyle::Plain => return Ok(text.into()),
        None => {}
    }
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => true.into(),
        "false" | "False" | "FALSE" => false.into(),
        text => number(text).map_or_else(|| text.into(), Value::Number),
    })
}

fn number(text: &str) -> Option<Number> {
    let digits = |text: &str, radix: u32| !text.is_empty() && text.chars().all(|digit| digit.is_digit(radix));
    for (prefix, radix) in [("0o", 8), ("0x", 16)] {
        if let Some(rest) = text.strip_prefix(prefix) {
            return digits(rest, radix)
                .then(|| u64::from_str_radix(rest, radix).ok())?
                .map(Number::from);
        }
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits(unsigned, 10) {
        let whole = text.parse::<i64>().ok().map(Number::from);
        let whole = whole.or_else(|| text.parse::<u64>().ok().map(Number::from));
        return whole.or_else(|| Number::from_f64(text.parse().ok()?));
    }
    // [-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let optional = |text: &str| text.is_empty() || digits(text, 10);
    let mantissa = optional(before) && optional(after) && !(before.is_empty() && after.is_empty());
    match mantissa && exponent.is_none_or(|exponent| digits(exponent, 10)) {
        true => Number::from_f64(text.parse().ok()?),
        false => None,
    }
}
