//! The transport and the client on real sockets: who passes, what is refused, how it ends. Malformed requests are written
//! by hand; a surface that answers from memory stands behind.

mod calls;
mod client;
mod ending;
mod gate;
mod limits;
#[expect(clippy::unwrap_used, reason = "a panic in a test is the report")]
mod support;
#[expect(clippy::unwrap_used, reason = "a panic in a test is the report, in helpers too")]
mod webhook;
#[expect(clippy::unwrap_used, reason = "a panic in a test is the report, in helpers too")]
mod webhook_tls;
