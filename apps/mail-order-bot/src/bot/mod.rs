//! The module that makes the business a service: its settings, its services, its workers and views. What an order is
//! lives in the business modules beside this one.
//!
//! ```text
//!            mail source          orders           order workers            relay          replies       reply worker
//!  mailbox ──────────────► queue ─────────► desk + store (+ outbox) ──────────────► queue ──────────► outbox Maildir
//!     ▲                                            │
//!     └──────── \Seen, by the source's own worker ─┘ completion
//! ```

pub mod explain;
pub mod export;
pub mod orders;
mod parameters;
pub mod relay;
pub mod replies;
mod sent;
pub mod services;
pub mod settings;
pub mod views;
pub mod webhooks;

pub use module::MailOrderBot;

mod module;
