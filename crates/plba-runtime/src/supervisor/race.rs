//! Races that can be planted in the shell around the step machine, to see whether the schedules of `plba-schedules` find
//! them. Outside of that crate the answer to whether one is planted is a constant, and nothing of it is compiled.

/// A race that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Race {
    /// A worker that has just been built does not look whether a stop came while it was.
    StopUnseenAtInstall,
    /// Who waits for a stop looks first and leaves its waker afterwards, so that a stop in between wakes nobody.
    WakerLeftTooLate,
    /// The end of an attempt is told before its worker is gone, so that the next one begins beside it.
    EndToldTooEarly,
}
