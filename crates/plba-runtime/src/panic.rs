//! Panics: what a caught one said, and that each is told on the log, in the form that the log has.

use std::any::Any;
use std::panic::PanicHookInfo;

use tracing::error;

use crate::TARGET;

/// The message of a panic's payload, `panic: ` before it; payloads that are no text are named as such.
pub fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    format!("panic: {}", text.unwrap_or("with a payload that is no text"))
}

/// From now on panics are told on the log, where they happened, and not as free text on standard error between its
/// lines. Whoever catches the panic tells what follows from it.
pub fn tell_on_the_log() {
    std::panic::set_hook(Box::new(|panic: &PanicHookInfo<'_>| {
        let place = panic.location().map(ToString::to_string);
        let thread = std::thread::current().name().map(str::to_owned);
        let message = panic.payload_as_str().unwrap_or("with a payload that is no text");
        error!(target: TARGET, place, thread, "panic: {message}");
    }));
}
