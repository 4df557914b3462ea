//! The promises of plba: what applications, workers and adapters implement, and the plain data that crosses between
//! them. Here live traits, their contracts in prose, and value types; the machinery that keeps the promises lives in
//! `plba-runtime`, and no executor, no product and no input or output is known here.
//!
//! | concern | module |
//! |---|---|
//! | what an application brings | [`application`] |
//! | the unit of work and supervision | [`worker`], [`stop`] |
//! | configuration | [`config`], [`secret`] |
//! | health | [`health`] |
//! | the right to act alone | [`lease`] |
//! | metrics | [`metrics`] |
//! | traces | [`trace`] |
//! | views, actions and transports of the control plane | [`control`] |
//! | typed services | [`services`] |
//! | what a service or worker was made from | [`made_from`] |
//! | time as a parameter, and times of the clock on the wall | [`clock`], [`cron`] |

pub mod application;
pub mod clock;
pub mod config;
pub mod control;
pub mod cron;
pub mod health;
pub mod lease;
pub mod made_from;
pub mod metrics;
pub mod secret;
pub mod section;
pub mod services;
pub mod stop;
pub mod trace;
pub mod worker;

/// Any error, as it crosses a contract: boxed, sendable, with its chain of sources intact.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Writes an error with all its sources on one line, outermost first, separated by `: `.
///
/// A source whose text the line already has is not repeated, because many errors print their source themselves.
///
/// ```
/// let inner = std::io::Error::other("disk full");
/// let outer: plba_contracts::BoxError = Box::new(inner);
/// assert_eq!(plba_contracts::describe(outer.as_ref()), "disk full");
///
/// #[derive(Debug)]
/// struct Unstored(std::io::Error);
///
/// impl std::fmt::Display for Unstored {
///     fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
///         write!(out, "not stored: {}; make room", self.0)
///     }
/// }
///
/// impl std::error::Error for Unstored {
///     fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
///         Some(&self.0)
///     }
/// }
///
/// let outer = Unstored(std::io::Error::other("disk full"));
/// assert_eq!(plba_contracts::describe(&outer), "not stored: disk full; make room");
/// ```
pub fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = error.source();
    }
    text
}
