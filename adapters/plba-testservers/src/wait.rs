//! Waiting for something that another process does. Blocking, off the executor, and on real time: a paused clock in a
//! test must not make a server look late.

use std::thread;
use std::time::{Duration, Instant};

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(3);

/// Looks again and again until `look` returns something or `limit` has passed. Looks at least once.
pub(crate) fn until<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if begun.elapsed() >= limit {
            return None;
        }
        pause();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "another process's progress has no event to wait for"
)]
fn pause() {
    thread::sleep(PAUSE);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_looks_until_something_is_there() {
        let mut looks = 0;
        let found = until(Duration::from_secs(10), || {
            looks += 1;
            (looks == 3).then_some("there")
        });
        assert_eq!((found, looks), (Some("there"), 3));
    }

    #[test]
    fn it_looks_once_even_without_time() {
        assert_eq!(until(Duration::ZERO, || Some(1)), Some(1));
        assert_eq!(until(Duration::ZERO, || None::<()>), None);
    }
}
