//! Ids of tasks that were given none.

use plba_tasks::task::TaskId;

/// Makes ids: a random part, one for this process, and a count, so that they lie close together in the index.
pub(super) struct Ids {
    prefix: String,
    count: u64,
}

impl Ids {
    pub(super) fn new() -> Self {
        let random = fastrand::u128(..);
        Self {
            prefix: base32(random, 16),
            count: 0,
        }
    }

    pub(super) fn next(&mut self) -> TaskId {
        self.count += 1;
        TaskId::from(format!("{}{}", self.prefix, base32(u128::from(self.count), 10)))
    }
}

/// The lowest digits of a number, in base 32.
fn base32(mut bits: u128, length: usize) -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let mut text = vec![0; length];
    for place in text.iter_mut().rev() {
        *place = DIGITS[(bits & 31) as usize];
        bits >>= 5;
    }
    // All digits are ASCII.
    String::from_utf8(text).unwrap_or_default()
}
