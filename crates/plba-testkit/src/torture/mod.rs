//! Torture of task queues that outlive their processes: children work on one queue and are killed, at every failpoint or at
//! random moments, and a ledger that no death can falsify tells afterwards what was lost, done twice or done wrongly.
//!
//! A backend's tests bring a [`Subject`]: how a child opens the queue, and a fresh place for one. The child is the test
//! binary itself, run again with one test and the orders in its environment, so that nothing more has to be built. What a
//! child does is in `child` and `workload`, what is written down in `record`, what that means in `judge`, where a process
//! can be hit in [`failpoint`](crate::failpoint); `kills`, `sites`, `cuts` and `network` are the kinds of torture, and `server`
//! is what those add whose server can be killed too.
//!
//! ```no_run
//! use plba_testkit::torture::{Kills, Place, Subject, kills};
//!
//! fn subject() -> Subject {
//!     Subject::new("file", "torture::child", || Place::new("file:/tmp/queue?lease=1", ()))
//! }
//!
//! #[test]
//! fn child() {
//!     plba_testkit::torture::child(|location, clock| async move { open(&location, clock).await });
//! }
//!
//! #[test]
//! fn kills_at_random_moments_lose_nothing() {
//!     kills(&subject(), &Kills::from_environment(100), None);
//! }
//! # async fn open(_: &plba_contracts::config::Location, _: std::sync::Arc<dyn plba_contracts::clock::Clock>)
//! # -> Result<std::sync::Arc<dyn plba_tasks::queue::TaskQueue>, plba_contracts::BoxError> { unimplemented!() }
//! ```

#![allow(
    clippy::unwrap_used,
    reason = "a torture that can't go on ends with a panic, which is the report"
)]

mod child;
mod cuts;
mod judge;
mod kills;
mod machine;
mod network;
mod orders;
mod planted;
mod record;
mod report;
mod server;
mod sites;
mod subject;
mod watched;
mod workload;

pub use self::child::child;
pub use self::cuts::{CutReport, Reach, Verb, cuts};
pub use self::judge::{Judge, Verdict};
pub use self::kills::{Kills, ServerFault, kills};
pub use self::machine::MachineClock;
pub(crate) use self::machine::die;
pub use self::network::{flapping, late, partitions};
pub use self::planted::Planted;
pub use self::report::Report;
pub use self::server::OnServer;
pub use self::sites::sites;
pub use self::subject::{Place, Subject};
