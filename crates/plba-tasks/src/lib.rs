//! An optional toolkit on top of the platform's `Worker`: sources that publish tasks, queues that keep them, handlers that
//! carry them out, and the ordinary workers that run all three. The platform itself knows none of this. Backends that
//! keep tasks outside the process are adapters; the reference implementation, in memory, is here.
//!
//! | concern | port | machinery |
//! |---|---|---|
//! | a task and its identity | [`task`] | |
//! | keeping tasks | [`queue`] | [`memory`] |
//! | a task as bytes | | [`envelope`] |
//! | carrying tasks out | [`handler`] | [`worker`], [`retry`] |
//! | carrying tasks out in batches | [`batch`] | |
//! | where tasks come from | [`source`] | [`intake`], [`source_worker`] |
//! | tasks by the clock | | [`schedule`] |
//! | what became of what came in | [`ledger`] | [`file_ledger`] |
//! | choosing a backend by URL | [`backend`] | |
//! | rules of queues in the configuration | | [`queue_rules`] |
//! | views and actions | | [`endpoints`] |

pub mod backend;
pub mod batch;
pub mod endpoints;
pub mod envelope;
pub mod file_ledger;
pub mod handler;
pub mod intake;
pub mod ledger;
pub mod memory;
mod panic;
pub mod queue;
pub mod queue_rules;
pub mod retry;
pub mod schedule;
pub mod source;
pub mod source_worker;
pub mod task;
pub mod worker;
