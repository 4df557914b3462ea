//! Classical bugs of supervisors, planted in the machine to see whether the simulation finds them. Each is a deviation of
//! a line where the machine asks [`planted`]; outside of tests the answer is a constant and nothing of it is compiled.

/// A bug that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    /// One attempt more is put up with than the intensity says.
    IntensityOffByOne,
    /// What ends by itself while the process stops is started again.
    RestartAfterStop,
    /// A stop does not reach what is starting.
    LostStopDuringStart,
    /// The whole window is waited for a second time once it was used up.
    BudgetWaitedTwice,
    /// What others depend on stops before they do.
    WrongReverseOrder,
    /// A scale-down forgets one of the slots it is to end.
    LeakedSlotAfterScaleDown,
    /// A slot is started while its last attempt is not gone.
    DoubleStart,
    /// The pause between restarts overflows and starts again from the first.
    BackOffOverflow,
}

#[cfg(not(test))]
pub(super) const fn planted(_: Bug) -> bool {
    false
}

#[cfg(test)]
pub(super) use self::hook::{plant, planted};

#[cfg(test)]
mod hook {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Has this bug, and no other, on this thread from now on.
    pub(in super::super) fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    pub(in super::super) fn planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}
