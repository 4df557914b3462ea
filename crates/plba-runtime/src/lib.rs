//! The machinery that keeps the promises of `plba-contracts`: it runs modules and workers, and knows nothing of tasks,
//! queues, mail or any product. Its files mirror the contracts by name.
//!
//! | concern | module |
//! |---|---|
//! | one process from start to exit | [`manager`] (the order of steps), `process`, [`blueprint`], [`modules`], [`reload`], [`state`], [`run_journal`], [`previous_run`], [`notify`], [`timeline`], [`shutdown`] |
//! | workers | [`worker`] (builders), [`supervisor`], [`tuning`] (what operators set) |
//! | child processes | [`children`] |
//! | one instance of many | [`singleton`], [`lease`] (within one process) |
//! | configuration | [`config`], [`platform`] |
//! | logging | [`logging`] |
//! | health, metrics, traces, services | [`health`], [`metrics`], [`trace`], [`services`] |
//! | control plane | [`control`], [`views`], [`actions`], [`audit`], [`token`] |
//! | time | [`clock`] |

pub mod actions;
pub mod audit;
pub mod blueprint;
pub mod children;
pub mod clock;
pub mod config;
pub mod control;
pub mod health;
pub mod lease;
pub mod logging;
pub mod manager;
pub mod metrics;
pub mod modules;
pub mod notify;
pub mod panic;
pub mod platform;
pub mod previous_run;
mod process;
pub mod reload;
pub mod run_journal;
mod seconds;
pub mod services;
pub mod shutdown;
pub mod singleton;
pub mod state;
pub mod supervisor;
mod sync;
pub mod timeline;
pub mod token;
pub mod trace;
pub mod tuning;
pub mod views;
pub mod worker;

/// The log target of what is said about the process as a whole; the short name that people see before such lines.
const TARGET: &str = "plba";
