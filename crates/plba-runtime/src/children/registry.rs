//! Which child processes there are, whose they are, and how they are ended. It works with threads alone, so that it goes on
//! when every thread of an executor is blocked: one waits for each child, and one more for each that is being ended.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, test_kill_process_group, waitpgid};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::{debug, warn};

/// How long a group has to end by itself after SIGTERM.
const GRACE: Duration = Duration::from_secs(1);

/// How often a group is looked at whose members are not all our own children.
const LOOK: Duration = Duration::from_millis(20);

/// How long the end of the process waits for groups that it has killed.
const SWEEP: Duration = Duration::from_millis(500);

/// The most lines in the stop report.
const LINES: usize = 1_000;

/// Whose a child process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) worker: Arc<str>,
    pub(super) slot: u32,
    pub(super) attempt: u64,
}

pub(super) type GroupId = u64;

/// What is known of the end of a child.
#[derive(Clone, Copy, Debug)]
pub(super) enum Status {
    Ended(ExitStatus),
    Lost,
}

/// What became of a child process that was left when it had to be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChildEnd {
    /// Its group ended within a second of SIGTERM.
    Terminated,
    /// Its group had to be killed.
    Killed,
    /// A process of its group is still there though it was killed: the system itself holds it.
    Survived,
}

/// A child process that a stop had to end, as the stop report tells it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChildStop {
    /// The worker that had started it.
    pub worker: String,
    /// Which of its instances.
    pub slot: u32,
    /// Its process id.
    pub pid: u32,
    /// The program.
    pub program: String,
    /// What became of it and of those that it had started.
    pub how: ChildEnd,
}

/// All child processes.
#[derive(Default)]
pub(crate) struct Registry {
    inner: Mutex<Inner>,
    /// A group is gone.
    gone: Condvar,
    /// How many groups there are or are being made: most processes have none, and many instances ask.
    count: AtomicUsize,
}

#[derive(Default)]
struct Inner {
    next: GroupId,
    groups: BTreeMap<GroupId, Group>,
    /// Since when ended groups are remembered for the stop report.
    stopping: bool,
    lines: Vec<ChildStop>,
    closed: bool,
}

/// A child that was started, its group, and what will be known of its end.
pub(super) type Spawned = (Child, GroupId, watch::Receiver<Option<Status>>);

/// A group that is being made is counted from before anybody asks whether it may be: who forbids it afterwards sees it.
struct Announced<'a>(&'a AtomicUsize);

impl<'a> Announced<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        Self(count)
    }

    /// It counts until it is forgotten.
    fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

struct Group {
    owner: Owner,
    program: String,
    pid: Pid,
    /// The child itself has ended and was waited for.
    leaderless: bool,
    /// It was told to end.
    told: bool,
    killed: bool,
}

impl Registry {
    /// From now on what has to be ended is named in the stop report.
    pub(crate) fn stopping(&self) {
        self.lock().stopping = true;
    }

    pub(super) fn spawn(
        self: &Arc<Self>,
        owner: &Owner,
        program: String,
        may_start: impl FnOnce() -> bool,
        spawn: impl FnOnce() -> io::Result<Child>,
    ) -> io::Result<Spawned> {
        let announced = Announced::new(&self.count);
        // The lock is held over the fork: what ends all groups must not miss one that is just being made.
        let mut inner = self.lock();
        if inner.closed {
            return Err(io::Error::other(
                "the process is stopping: it starts no more child processes",
            ));
        }
        if !may_start() {
            return Err(io::Error::other(
                "the instance of the worker has ended or was told by force to: it starts no more child processes",
            ));
        }
        let child = spawn()?;
        let (sender, status) = watch::channel(None);
        let pid = Pid::from_child(&child);
        inner.next += 1;
        let id = inner.next;
        let group = Group {
            owner: owner.clone(),
            program,
            pid,
            leaderless: false,
            told: false,
            killed: false,
        };
        inner.groups.insert(id, group);
        let registry = Arc::clone(self);
        let wait = move || registry.wait(id, pid, &sender);
        if let Err(error) = Builder::new().name(format!("child-{}", child.id())).spawn(wait) {
            inner.groups.remove(&id);
            signal(pid, Signal::KILL);
            let _ = waitpgid(pid, WaitOptions::empty());
            return Err(error);
        }
        announced.keep();
        Ok((child, id, status))
    }

