//! The control plane over HTTP/1.1: [`HttpTransport`] serves it, [`HttpClient`] asks it. And, on a listener of its own, a
//! source of tasks: signed [`webhook`]s.
//!
//! What there is to see and do on the control plane,
//! who may and what is audited live behind [`ControlSurface`](plba_contracts::control::ControlSurface), not here; nor
//! does TLS, which belongs to a proxy in front.
//!
//! | request | answer |
//! |---|---|
//! | `GET /livez`, `GET /readyz` | one word, 200 or 503; open to anybody |
//! | `GET /metrics` | every metric, as text for Prometheus |
//! | `GET /api/v1/status`, `workers`, `health` | the views of those names |
//! | `GET /api/v1/views`, `GET /api/v1/actions` | what there is, with parameters and schemas |
//! | `GET /api/v1/views/{name}?parameter=value` | the view's answer |
//! | `POST /api/v1/actions/{name}` with a JSON object | the action's answer |
//!
//! Everything but the probes needs `Authorization: Bearer TOKEN`. A refusal is a JSON object with `error` (a word for
//! programs), `message` (a sentence for people) and, where something failed inside, the `id` to look for in the log.

#![warn(missing_docs)]

mod body;
mod client;
mod connection;
mod exposition;
mod failure;
mod gate;
mod host;
mod limits;
mod listen;
mod parameters;
mod places;
mod routes;
mod stall;
mod transport;
pub mod webhook;

pub use client::{ClientError, HttpClient};
pub use limits::{InvalidLimits, Limits};
pub use listen::{ListenError, is_loopback};
pub use routes::{ROUTES, Route};
pub use transport::HttpTransport;
