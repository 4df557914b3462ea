//! What a process leaves behind so that another on the same machine can tell for sure that it has ended: then nobody has
//! to wait for its leases. Whose leases these are, and how they end, is the backends' business.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use tokio::time::Instant;

/// How often it is looked for processes that have ended.
pub const LOOK: Duration = Duration::from_secs(1);

/// One process among all that ever run: its machine's boot, its namespaces, its number, and when it started. Cheap to
/// clone; as text, `pid.start.boot.namespaces`, it is kept beside the names of those who hold leases.
///
/// No clock, host name or network decides. Only a process of the same boot and the same namespaces is judged, by the
/// kernel: of another machine, container or boot nothing is known, and the lease alone decides. The one thing this can't
/// tell apart is a machine that was copied while it ran, with all its processes: let no two copies share a queue before
/// they have been booted anew.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Presence {
    pid: u32,
    /// Clock ticks since the boot: tells it from a later process with the same number.
    start: u64,
    /// Boot, process namespace and time namespace.
    place: Arc<str>,
}

impl Presence {
    /// This process; `None` where the kernel does not tell (no `/proc`, or one of another namespace).
    pub fn of_this_process() -> Option<Self> {
        static OWN: OnceLock<Option<Presence>> = OnceLock::new();
        let read = || {
            let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
            let processes = fs::metadata("/proc/self/ns/pid").ok()?.ino();
            // Kernels without time namespaces have one time.
            let times = fs::metadata("/proc/self/ns/time").map_or(0, |namespace| namespace.ino());
            let own = Stat::read("self")?;
            // Under the `/proc` of another namespace processes have other numbers.
            let here = own.pid == std::process::id();
            here.then(|| Self {
                pid: own.pid,
                start: own.start,
                place: format!("{}.{processes}-{times}", boot.trim()).into(),
            })
        };
        OWN.get_or_init(read).clone()
    }

    /// A process that runs beside this one, by its number; `None` if there is none.
    pub fn of(pid: u32) -> Option<Self> {
        let place = Self::of_this_process()?.place;
        let found = Stat::read(&pid.to_string())?;
        Some(Self {
            pid,
            start: found.start,
            place,
        })
    }

    /// Reads what [`to_string`](ToString::to_string) wrote; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '.');
        Some(Self {
            pid: parts.next()?.parse().ok()?,
            start: parts.next()?.parse().ok()?,
            place: parts.next()?.into(),
        })
    }

    /// Boot and namespaces: only processes that share them know of each other.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Whether the process is of this machine and has certainly ended. One that is stopped, paused or swapped out has not.
    /// A few system calls; call it where blocking is allowed if there are many.
    pub fn is_gone(&self) -> bool {
        let Some(own) = Self::of_this_process().filter(|own| own.place == self.place) else {
            return false;
        };
        let process = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let Some(process) = process.filter(|_| own != *self) else {
            return false;
        };
        match test_kill_process(process) {
            Err(Errno::SRCH) => true,
            // The number may be another process's by now; or this one has ended, and nobody asked yet how.
            _ => Stat::read(&self.pid.to_string()).is_some_and(|found| found.start != self.start || found.ended),
        }
    }
}

impl fmt::Display for Presence {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}.{}", self.pid, self.start, self.place)
    }
}

/// What the kernel tells of a process (proc(5)).
struct Stat {
    pid: u32,
    start: u64,
    /// All its threads have ended; it waits for its parent to ask how.
    ended: bool,
}

impl Stat {
    fn read(name: &str) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{name}/stat")).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        // The name in parentheses may have spaces, and parentheses.
        let (head, fields) = text.rsplit_once(')')?;
        let pid = head.split(' ').next()?.parse().ok()?;
        let mut fields = fields.split_whitespace();
        let state = fields.next()?;
        // Of a process whose first thread has ended others may still run.
        let threads: u64 = fields.nth(16)?.parse().ok()?;
        let start = fields.nth(1)?.parse().ok()?;
        Some(Self {
            pid,
            start,
            ended: matches!(state, "Z" | "X") && threads <= 1,
        })
    }
}

/// The turns in which a backend looks for holders that are gone: the first at once, then one each [`LOOK`].
#[derive(Debug, Default)]
pub struct Watch {
    last: Mutex<Option<Instant>>,
}

