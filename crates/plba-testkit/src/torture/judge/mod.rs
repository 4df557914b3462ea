//! What the lines of a torture's ledger mean: which tasks were lost, handed out to two at once or after their end, ended
//! with a token that was no longer good, and how long recovery took. It sees lines and nothing else.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use plba_tasks::queue::SUSPECT_CRASHES;

use super::record::{Answer, Event, Held, Line, Way};
use super::workload::{ATTEMPTS, CRASHES, Kind};

/// How long after a server's return lines may still come of what it answered before its death.
const MOMENT: Duration = Duration::from_millis(500);

/// How many faults of a kind are told in full.
const TOLD: usize = 20;

/// Reads lines in their order, and says at the end what they amount to.
pub struct Judge {
    lease: Duration,
    lives: HashMap<Box<str>, Life>,
    processes: HashMap<u32, Process>,
    orphans: HashSet<Box<str>>,
    /// When the latest suspect was let go.
    freed: Duration,
    /// Whether a server that is killed may forget leases.
    forgets: bool,
    /// What was handed out until then may have been forgotten.
    forgetful_until: Duration,
    verdict: Verdict,
}

/// What a ledger tells.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Tasks that were published, or may have been.
    pub tasks: u64,
    /// Tasks that were acked, as far as somebody was told so.
    pub acked: u64,
    /// Dead letters.
    pub dead: u64,
    /// Tasks that were published and then were neither carried out nor dead.
    pub lost: Vec<String>,
    /// How many promises were broken otherwise.
    pub violation_count: u64,
    /// The first of them, in sentences.
    pub violations: Vec<String>,
    /// How often tasks were begun again, failed attempts included.
    pub repeated: u64,
    /// How often tasks were carried out to the end once more, because nobody had been told of the first time.
    pub duplicates: u64,
    /// How many processes were killed, by themselves included.
    pub killings: u64,
    /// How often a task that was in the hands of a killed process was handed out again.
    pub recoveries: u64,
    /// The longest time from a process's death to the next hand-out of what it had in hand, the time included in which
    /// suspects waited for one another: those are handed out one at a time.
    pub worst_recovery: Duration,
    /// The same without that time: since the process's death, or of a suspect since the one before it was done or died again.
    pub worst_wait: Duration,
    /// The longest time from a process's start to its first task.
    pub worst_restart: Duration,
    /// Whether a failpoint was reached.
    pub hit: bool,
    /// Whether the queue was empty in the end.
    pub drained: bool,
    unreadable: u64,
}

#[derive(Default)]
struct Life {
    /// Calls of publish that may have brought it in.
    publishings: u32,
    published: bool,
    deliveries: u32,
    fence: u64,
    hold: Option<Hold>,
    orphaned: Option<Duration>,
    /// How many processes have died with it, as far as was seen.
    deaths: u32,
    begun: u32,
    handled: u32,
    /// Acks that were asked for, and that were confirmed.
    acking: u32,
    acked: u32,
    then: Option<Box<str>>,
    /// Tokens with which an ending was asked for after somebody else had the task.
    stale: Vec<u64>,
    dead: Option<(usize, usize)>,
    /// The server may have forgotten that it was handed out.
    forgotten: bool,
}

struct Hold {
    process: u32,
    fence: u64,
    /// The lease holds at least until then.
    until: Duration,
    extending: Option<Duration>,
    /// An ending is under way or may have taken effect.
    ending: Option<Duration>,
    unsure: bool,
}

#[derive(Default)]
struct Process {
    spawned: Option<Duration>,
    /// When it was to be killed: what it wrote down in the moment after that was its last.
    killed: Option<Duration>,
    /// It was heard of before its parent said that it started it.
    early: bool,
    holds: HashSet<Box<str>>,
    publishing: HashSet<Box<str>>,
}

impl Judge {
    /// A judge of tasks with this lease.
    pub fn new(lease: Duration) -> Self {
        Self {
            lease,
            lives: HashMap::new(),
            processes: HashMap::new(),
            orphans: HashSet::new(),
            freed: Duration::ZERO,
            forgets: false,
            forgetful_until: Duration::ZERO,
            verdict: Verdict::default(),
        }
    }

    /// One that allows for servers that forget leases when they are killed.
    #[must_use]
    pub fn forgetting_leases(mut self) -> Self {
        self.forgets = true;
        self
    }

