//! Time as a parameter: the one way by which platform code learns the time of day. Waiting is not here: workers wait on
//! their executor's timers, which tests pause.

use std::time::Duration;

use jiff::Timestamp;

/// Tells the time.
///
/// Called from any thread, any number of times; never blocks, never panics.
///
/// ```
/// use std::time::Duration;
/// use plba_contracts::clock::Clock;
///
/// /// A clock for tests, which stands still.
/// struct Stopped;
///
/// impl Clock for Stopped {
///     fn now(&self) -> jiff::Timestamp {
///         jiff::Timestamp::UNIX_EPOCH
///     }
///     fn monotonic(&self) -> Duration {
///         Duration::ZERO
///     }
/// }
/// ```
pub trait Clock: Send + Sync + 'static {
    /// The time of day, for people and records. It may jump when the machine's clock is set.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment of this process. It never goes back and never jumps: measure spans with this.
    fn monotonic(&self) -> Duration;
}
