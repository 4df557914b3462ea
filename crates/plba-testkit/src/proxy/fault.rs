//! Faults as values, so that a schedule can choose, print and inject them. What each does is said where a test would call
//! it by name, at [`FaultProxy`](super::FaultProxy).

use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

use super::{Direction, Ending};

/// Something that goes wrong between a client and a server, or the end of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Bytes arrive late, by the first and at random up to the second more.
    Latency(Direction, Duration, Duration),
    /// At most so many bytes in a second.
    Rate(Direction, NonZeroU64),
    /// Bytes vanish.
    BlackHole(Direction),
    /// What is open ends in one direction.
    HalfClose(Direction),
    /// A connection ends after so many more bytes.
    CutAfter(Direction, u64, Ending),
    /// All connections end.
    EndAll(Ending),
    /// New connections are refused.
    Refuse,
    /// Nothing goes wrong any more.
    Heal,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Latency(direction, least, jitter) => {
                write!(formatter, "latency {direction}: {least:?} and up to {jitter:?} more")
            }
            Fault::Rate(direction, rate) => write!(formatter, "rate {direction}: {rate} bytes/s"),
            Fault::BlackHole(direction) => write!(formatter, "black hole {direction}"),
            Fault::HalfClose(direction) => write!(formatter, "half-close {direction}"),
            Fault::CutAfter(direction, bytes, Ending::Reset) => {
                write!(formatter, "reset after {bytes} bytes {direction}")
            }
            Fault::CutAfter(direction, bytes, Ending::Close) => {
                write!(formatter, "close after {bytes} bytes {direction}")
            }
            Fault::EndAll(Ending::Reset) => formatter.write_str("reset all"),
            Fault::EndAll(Ending::Close) => formatter.write_str("close all"),
            Fault::Refuse => formatter.write_str("refuse"),
            Fault::Heal => formatter.write_str("heal"),
        }
    }
}
