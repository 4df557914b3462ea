//! The names of consumers in groups: whose they are, how long their leases last, and by what this machine can tell that
//! the process behind one is gone.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;
use std::time::Duration;

use plba_tasks::queue::ConsumerId;
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// `lease|host:pid:epoch|machine|worker`: the lease in milliseconds; the machine is boot, process namespace and start of the
/// process, or `-`.
pub(crate) fn consumer_name(consumer: &ConsumerId, lease: Duration) -> String {
    let incarnation = &consumer.incarnation;
    let own = incarnation.pid == std::process::id();
    let machine = own.then(own_machine).flatten().unwrap_or_else(|| "-".into());
    format!(
        "{}|{}:{}:{:016x}|{machine}|{}",
        lease.as_millis(),
        incarnation.host,
        incarnation.pid,
        incarnation.epoch,
        consumer.worker
    )
}

/// The consumer as people know it: `worker (host:pid:epoch)`.
pub(crate) fn for_people(name: &str) -> String {
    let mut parts = name.splitn(4, '|').skip(1);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(incarnation), _, Some(worker)) => format!("{worker} ({incarnation})"),
        _ => name.to_owned(),
    }
}

/// Whether the process behind a consumer ran on this machine and is certainly gone. One that is only stopped is not.
pub(crate) fn is_gone(name: &str) -> bool {
    let mut parts = name.splitn(4, '|').skip(1);
    let (Some(incarnation), Some(machine)) = (parts.next(), parts.next()) else {
        return false;
    };
    let pid = incarnation.rsplit(':').nth(1).and_then(|pid| pid.parse::<u32>().ok());
    let (Some(pid), Some((place, started)), Some((here, _))) = (pid, machine.rsplit_once('.'), own_place()) else {
        return false;
    };
    if place != here {
        return false;
    }
    let Some(process) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return false;
    };
    match test_kill_process(process) {
        Err(Errno::SRCH) => true,
        // The number may be another process's by now.
        _ => start_of(pid).is_some_and(|start| start != started),
    }
}

fn own_machine() -> Option<String> {
    own_place().map(|(place, start)| format!("{place}.{start}"))
}

/// This machine's boot and process namespace, and the start of this process. Read once: none of it changes.
fn own_place() -> Option<(&'static str, &'static str)> {
    static PLACE: OnceLock<Option<(String, String)>> = OnceLock::new();
    let read = || {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let namespace = fs::metadata("/proc/self/ns/pid").ok()?.ino();
        let start = start_of(std::process::id())?;
        Some((format!("{}.{namespace}", boot.trim().get(..8)?), start))
    };
    let place = PLACE.get_or_init(read).as_ref();
    place.map(|(place, start)| (place.as_str(), start.as_str()))
}

/// When a process started, in clock ticks since the boot (proc(5), field 22 of `stat`).
fn start_of(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may have spaces.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use plba_tasks::queue::Incarnation;

    use super::*;

    fn name(pid: u32) -> String {
        let mut incarnation = Incarnation::of_this_process(7);
        incarnation.pid = pid;
        consumer_name(&ConsumerId::new(incarnation, "orders|1"), Duration::from_millis(1500))
    }

    #[test]
    fn a_name_tells_lease_and_holder() {
        let own = name(std::process::id());
        assert!(own.starts_with("1500|"), "{own}");
        assert!(for_people(&own).starts_with("orders|1 ("), "{own}");
        assert!(for_people(&own).ends_with(":0000000000000007)"), "{own}");
    }

    #[test]
    fn only_a_process_of_this_machine_that_has_ended_is_gone() {
        let own = name(std::process::id());
        assert!(!is_gone(&own), "it is running");
        assert!(!is_gone(&name(1)), "another process's machine is not known");
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        let ended = own.replace(&format!(":{}:", std::process::id()), &format!(":{pid}:"));
        assert!(is_gone(&ended), "{ended}");
        let elsewhere = ended.replace(own_place().unwrap().0, "00000000.1");
        assert!(!is_gone(&elsewhere), "{elsewhere}");
        let (place, start) = own_place().unwrap();
        let reused = own.replace(&format!("{place}.{start}"), &format!("{place}.{start}1"));
        assert!(is_gone(&reused), "the number is another process's now: {reused}");
    }
}
