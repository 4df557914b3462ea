//! The ids of tasks whose producers gave none.

use std::sync::{Mutex, PoisonError};

use plba_tasks::task::TaskId;

/// Makes ids.
pub(super) struct Ids(Mutex<fastrand::Rng>);

impl Ids {
    pub(super) fn new(seed: u64) -> Self {
        Self(Mutex::new(fastrand::Rng::with_seed(seed)))
    }

    /// 26 digits of base 32: 128 random bits.
    pub(super) fn make(&self) -> TaskId {
        const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
        let mut bits = self.0.lock().unwrap_or_else(PoisonError::into_inner).u128(..);
        let mut text = [b'0'; 26];
        for place in text.iter_mut().rev() {
            *place = DIGITS[(bits & 31) as usize];
            bits >>= 5;
        }
        // All digits are ASCII.
        TaskId::from(str::from_utf8(&text).unwrap_or_default())
    }
}
