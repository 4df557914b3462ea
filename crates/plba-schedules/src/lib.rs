//! Supervision compiled a second time, with locks, atomics, channels, tasks and time of shuttle's, so that it is shuttle
//! who decides at each of them who goes on. Here live those primitives, and the scenarios that are run under very many such
//! schedules; the sources of supervision itself are the runtime's. `cargo xtask shuttle` runs more of them.

// The tests among these sources are the runtime's. Those of this crate live in `tests`, which see it without them.
#![cfg(not(test))]

mod children;
mod probe;
pub mod scenario;
#[path = "../../plba-runtime/src/seconds.rs"]
mod seconds;
#[allow(dead_code, reason = "some of it only the runtime asks for")]
#[path = "../../plba-runtime/src/supervisor/mod.rs"]
pub mod supervisor;
pub mod sync;

/// What supervision asks of the runtime's tracing.
mod trace {
    /// There are no spans here.
    pub(crate) fn innermost(_: &tracing::Id) -> Option<String> {
        None
    }
}
