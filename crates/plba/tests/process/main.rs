//! The platform as operators meet it: the examples run as processes of their own, and are watched, asked and ended from
//! outside. What single parts promise is tested beside them.
#![expect(clippy::unwrap_used, reason = "a panic in a test is its report, in helpers too")]

mod application;
mod children;
mod clockwork;
mod dead_letters;
mod deploy;
mod faults;
mod hangs;
mod last_good;
mod metrics;
mod operators;
mod overrides;
mod previous_run;
mod pulse;
mod service_manager;
mod stops;
mod tokens;
mod torture;
mod tuning;
mod turns;