    /// Reads one line.
    pub fn read(&mut self, line: &str) {
        let Some(Line { at, process, event }) = Line::read(line) else {
            self.verdict.unreadable += 1;
            return;
        };
        match event {
            Event::Spawned(spawned) => self.spawned(at, spawned),
            Event::Ready => self.ready(process),
            Event::Killing(killed) => self.killing(at, killed),
            Event::Server(what) => self.server(at, what),
            Event::Hit => self.verdict.hit = true,
            Event::Publishing(id) => {
                self.life(&id).publishings += 1;
                self.processes.entry(process).or_default().publishing.insert(id.into());
            }
            Event::Published(id) => {
                self.life(&id).published = true;
                self.processes.entry(process).or_default().publishing.remove(&*id);
            }
            Event::Took(held, deliveries) => self.took(at, process, &held, deliveries),
            Event::Began(held) => self.life(&held.id).begun += 1,
            Event::Handled(held) => self.life(&held.id).handled += 1,
            Event::Extending(held) => {
                if let Some(hold) = self.hold(&held) {
                    hold.extending = Some(at);
                }
            }
            Event::Extended(held, answer) => self.extended(at, process, &held, answer),
            Event::Ending(held, way, then) => self.ending(at, &held, way, then),
            Event::Ended(held, way, answer) => self.ended(at, process, &held, way, answer),
            Event::Dead(id, attempts, crashes) => self.life(&id).dead = Some((attempts, crashes)),
            Event::Drained => self.verdict.drained = true,
        }
    }

    /// What this process was publishing when its lines ended, and nobody knows whether it succeeded.
    pub fn unsure(&self, process: u32) -> Vec<String> {
        let process = self.processes.get(&process).into_iter();
        process
            .flat_map(|process| &process.publishing)
            .map(|id| id.to_string())
            .collect()
    }

    /// The tasks that nobody knows to have been published, of those with these ids.
    pub fn unpublished(&self, ids: Vec<String>) -> Vec<String> {
        let published = |id: &String| self.lives.get(&**id).is_some_and(|life| life.published);
        ids.into_iter().filter(|id| !published(id)).collect()
    }

    /// How many tasks there have been so far.
    pub fn tasks(&self) -> usize {
        self.lives.len()
    }

    /// How it stands, without what only the end shows.
    pub fn so_far(&self) -> &Verdict {
        &self.verdict
    }

    fn spawned(&mut self, at: Duration, spawned: u32) {
        let process = self.processes.entry(spawned).or_default();
        if !std::mem::take(&mut process.early) {
            *process = Process {
                spawned: Some(at),
                ..Process::default()
            };
        }
    }

    /// Its parent may be slower to write down that it started it. Numbers of processes are used again.
    fn ready(&mut self, process: u32) {
        let process = self.processes.entry(process).or_default();
        if process.killed.is_some() || process.spawned.is_none() {
            *process = Process {
                early: true,
                ..Process::default()
            };
        }
    }

    fn life(&mut self, id: &str) -> &mut Life {
        if !self.lives.contains_key(id) {
            self.lives.insert(id.into(), Life::default());
        }
        self.lives.get_mut(id).unwrap()
    }

    fn hold(&mut self, held: &Held) -> Option<&mut Hold> {
        let hold = self.life(&held.id).hold.as_mut();
        hold.filter(|hold| hold.fence == held.fence)
    }

    fn violation(&mut self, what: String) {
        self.verdict.violation_count += 1;
        if self.verdict.violations.len() < TOLD {
            self.verdict.violations.push(what);
        }
    }

