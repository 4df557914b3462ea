//! mail-order-bot's business: reading order mails, checking them against the catalogue, storing and answering them.
//!
//! What is *not* here: tasks, queues, workers, configuration files. The composition root (`main.rs`) hands raw messages
//! to [`OrderDesk::process`](desk::OrderDesk::process) and relays the [outbox](store::Outbox). Everything in this
//! library is blocking and deterministic: time is a parameter, there is no randomness.
//!
//! | module | noun |
//! |---|---|
//! | [`authentication`] | whether a message comes from where it says |
//! | [`domain`] | orders, customers, catalogue, money |
//! | [`formula`] | what may stand in a cell of an export |
//! | [`reading`] | a message's bytes → who wrote it, and the order lines in it |
//! | [`checking`] | order lines against the catalogue → accepted or rejected, with reasons |
//! | [`intake`] | both together: a mail that was read → a checked order, or why it is none |
//! | [`store`] | orders, message outcomes and the outbox in one SQLite file |
//! | [`reply`] | the answer as a mail, and who must not be answered |
//! | [`desk`] | the one entry point that puts these together |
//! | [`bot`] | the module: settings, services, workers, views |
//! | [`explain`](mod@explain) | what is recognised in a mail and why, for people |
//! | [`samples`] | sample mails, catalogue and profiles inside the program |

pub mod authentication;
pub mod bot;
pub mod checking;
pub mod desk;
pub mod domain;
pub mod explain;
pub mod formula;
pub mod intake;
pub mod reading;
pub mod reply;
pub mod samples;
pub mod store;

#[cfg(test)]
mod scratch;

pub use desk::{DeskOptions, OrderDesk, ProcessError, Processed};
