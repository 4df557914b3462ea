//! UIDs as the protocol writes them: `1:3,7,9:12` (RFC 9051 section 9, sequence-set), in pieces of bounded size.

use std::fmt::Write as _;

/// The longest set sent in one command, in bytes. RFC 2683 section 3.2.1.5 asks servers for 8,000 bytes of line.
const MAX_LENGTH: usize = 7_000;

/// Writes the longest leading part of `uids` (ascending, no duplicates) that fits in one command; answers with the set
/// and how many UIDs it holds. At least one UID is taken of a non-empty list.
pub(crate) fn leading_set(uids: &[u32], max_count: usize) -> (String, usize) {
    let mut set = String::new();
    let mut taken = 0;
    while taken < uids.len().min(max_count.max(1)) && set.len() + 22 <= MAX_LENGTH {
        let first = uids[taken];
        let mut last = first;
        taken += 1;
        while taken < uids.len().min(max_count) && last.checked_add(1) == Some(uids[taken]) {
            last = uids[taken];
            taken += 1;
        }
        let comma = if set.is_empty() { "" } else { "," };
        let written = if first == last {
            write!(set, "{comma}{first}")
        } else {
            write!(set, "{comma}{first}:{last}")
        };
        debug_assert!(written.is_ok(), "writing to a string does not fail");
    }
    (set, taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_become_ranges() {
        let cases: [(&[u32], &str); 5] = [
            (&[], ""),
            (&[7], "7"),
            (&[1, 2, 3, 7, 9, 10], "1:3,7,9:10"),
            (&[1, 3, 5], "1,3,5"),
            (&[u32::MAX - 1, u32::MAX], "4294967294:4294967295"),
        ];
        for (uids, expected) in cases {
            assert_eq!(leading_set(uids, 1000), (expected.to_owned(), uids.len()));
        }
    }

    #[test]
    fn the_count_and_the_length_are_bounded() {
        let dense: Vec<u32> = (1..=5000).collect();
        assert_eq!(leading_set(&dense, 1000), ("1:1000".to_owned(), 1000));
        let sparse: Vec<u32> = (1..=5000).map(|n| 1_000_000_000 + n * 2).collect();
        let (set, taken) = leading_set(&sparse, 5000);
        assert!(set.len() <= MAX_LENGTH && taken > 500, "{taken} in {} bytes", set.len());
        assert_eq!(set.split(',').count(), taken);
    }
}
