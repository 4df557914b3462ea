//! Changing the configuration of a running process, as a transaction. What a configuration is, and how one is read, lives in
//! the rooms beside; which parts of the process follow it, in `crate::reload`.
//!
//! ```text
//! triggers ──► ReloadRequests ──► check ──► prepare ──► apply ──► commit ──► probation ──► proven
//! (coalesced, one in flight)        │          │          │                      │
//!                                   ▼          ▼          ▼                      ▼
//!                        exactly the state before: nothing was touched, or parts went back in reverse order
//! ```
//!
//! 1. **check**: all sources are read, merged, parsed and validated; every fault at once.
//! 2. **prepare**: modules assemble, [parts](LivePart) and subscribers are asked, all together within
//!    `platform.config.prepare_timeout`; each may refuse with a reason, none changes anything.
//! 3. **apply**: one part after the other follows; if one can't, those before it go back, the last one first.
//! 4. **commit**: the configuration is published as one immutable generation; `Live` handles see it from here.
//! 5. **probation**: for `platform.config.probation`, a [`Trial`] watches; if it fails, the generation that was proven last
//!    comes back the same way, by [`Trigger::Probation`].
//!
//! # How to build on it
//!
//! - **To ask for a reload** (watching files, an override's end, an action): hold
//!   [`ConfigurationManager::requests`](super::ConfigurationManager::requests). [`ReloadRequests::ask`] never waits and is
//!   called as often as one likes; [`ReloadRequests::ask_and_wait`] gives the [`ReloadOutcome`] of a reload that began after the
//!   question, so an action writes first, asks then, and takes back what it wrote when the outcome is `Rejected`. Whoever
//!   watches debounces by itself; how often a reload can be asked for is not limited here.
//! - **To run a watcher** for as long as the process works: add it to `crate::reload::watchers`; it is aborted at the stop.
//! - **To be told of every end** (history, last good, metrics, health): implement [`ChangeObserver`] and register it with
//!   [`ConfigurationManager::observe`](super::ConfigurationManager::observe).
//! - **To judge a probation**: implement [`Proving`] and register it with
//!   [`ConfigurationManager::prove_with`](super::ConfigurationManager::prove_with). `begin` is called before a change is put
//!   to work, `verdict` after its commit. Another change during a probation takes over: the picture stays the one from before
//!   the first of them, and what comes back is the generation that was proven last.
//! - **To follow the configuration** with a part of the platform: implement [`LivePart`], and add it to the list in
//!   `crate::reload`.
//! - **To say that a key needs a restart**: `#[schemars(extend("x-needs-restart" = true))]` on its field, for modules as for
//!   the platform; everything below it needs one too. Diffs say so by key, and nothing else keeps a list.

mod board;
mod diff;
mod follow;
mod history;
mod last_good;
mod outcome;
mod part;
mod probation;
mod proving;
mod records;
mod requests;
mod standing;
mod state_file;
mod transaction;
mod trial;
mod trigger;

pub(super) use board::{Board, Upcoming};
pub use diff::{ConfigChange, ConfigDiff, MAXIMUM_CHANGES};
pub use follow::follow_providers;
pub use history::{ChangeKind, HistoryEntry, MAXIMUM_ENTRIES, read_history};
pub(in crate::config) use last_good::{FILE as LAST_GOOD_FILE, KeptFile, LastGood, LastGoodError};
pub use outcome::{ChangeObserver, Conclusion, ReloadOutcome, Stage};
pub use part::{LivePart, Proposal, Refusal};
pub use proving::{Proving, Trial, TrialVerdict};
pub use records::ConfigRecords;
pub(crate) use records::ConfigStart;
pub use requests::{Asked, ReloadRequests, Request, RequestError};
pub(crate) use standing::HEALTH_PART;
pub use standing::{ConfigStanding, LatestChange};
pub use transaction::{Due, Transactions};
pub(crate) use trial::HealthProving;
pub use trigger::Trigger;
