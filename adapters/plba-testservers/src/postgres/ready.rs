//! What a PostgreSQL server tells of itself in `postmaster.pid`, the file that it writes beside its data: whether it
//! serves, which is how `pg_ctl` knows it, and which shared memory is its own.

use std::fs;
use std::path::Path;

const FILE: &str = "postmaster.pid";

/// Where key and id of the shared memory stand, counted from 0.
const MEMORY_LINE: usize = 6;

/// Where the server's state stands; its id stands in the first line.
const STATE_LINE: usize = 7;

/// Whether the server with this id takes connections. The file of a server that was killed stays, hence the id.
pub(super) fn is_ready(data: &Path, pid: u32) -> bool {
    fs::read_to_string(data.join(FILE)).is_ok_and(|file| says_ready(&file, pid))
}

fn says_ready(file: &str, pid: u32) -> bool {
    let mut lines = file.lines();
    let of = lines.next().and_then(|line| line.trim().parse().ok());
    let state = lines.nth(STATE_LINE - 1).map(str::trim);
    of == Some(pid) && state == Some("ready")
}

/// The id of the segment (System V) that the last server on these data made, if it had no time to remove the file.
pub(super) fn shared_memory(data: &Path) -> Option<u32> {
    let file = fs::read_to_string(data.join(FILE)).ok()?;
    segment(&file)
}

fn segment(file: &str) -> Option<u32> {
    let line = file.lines().nth(MEMORY_LINE)?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_another_server_or_of_a_starting_one_says_nothing() {
        let file =
            |state: &str| format!("77\n/d/data\n1700000000\n20001\n/d\n127.0.0.1\n  10010816         4\n{state}\n");
        assert!(says_ready(&file("ready   "), 77));
        assert!(!says_ready(&file("ready   "), 78));
        assert!(!says_ready(&file("starting"), 77));
        assert_eq!(segment(&file("ready")), Some(4));
        assert_eq!(segment("77\n"), None);
        assert!(!says_ready("77\n/d/data\n", 77));
        assert!(!says_ready("", 77));
    }
}
