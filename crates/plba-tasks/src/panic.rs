//! The words of a caught panic.

use std::any::Any;

/// The message of a panic; payloads that are not text have none.
pub(crate) fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "with a payload that is not text".to_owned())
}