impl Watch {
    /// Whether it is time to look. Only one caller is told so.
    pub fn is_due(&self) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| last.elapsed() >= LOOK);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}

/// Those of some holders whose processes are gone, each with its [`Presence`] as text. Asks the kernel once per process,
/// on a blocking thread.
///
/// # Cancel safety
/// A dropped call changes nothing.
pub async fn gone<T: Send + 'static>(mut holders: Vec<(T, String)>) -> Vec<T> {
    if holders.is_empty() {
        return Vec::new();
    }
    let asked = tokio::task::spawn_blocking(move || {
        holders.sort_by(|one, other| one.1.cmp(&other.1));
        let (mut found, mut last) = (Vec::new(), (String::new(), false));
        for (holder, presence) in holders {
            if last.0 != presence {
                let is_gone = Presence::parse(&presence).is_some_and(|presence| presence.is_gone());
                last = (presence, is_gone);
            }
            if last.1 {
                found.push(holder);
            }
        }
        found
    });
    // A runtime that shuts down looks no more.
    asked.await.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use rustix::process::{Signal, WaitOptions, kill_process, waitpid};

    use super::*;

    fn sleeper() -> (Child, Presence) {
        let child = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap();
        let presence = Presence::of(child.id()).unwrap();
        (child, presence)
    }

    #[test]
    fn a_process_is_gone_once_it_has_ended_and_not_before() {
        let (mut child, presence) = sleeper();
        assert!(!presence.is_gone(), "it runs");
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        waitpid(Some(pid), WaitOptions::UNTRACED).unwrap();
        assert!(!presence.is_gone(), "it is only stopped");
        child.kill().unwrap();
        // Not waited for: it stays in the table of processes until its parent asks.
        let limit = std::time::Instant::now() + Duration::from_secs(10);
        while !presence.is_gone() {
            assert!(
                std::time::Instant::now() < limit,
                "it has ended, and its parent has not asked"
            );
        }
        child.wait().unwrap();
        assert!(presence.is_gone(), "there is none with its number");
        assert!(!Presence::of_this_process().unwrap().is_gone());
    }

    #[test]
    fn of_another_machine_container_or_boot_nothing_is_known() {
        let (mut child, presence) = sleeper();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(presence.is_gone());
        let (boot, namespaces) = presence.place().split_once('.').unwrap();
        for place in [
            format!("00000000-0000-0000-0000-000000000000.{namespaces}"),
            format!("{boot}.1-1"),
            boot.to_owned(),
            String::new(),
        ] {
            let elsewhere = Presence {
                place: place.into(),
                ..presence.clone()
            };
            assert!(!elsewhere.is_gone(), "{elsewhere}");
        }
    }

    #[test]
    fn a_number_that_is_used_again_is_told_by_when_its_process_started() {
        let own = Presence::of_this_process().unwrap();
        let earlier = Presence {
            start: own.start - 1,
            ..own
        };
        assert!(earlier.is_gone());
    }

    #[test]
    fn what_is_written_is_read_again_and_nothing_else() {
        let own = Presence::of_this_process().unwrap();
        assert_eq!(Presence::parse(&own.to_string()), Some(own));
        for text in ["", "-", "1", "1.2", "x.2.place", "1.-2.place", "99999999999.2.place"] {
            assert_eq!(Presence::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_process_with_a_thread_left_has_not_ended() {
        let stat = |state: &str, threads: u32| {
            let text = format!("42 (a) (b c) {state} 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 {threads} 0 777 0 0");
            let stat = Stat::parse(&text).unwrap();
            assert_eq!((stat.pid, stat.start), (42, 777));
            stat.ended
        };
        assert!(stat("Z", 1) && stat("X", 0));
        assert!(!stat("Z", 2) && !stat("T", 1) && !stat("S", 9));
    }

    #[test]
    fn only_one_of_many_callers_looks() {
        let watch = Watch::default();
        assert!(watch.is_due() && !watch.is_due());
    }

    #[tokio::test]
    async fn of_many_holders_those_are_found_whose_processes_are_gone() {
        let own = Presence::of_this_process().unwrap();
        let earlier = Presence {
            start: own.start - 1,
            ..own.clone()
        };
        let holders = vec![
            (1, earlier.to_string()),
            (2, own.to_string()),
            (3, "-".to_owned()),
            (4, earlier.to_string()),
        ];
        assert_eq!(gone(holders).await, [1, 4]);
    }
}
