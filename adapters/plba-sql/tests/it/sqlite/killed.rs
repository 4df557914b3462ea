//! Failures 1 and 38: processes that are killed while they publish, take, end and extend, and what is left of their tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use plba_contracts::clock::Clock;
use plba_sql::sqlite::{SqliteSettings, SqliteTaskQueue};
use plba_tasks::queue::{DeadFilter, Delivery, Ending, How, TaskQueue};
use plba_tasks::task::{NewTask, QueueName};
use plba_testkit::{child, runtime};

use super::ground::{Ground, consumer, sound};

pub(super) const PLACE: &str = "PLBA_SQL_KILLED";
const LEASE: Duration = Duration::from_millis(300);
const KILLS: u64 = 25;

/// The machine's time of day, which all its processes share.
pub(super) struct TimeOfDay(pub(super) Instant);

impl Clock for TimeOfDay {
    fn now(&self) -> Timestamp {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        Timestamp::new(now.tv_sec, i32::try_from(now.tv_nsec).unwrap()).unwrap()
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

async fn open(path: &Path) -> SqliteTaskQueue {
    let settings = SqliteSettings {
        lease: LEASE,
        maximum_crashes: 1_000,
        ..SqliteSettings::new(path)
    };
    SqliteTaskQueue::open(settings, Arc::new(TimeOfDay(Instant::now())))
        .await
        .unwrap()
}

/// What a child says of what it does; said only once it is so, but for the begin of an ack.
fn say(what: char, id: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{what} {id}").unwrap();
    out.flush().unwrap();
}

/// The child: publishes and carries out tasks until it is killed.
#[test]
fn child() {
    let Some(path) = std::env::var_os(PLACE) else { return };
    runtime::real(async {
        let queue = open(Path::new(&path)).await;
        let publisher = queue.clone();
        let publishing = async move {
            for batch in 0..u32::MAX {
                let ids: Vec<String> = (0..5)
                    .map(|number| format!("{}-{batch}-{number}", std::process::id()))
                    .collect();
                let large = vec![7; if batch % 7 == 0 { 3_000 } else { 10 }];
                let task = |id: &String| NewTask::new("orders", "test", large.clone()).with_id(id.as_str());
                if publisher.publish(ids.iter().map(task).collect()).await.is_ok() {
                    ids.iter().for_each(|id| say('p', id));
                }
            }
        };
        let consuming = async {
            for round in 0..u32::MAX {
                let taken = queue.consume(&QueueName::from("orders"), &consumer(), 8).await.unwrap();
                let tokens: Vec<_> = taken.iter().map(|delivery| delivery.token.clone()).collect();
                if round % 3 == 0 {
                    queue.extend(&tokens).await.unwrap();
                }
                let ids: Vec<String> = taken.iter().map(|delivery| delivery.task.id.to_string()).collect();
                let how = |place: usize| match (round as usize + place) % 5 {
                    0 => How::Nack {
                        delay: Duration::from_millis(5),
                        reason: "no luck".to_owned(),
                    },
                    1 => How::Release { delay: Duration::ZERO },
                    _ => How::ack(Vec::new()),
                };
                let acked: Vec<bool> = (0..ids.len())
                    .map(|place| matches!(how(place), How::Ack { .. }))
                    .collect();
                for (id, _) in ids.iter().zip(&acked).filter(|(_, acked)| **acked) {
                    say('b', id);
                }
                let endings = tokens
                    .into_iter()
                    .enumerate()
                    .map(|(place, token)| Ending { token, how: how(place) });
                let ended = queue.end(endings.collect()).await.unwrap();
                for ((id, acked), ended) in ids.iter().zip(acked).zip(ended) {
                    if acked && ended.is_ok() {
                        say('a', id);
                    }
                }
            }
        };
        futures_util::future::join(publishing, consuming).await;
    });
}

/// What the children said.
#[derive(Default)]
pub(super) struct Book {
    pub(super) published: BTreeSet<String>,
    pub(super) begun: BTreeSet<String>,
    pub(super) acked: BTreeMap<String, u32>,
}

impl Book {
    /// Reads a line; says whether a child said it.
    pub(super) fn read(&mut self, line: &str) -> bool {
        let Some((what, id)) = line.split_once(' ').filter(|(what, _)| what.len() == 1) else {
            return false;
        };
        match what {
            "p" => drop(self.published.insert(id.to_owned())),
            "b" => drop(self.begun.insert(id.to_owned())),
            "a" => *self.acked.entry(id.to_owned()).or_default() += 1,
            _ => return false,
        }
        true
    }

    fn run(&mut self, path: &Path, life: Duration) {
        let mut child = child::command("sqlite::killed::child")
            .env(PLACE, path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let began = Instant::now();
        // The rest of what it said is still read after its death.
        let mut killed = false;
        let mut working = None;
        while let Some(Ok(line)) = lines.next() {
            if !self.read(&line) {
                continue;
            }
            let working = working.get_or_insert_with(Instant::now);
            if !killed && working.elapsed() >= life {
                child.kill().unwrap();
                killed = true;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "the child goes on and on");
        }
        child.wait().unwrap();
    }
}

#[test]
fn failure_1_killed_processes_lose_nothing_and_repeat_nothing_that_was_acked() {
    let ground = Ground::new();
    let mut book = Book::default();
    for kill in 0..KILLS {
        book.run(&ground.path, Duration::from_millis(20 + kill * 37 % 150));
        if kill % 8 == 0 {
            sound(&ground.path);
        }
    }
    let mut left = BTreeSet::new();
    runtime::real(async {
        let queue = open(&ground.path).await;
        let name = QueueName::from("orders");
        while let Ok(taken) = tokio::time::timeout(LEASE * 4, queue.consume(&name, &consumer(), 100)).await {
            let taken = taken.unwrap();
            let ids: Vec<String> = taken.iter().map(|delivery| delivery.task.id.to_string()).collect();
            let ack = |delivery: Delivery| Ending {
                token: delivery.token,
                how: How::ack(Vec::new()),
            };
            let ended = queue.end(taken.into_iter().map(ack).collect()).await.unwrap();
            // On a busy machine a lease may run out on the way; the task comes once more.
            for (id, _) in ids.into_iter().zip(ended).filter(|(_, ended)| ended.is_ok()) {
                assert!(left.insert(id.clone()), "{id} was acked twice");
            }
        }
        let dead = queue.dead_letters(&DeadFilter::default(), None, 10).await.unwrap();
        assert!(dead.letters.is_empty(), "{dead:?}");
    });
    sound(&ground.path);
    let lost: Vec<_> = book
        .published
        .iter()
        .filter(|id| !book.acked.contains_key(*id) && !book.begun.contains(*id) && !left.contains(*id))
        .collect();
    let repeated: Vec<_> = book.acked.keys().filter(|id| left.contains(*id)).collect();
    let twice: Vec<_> = book.acked.iter().filter(|(_, count)| **count > 1).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    assert!(repeated.is_empty(), "acked, and there again: {repeated:?}");
    assert!(twice.is_empty(), "acked twice: {twice:?}");
    assert!(
        book.acked.len() > 500 && book.published.len() > 500,
        "too little was done to say anything: {} published, {} acked",
        book.published.len(),
        book.acked.len()
    );
}