    fn took(&mut self, at: Duration, process: u32, held: &Held, deliveries: u32) {
        let (lease, id) = (self.lease, held.id.as_str());
        let (until, forgetful) = (at + lease, at <= self.forgetful_until);
        let life = self.life(id);
        let forgotten = std::mem::replace(&mut life.forgotten, forgetful);
        let mut broken = Vec::new();
        if life.publishings == 0 {
            broken.push("was handed out though nobody published it".to_owned());
        } else if life.acked >= life.publishings {
            broken.push(format!(
                "was handed out by fence {} after its ack was confirmed",
                held.fence
            ));
        }
        if life.publishings == 1 && deliveries + u32::from(forgotten) <= life.deliveries {
            broken.push(format!(
                "was handed out as delivery {deliveries} after delivery {}",
                life.deliveries
            ));
        }
        // The lease began somewhat earlier than the holder learned of it.
        if let Some(hold) = &life.hold
            && hold.ending.is_none()
            && !forgotten
            && at + lease / 2 < hold.until
        {
            broken.push(format!(
                "was handed out to process {process} while process {} held it for another {:?}",
                hold.process,
                hold.until - at
            ));
        }
        let before = life.hold.replace(Hold {
            process,
            fence: held.fence,
            until,
            extending: None,
            ending: None,
            unsure: false,
        });
        // Of those that died before they could say what they had in hand, the count of deliveries tells.
        let unseen = deliveries > life.deliveries + 1;
        let suspect = life.deaths >= SUSPECT_CRASHES || unseen;
        (life.deliveries, life.fence) = (deliveries, held.fence);
        let orphaned = life.orphaned.take();
        broken
            .into_iter()
            .for_each(|what| self.violation(format!("{id} {what}")));
        if let Some(before) = before {
            self.processes.entry(before.process).or_default().holds.remove(id);
        }
        if let Some(since) = orphaned {
            self.orphans.remove(id);
            self.verdict.recoveries += 1;
            let way_free = if suspect { since.max(self.freed) } else { since };
            let (whole, wait) = (at.saturating_sub(since), at.saturating_sub(way_free));
            self.verdict.worst_recovery = self.verdict.worst_recovery.max(whole);
            self.verdict.worst_wait = self.verdict.worst_wait.max(wait);
        }
        if let Some(killed) = self.processes.get(&process).and_then(|process| process.killed) {
            return self.orphan(id.into(), killed);
        }
        let process = self.processes.entry(process).or_default();
        process.holds.insert(id.into());
        if let Some(spawned) = process.spawned.take() {
            self.verdict.worst_restart = self.verdict.worst_restart.max(at.saturating_sub(spawned));
        }
    }

    fn extended(&mut self, at: Duration, process: u32, held: &Held, answer: Answer) {
        let lease = self.lease;
        let is_last = self.life(&held.id).fence == held.fence;
        match answer {
            Answer::Done => {
                if let Some(hold) = self.hold(held)
                    && let Some(asked) = hold.extending
                {
                    hold.until = asked + lease;
                }
            }
            Answer::Lost => self.lost_lease(at, process, held, is_last, true),
            Answer::Unknown => {}
        }
    }

    fn ending(&mut self, at: Duration, held: &Held, way: Way, then: Vec<String>) {
        let life = self.life(&held.id);
        if life.fence != held.fence && !life.stale.contains(&held.fence) {
            life.stale.push(held.fence);
        }
        if way == Way::Ack {
            life.acking += 1;
            life.then = then.first().map(|id| id.as_str().into());
        }
        let publishings = life.publishings.max(1);
        if let Some(hold) = self.hold(held) {
            // Asked for once more: what became of the first time is unknown.
            hold.unsure |= hold.ending.is_some();
            hold.ending = hold.ending.or(Some(at));
        }
        for id in then {
            // At most one for each time that its parent was brought in.
            let follow = self.life(&id);
            follow.publishings = follow.publishings.max(publishings);
        }
    }

    fn ended(&mut self, at: Duration, process: u32, held: &Held, way: Way, answer: Answer) {
        let life = self.life(&held.id);
        let is_last = life.fence == held.fence;
        match answer {
            Answer::Done => {
                let mut broken = Vec::new();
                if life.stale.contains(&held.fence) {
                    broken.push(format!(
                        "was ended ({}) with a token that was no longer good",
                        way.text()
                    ));
                }
                let mut then = None;
                if way == Way::Ack {
                    life.acked += 1;
                    then = life.then.take();
                    if life.acked > life.publishings {
                        broken.push("was acked twice".to_owned());
                    }
                }
                broken
                    .into_iter()
                    .for_each(|what| self.violation(format!("{} {what}", held.id)));
                if let Some(then) = then {
                    self.life(&then).published = true;
                }
                self.let_go(at, process, held, is_last);
            }
            Answer::Lost => self.lost_lease(at, process, held, is_last, false),
            Answer::Unknown => {
                if let Some(hold) = self.hold(held) {
                    hold.unsure = true;
                }
            }
        }
    }

    /// A holder was told that its lease is lost: it must have run out, or been ended before.
    fn lost_lease(&mut self, at: Duration, process: u32, held: &Held, is_last: bool, is_extension: bool) {
        let lease = self.lease;
        let forgotten = self.life(&held.id).forgotten;
        if let Some(hold) = self.hold(held) {
            // Its own ending may have taken effect, unless this is the answer to the only one.
            let own = hold.unsure || (is_extension && hold.ending.is_some());
            // It may have run out while the call was under way.
            if !own && !forgotten && at + lease / 2 < hold.until {
                let left = hold.until - at;
                self.violation(format!(
                    "{} was taken from its holder {left:?} before its lease ran out",
                    held.id
                ));
            }
        }
        self.let_go(at, process, held, is_last);
    }

