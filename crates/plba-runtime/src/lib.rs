//! The machinery that keeps the promises of `plba-contracts`: it runs modules and workers, and knows nothing of tasks,
//! queues, mail or any product. Its files mirror the contracts by name.
//!
//! | concern | module |
//! |---|---|
//! | one process from start to exit | [`manager`], [`platform`], [`state`], [`shutdown`] |
//! | workers | [`worker`] (builders), [`supervisor`] |
//! | configuration | [`config`] |
//! | logging | [`logging`] |
//! | health, traces, control plane, services | [`health`], [`trace`], [`control`], [`services`] |
//! | time | [`clock`] |

pub mod audit;
pub mod clock;
pub mod config;
pub mod control;
pub mod health;
pub mod logging;
pub mod panic;
pub mod services;
pub mod state;
pub mod supervisor;
pub mod trace;
pub mod worker;
