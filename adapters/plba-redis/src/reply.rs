//! Reading the answers of scripts.

use redis::Value;

use crate::failure::Failure;

/// An answer's parts, taken one after the other.
pub(crate) struct Parts {
    what: &'static str,
    values: std::vec::IntoIter<Value>,
}

impl Parts {
    pub(crate) fn new(what: &'static str, value: Value) -> Result<Self, Failure> {
        match value {
            Value::Array(values) => Ok(Self {
                what,
                values: values.into_iter(),
            }),
            _ => Err(Failure::answer(what)),
        }
    }

    pub(crate) fn value(&mut self) -> Result<Value, Failure> {
        self.values.next().ok_or_else(|| Failure::answer(self.what))
    }

    pub(crate) fn text(&mut self) -> Result<String, Failure> {
        let value = self.value()?;
        text(value).ok_or_else(|| Failure::answer(self.what))
    }

    pub(crate) fn integer(&mut self) -> Result<i64, Failure> {
        let value = self.value()?;
        integer(&value).ok_or_else(|| Failure::answer(self.what))
    }

    pub(crate) fn list(&mut self) -> Result<Vec<Value>, Failure> {
        match self.value()? {
            Value::Array(values) => Ok(values),
            _ => Err(Failure::answer(self.what)),
        }
    }

    pub(crate) fn parts(&mut self) -> Result<Self, Failure> {
        let what = self.what;
        self.value().and_then(|value| Self::new(what, value))
    }
}

pub(crate) fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        Value::Okay => Some(b"OK".to_vec()),
        _ => None,
    }
}

pub(crate) fn text(value: Value) -> Option<String> {
    bytes(value).and_then(|bytes| String::from_utf8(bytes).ok())
}

pub(crate) fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        Value::BulkString(bytes) => str::from_utf8(bytes).ok()?.parse().ok(),
        _ => None,
    }
}