    fn let_go(&mut self, at: Duration, process: u32, held: &Held, is_last: bool) {
        if is_last {
            let life = self.life(&held.id);
            life.hold = None;
            if life.deaths >= SUSPECT_CRASHES {
                self.freed = at;
            }
            self.processes
                .entry(process)
                .or_default()
                .holds
                .remove(held.id.as_str());
        }
    }

    fn killing(&mut self, at: Duration, killed: u32) {
        self.verdict.killings += 1;
        let process = self.processes.entry(killed).or_default();
        (process.spawned, process.early) = (None, false);
        process.killed = Some(at);
        for id in std::mem::take(&mut process.holds) {
            self.orphan(id, at);
        }
    }

    /// A task's holder has died.
    fn orphan(&mut self, id: Box<str>, at: Duration) {
        let Some(life) = self.lives.get_mut(&id) else { return };
        life.hold = None;
        life.orphaned = Some(at);
        life.deaths += 1;
        if life.deaths >= SUSPECT_CRASHES {
            self.freed = at;
        }
        self.orphans.insert(id);
    }

    /// While a server is away nothing recovers and nobody starts: those clocks begin when it is back.
    fn server(&mut self, at: Duration, what: &str) {
        self.processes.values_mut().for_each(|process| process.spawned = None);
        if self.forgets {
            // What was answered before is written down a moment later, on a busy machine.
            self.forgetful_until = if what == "up" { at + MOMENT } else { Duration::MAX };
            let given = self.lives.values_mut().filter(|life| life.deliveries > 0);
            given.for_each(|life| life.forgotten = true);
        }
        if what == "up" {
            for id in &self.orphans {
                if let Some(life) = self.lives.get_mut(id) {
                    life.orphaned = Some(at);
                }
            }
        }
    }

    /// What it all amounts to, once the queue has been drained.
    pub fn verdict(mut self) -> Verdict {
        let mut faults = Vec::new();
        for (id, life) in &self.lives {
            let verdict = &mut self.verdict;
            verdict.tasks += 1;
            verdict.acked += u64::from(life.acked > 0);
            verdict.dead += u64::from(life.dead.is_some());
            verdict.repeated += u64::from(life.begun.saturating_sub(1));
            verdict.duplicates += u64::from(life.handled.saturating_sub(1));
            if life.published && life.acking == 0 && life.dead.is_none() {
                verdict.lost.push(id.to_string());
            }
            faults.extend(life.fault(Kind::of(id)).map(|fault| format!("{id} {fault}")));
        }
        faults.into_iter().for_each(|fault| self.violation(fault));
        self.verdict
    }
}

impl Life {
    /// What is wrong with an ended life.
    fn fault(&self, kind: Option<Kind>) -> Option<String> {
        let arrived = self.published || self.deliveries > 0;
        let Some((attempts, crashes)) = self.dead else {
            let must_die = matches!(kind, Some(Kind::Poison | Kind::Reject | Kind::Deadly));
            return (arrived && must_die).then(|| "is no dead letter though it had to become one".to_owned());
        };
        if self.acked >= self.publishings {
            return Some("is a dead letter although it was acked".to_owned());
        }
        let told = format!("is a dead letter after {attempts} attempts and {crashes} crashes");
        match kind {
            _ if crashes > CRASHES => Some(told),
            _ if crashes == CRASHES => None,
            Some(Kind::Poison) => (attempts != ATTEMPTS as usize).then_some(told),
            Some(Kind::Reject) => (attempts > ATTEMPTS as usize).then_some(told),
            Some(Kind::Deadly) => Some(told),
            // Its own failure, if it has one, and those that failpoints make.
            _ => (attempts < ATTEMPTS as usize).then_some(told),
        }
    }
}

impl Verdict {
    /// Everything that must not be, in sentences; empty when all is well.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !self.drained {
            faults.push("the queue could not be drained".to_owned());
        }
        if self.unreadable > 0 {
            faults.push(format!("{} lines of the ledger can't be read", self.unreadable));
        }
        if !self.lost.is_empty() {
            let some: Vec<_> = self.lost.iter().take(TOLD).map(String::as_str).collect();
            faults.push(format!("{} tasks are lost: {}", self.lost.len(), some.join(", ")));
        }
        if self.violation_count > 0 {
            faults.push(format!(
                "{} promises are broken: {}",
                self.violation_count,
                self.violations.join("; ")
            ));
        }
        faults
    }
}

#[cfg(test)]
mod tests;
