//! What is written down while children are tortured: one line for each thing that is about to happen or has happened,
//! appended by a single write, so that a process's death leaves whole lines and an order that is that of all processes.
//! What the lines mean is the judge's business.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use plba_contracts::clock::Clock;

use super::machine::MachineClock;

/// A file that several processes append to.
pub(super) struct Recorder {
    file: File,
    process: u32,
}

impl Recorder {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self {
            file,
            process: std::process::id(),
        })
    }

    /// Writes a line down. Once it returns, the line survives the end of every process.
    ///
    /// # Panics
    /// When the file can't be written to: what is not written down can't be judged.
    pub(super) fn write(&self, event: &Event) {
        self.write_all(std::slice::from_ref(event));
    }

    /// Writes several lines down at once.
    pub(super) fn write_all(&self, events: &[Event]) {
        let (now, mut lines) = (MachineClock.monotonic().as_micros(), String::new());
        for event in events {
            // Writing to memory can't fail.
            let _ = writeln!(lines, "{now} {} {}", self.process, event.text());
        }
        if let Err(error) = (&self.file).write_all(lines.as_bytes()) {
            panic!("the ledger of the torture can't be written: {error}");
        }
    }
}

/// A delivery, as far as it is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) id: String,
    pub(super) fence: u64,
}

/// How an ending went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It took effect.
    Done,
    /// The lease was lost.
    Lost,
    /// Nobody knows.
    Unknown,
}

/// Which way a delivery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Ack,
    Nack,
    Bury,
    Release,
}

/// What happens to tasks and processes. Names have no blanks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The parent has started this process.
    Spawned(u32),
    /// A process has opened the queue.
    Ready,
    /// This process will be killed now.
    Killing(u32),
    /// A server was killed, or is up again.
    Server(&'static str),
    /// A failpoint was reached, and its action follows.
    Hit,
    Publishing(String),
    Published(String),
    Took(Held, u32),
    Began(Held),
    Handled(Held),
    Extending(Held),
    Extended(Held, Answer),
    /// An ending is on its way, with these follow-ups.
    Ending(Held, Way, Vec<String>),
    Ended(Held, Way, Answer),
    /// It lies among the dead letters, after so many attempts and so many crashes.
    Dead(String, usize, usize),
    /// Nothing waits and nothing is in hand.
    Drained,
}

impl Event {
    fn text(&self) -> String {
        let held = |held: &Held| format!("{} {}", held.id, held.fence);
        match self {
            Self::Spawned(process) => format!("spawned {process}"),
            Self::Ready => "ready".to_owned(),
            Self::Killing(process) => format!("killing {process}"),
            Self::Server(what) => format!("server {what}"),
            Self::Hit => "hit".to_owned(),
            Self::Publishing(id) => format!("publishing {id}"),
            Self::Published(id) => format!("published {id}"),
            Self::Took(what, deliveries) => format!("took {} {deliveries}", held(what)),
            Self::Began(what) => format!("began {}", held(what)),
            Self::Handled(what) => format!("handled {}", held(what)),
            Self::Extending(what) => format!("extending {}", held(what)),
            Self::Extended(what, answer) => format!("extended {} {}", held(what), answer.text()),
            Self::Ending(what, way, then) => format!("ending {} {} {}", held(what), way.text(), then.join(" ")),
            Self::Ended(what, way, answer) => format!("ended {} {} {}", held(what), way.text(), answer.text()),
            Self::Dead(id, attempts, crashes) => format!("dead {id} {attempts} {crashes}"),
            Self::Drained => "drained".to_owned(),
        }
    }
}

impl Answer {
    fn text(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Lost => "lost",
            Self::Unknown => "unknown",
        }
    }

    fn read(text: &str) -> Option<Self> {
        [Self::Done, Self::Lost, Self::Unknown]
            .into_iter()
            .find(|answer| answer.text() == text)
    }
}

impl Way {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Ack => "ack",
            Self::Nack => "nack",
            Self::Bury => "bury",
            Self::Release => "release",
        }
    }

    fn read(text: &str) -> Option<Self> {
        [Self::Ack, Self::Nack, Self::Bury, Self::Release]
            .into_iter()
            .find(|way| way.text() == text)
    }
}

/// A line of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Since the machine was started.
    pub(super) at: Duration,
    pub(super) process: u32,
    pub(super) event: Event,
}

impl Line {
    /// Reads a line; `None` for one that no process writes.
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let at = Duration::from_micros(words.next()?.parse().ok()?);
        let process = words.next()?.parse().ok()?;
        let name = words.next()?;
        let event = match name {
            "spawned" => Event::Spawned(words.next()?.parse().ok()?),
            "ready" => Event::Ready,
            "killing" => Event::Killing(words.next()?.parse().ok()?),
            "server" => Event::Server(if words.next()? == "killed" { "killed" } else { "up" }),
            "hit" => Event::Hit,
            "drained" => Event::Drained,
            "publishing" => Event::Publishing(words.next()?.to_owned()),
            "published" => Event::Published(words.next()?.to_owned()),
            "dead" => Event::Dead(
                words.next()?.to_owned(),
                words.next()?.parse().ok()?,
                words.next()?.parse().ok()?,
            ),
            _ => Self::of_delivery(name, words)?,
        };
        Some(Self { at, process, event })
    }

    fn of_delivery<'a>(name: &str, mut words: impl Iterator<Item = &'a str>) -> Option<Event> {
        let held = Held {
            id: words.next()?.to_owned(),
            fence: words.next()?.parse().ok()?,
        };
        Some(match name {
            "took" => Event::Took(held, words.next()?.parse().ok()?),
            "began" => Event::Began(held),
            "handled" => Event::Handled(held),
            "extending" => Event::Extending(held),
            "extended" => Event::Extended(held, Answer::read(words.next()?)?),
            "ending" => {
                let way = Way::read(words.next()?)?;
                let then = words.filter(|word| !word.is_empty()).map(str::to_owned);
                Event::Ending(held, way, then.collect())
            }
            "ended" => Event::Ended(held, Way::read(words.next()?)?, Answer::read(words.next()?)?),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::Directory;

    #[test]
    fn what_is_written_is_read_again() {
        let directory = Directory::new();
        let path = directory.path().join("ledger");
        let recorder = Recorder::open(&path).unwrap();
        let held = || Held {
            id: "1.7".to_owned(),
            fence: u64::MAX,
        };
        let events = [
            Event::Spawned(7),
            Event::Ready,
            Event::Killing(7),
            Event::Server("killed"),
            Event::Hit,
            Event::Publishing("a".to_owned()),
            Event::Published("a".to_owned()),
            Event::Took(held(), 3),
            Event::Began(held()),
            Event::Handled(held()),
            Event::Extending(held()),
            Event::Extended(held(), Answer::Lost),
            Event::Ending(held(), Way::Ack, vec!["1.7.then".to_owned()]),
            Event::Ending(held(), Way::Release, Vec::new()),
            Event::Ended(held(), Way::Bury, Answer::Unknown),
            Event::Dead("1.7".to_owned(), 3, 1),
            Event::Drained,
        ];
        recorder.write_all(&events);
        let text = std::fs::read_to_string(&path).unwrap();
        let read: Vec<Event> = text.lines().map(|line| Line::read(line).unwrap().event).collect();
        assert_eq!(read, events);
        assert_eq!(Line::read("12 7 sang"), None);
        assert_eq!(Line::read("12 7 took a"), None);
    }
}
