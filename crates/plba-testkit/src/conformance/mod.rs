//! One conformance suite per port: every implementation runs the same cases, each named after the promise it proves.
//! Reports name every case that failed, not only the first.

#![allow(
    clippy::unwrap_used,
    reason = "a broken promise ends its case with a panic, which is the report"
)]

pub mod lease;
pub mod ledger;
pub mod model;
pub mod queue;

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;

use crate::runtime;

/// Which time a subject lives in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// tokio's paused time: for what does no input and output.
    Paused,
    /// Real time, for real files and servers; their leases should be short.
    Real,
}

/// A named case.
pub(crate) struct Case<S: 'static> {
    pub(crate) name: &'static str,
    pub(crate) run: fn(S) -> Pin<Box<dyn Future<Output = ()>>>,
}

/// Runs cases, each on a fresh subject and a fresh runtime; panics with a report if one fails. With `PLBA_CASE` in the
/// environment, only those with that text in their names.
pub(crate) fn run<'a, S: 'static, Fut>(
    what: &str,
    time: Time,
    cases: impl IntoIterator<Item = &'a Case<S>>,
    make: impl Fn() -> Fut,
) where
    Fut: Future<Output = S>,
{
    let chosen = std::env::var("PLBA_CASE").unwrap_or_default();
    let mut failed = Vec::new();
    let mut count = 0;
    for case in cases.into_iter().filter(|case| case.name.contains(&chosen)) {
        count += 1;
        let test = async { (case.run)(make().await).await };
        let attempt = catch_unwind(AssertUnwindSafe(|| match time {
            Time::Paused => runtime::paused(test),
            Time::Real => runtime::real(test),
        }));
        if let Err(panic) = attempt {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("a panic without text");
            failed.push(format!("{}: {text}", case.name));
        }
    }
    assert!(
        failed.is_empty(),
        "{what} breaks {} of {count} promises:\n  {}",
        failed.len(),
        failed.join("\n  ")
    );
}

/// Declares cases as functions, and the table of them.
macro_rules! cases {
    ($subject:ty; $($(#[$meta:meta])* async fn $name:ident($argument:ident) $body:block)*) => {
        $($(#[$meta])* async fn $name($argument: $subject) $body)*

        pub(super) const CASES: &[crate::conformance::Case<$subject>] = &[
            $(crate::conformance::Case { name: stringify!($name), run: |subject| Box::pin($name(subject)) },)*
        ];
    };
}
pub(crate) use cases;