    /// Waits until the whole group is gone. Its members become children of ours when their parents end only where this
    /// process is the first of its container; elsewhere they are the system's to wait for.
    fn wait(&self, id: GroupId, leader: Pid, told: &watch::Sender<Option<Status>>) {
        loop {
            match waitpgid(leader, WaitOptions::empty()) {
                Ok(Some((pid, status))) if pid == leader => {
                    self.change(id, |group| group.leaderless = true);
                    told.send_replace(Some(Status::Ended(ExitStatus::from_raw(status.as_raw()))));
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        told.send_if_modified(|status| status.is_none().then(|| *status = Some(Status::Lost)).is_some());
        let mut inner = self.lock();
        if !inner.groups.get(&id).is_some_and(Group::is_alive) {
            self.forget(&mut inner, id);
        }
    }

    /// Begins to end a group.
    pub(super) fn end(self: &Arc<Self>, id: GroupId) {
        let mut inner = self.lock();
        let Some(group) = inner.groups.get_mut(&id).filter(|group| !group.told) else {
            return;
        };
        if !group.is_alive() {
            return self.forget(&mut inner, id);
        }
        group.told = true;
        let (pid, registry) = (group.pid, Arc::clone(self));
        signal(pid, Signal::TERM);
        // Stopped processes act on it once they go on.
        signal(pid, Signal::CONT);
        debug!(
            pid = pid.as_raw_nonzero(),
            program = group.program,
            "a child process is told to end"
        );
        let escalate = move || registry.escalate(id);
        if Builder::new().name("child-end".into()).spawn(escalate).is_err() {
            group.kill();
        }
    }

    /// Begins to end all groups of one attempt.
    pub(crate) fn end_of(self: &Arc<Self>, worker: &str, slot: u32, attempt: u64) {
        // Whoever is just starting one has announced it before looking whether the owner still may.
        fence(Ordering::SeqCst);
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let of = |group: &Group| {
            let owner = &group.owner;
            *owner.worker == *worker && owner.slot == slot && owner.attempt == attempt
        };
        let inner = self.lock();
        let ids: Vec<GroupId> = inner
            .groups
            .iter()
            .filter(|(_, group)| of(group))
            .map(|(id, _)| *id)
            .collect();
        drop(inner);
        ids.into_iter().for_each(|id| self.end(id));
    }

    fn escalate(&self, id: GroupId) {
        if !self.until_gone(id, Instant::now() + GRACE) {
            self.change(id, Group::kill);
            if !self.until_gone(id, Instant::now() + GRACE) {
                warn!("a process group does not end though it was killed");
            }
        }
    }

    /// Waits for the end of a group; false if the limit came first.
    fn until_gone(&self, id: GroupId, limit: Instant) -> bool {
        let mut inner = self.lock();
        loop {
            match inner.groups.get(&id) {
                None => return true,
                Some(group) if group.leaderless && !group.is_alive() => self.forget(&mut inner, id),
                Some(_) if Instant::now() >= limit => return false,
                Some(_) => {
                    let waited = self
                        .gone
                        .wait_timeout(inner, LOOK)
                        .unwrap_or_else(PoisonError::into_inner);
                    inner = waited.0;
                }
            }
        }
    }

    /// Ends what is left, at the end of the process: takes no more, kills all groups at once and waits until they are gone,
    /// 0.5 s at most. Gives what had to be ended since the stop began.
    pub(crate) fn close(&self) -> Vec<ChildStop> {
        let mut inner = self.lock();
        inner.closed = true;
        inner.stopping = true;
        let ids: Vec<GroupId> = inner.groups.keys().copied().collect();
        inner.groups.values_mut().for_each(|group| {
            if group.is_alive() {
                group.told = true;
                group.kill();
            }
        });
        drop(inner);
        let limit = Instant::now() + SWEEP;
        for id in ids {
            self.until_gone(id, limit);
        }
        let mut inner = self.lock();
        let left: Vec<ChildStop> = inner
            .groups
            .values()
            .map(|group| group.line(ChildEnd::Survived))
            .collect();
        inner.lines.extend(left);
        std::mem::take(&mut inner.lines)
    }

    fn forget(&self, inner: &mut Inner, id: GroupId) {
        let Some(group) = inner.groups.remove(&id) else { return };
        self.count.fetch_sub(1, Ordering::AcqRel);
        if inner.stopping && group.told && inner.lines.len() < LINES {
            let how = if group.killed {
                ChildEnd::Killed
            } else {
                ChildEnd::Terminated
            };
            inner.lines.push(group.line(how));
        }
        self.gone.notify_all();
    }

    fn change(&self, id: GroupId, change: impl FnOnce(&mut Group)) {
        if let Some(group) = self.lock().groups.get_mut(&id) {
            change(group);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Group {
    /// Whether any process is left. As long as one is, or the leader was not waited for, no other group gets its number.
    fn is_alive(&self) -> bool {
        !self.leaderless || (test_kill_process_group(self.pid).is_ok() && has_living_member(self.pid))
    }

    fn kill(&mut self) {
        if self.is_alive() {
            self.killed = true;
            signal(self.pid, Signal::KILL);
        }
    }

    fn line(&self, how: ChildEnd) -> ChildStop {
        ChildStop {
            worker: self.owner.worker.to_string(),
            slot: self.owner.slot,
            pid: self.pid.as_raw_nonzero().get().unsigned_abs(),
            program: self.program.clone(),
            how,
        }
    }
}

/// Whether a process of the group is there that is no zombie: those belong to the system's first process, which may leave
/// them for a while.
fn has_living_member(group: Pid) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return true;
    };
    let group = group.as_raw_nonzero().to_string();
    processes.flatten().any(|process| {
        let stat = std::fs::read_to_string(process.path().join("stat")).unwrap_or_default();
        // After the name, which may hold anything: state, parent, group.
        let mut fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields).split(' ');
        fields.next().is_some_and(|state| state != "Z" && state != "X") && fields.nth(1) == Some(&group)
    })
}

fn signal(group: Pid, signal: Signal) {
    // It may have ended this moment.
    let _ = kill_process_group(group, signal);
}
