//! What a caught panic said.

use std::any::Any;

/// The message of a panic's payload, `panic: ` before it; payloads that are no text are named as such.
pub fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    format!("panic: {}", text.unwrap_or("with a payload that is no text"))
}
