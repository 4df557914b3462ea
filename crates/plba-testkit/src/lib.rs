//! For tests of applications and adapters: injected and paused time, fakes of what the platform provides, and one
//! conformance suite per port. Real servers live in `plba-testservers`; nothing here is for production.

pub mod child;
pub mod clock;
pub mod comeback;
pub mod complaints;
pub mod conformance;
pub mod decorator;
pub mod directory;
pub mod failpoint;
pub mod handler;
pub mod process;
pub mod proxy;
pub mod runtime;
pub mod services;
pub mod source;
pub mod torture;
pub mod worker;
