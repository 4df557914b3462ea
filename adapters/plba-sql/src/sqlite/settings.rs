//! What is set for a database of tasks: its bounds, how safely it writes, how long it waits.

use std::path::PathBuf;
use std::time::Duration;

use plba_contracts::config::Location;
use plba_tasks::queue::Durability;

/// The settings of a database with tasks. Bounds hold for each named queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqliteSettings {
    /// The file. Its directory must exist.
    pub path: PathBuf,
    /// How many tasks a queue keeps, dead letters not counted, before publishers wait. Default: 1,000,000.
    pub capacity: u64,
    /// How many bytes they may take before publishers wait. Default: 16 GiB.
    pub bytes: u64,
    /// How many bytes one task may take. Default: 64 MiB.
    pub task_bytes: usize,
    /// How many dead letters a queue keeps that was given no rules. Default: 100,000.
    pub dead_capacity: u64,
    /// How many named queues there may be. Default: 1,000.
    pub queues: u64,
    /// How long a lease lasts. Default: 30 s.
    pub lease: Duration,
    /// After how many crashes a task is dead. Default: 5.
    pub maximum_crashes: u32,
    /// When a transaction is on the disk. Default: full.
    pub synchronous: Synchronous,
    /// How long a transaction waits for another process's. Default: 5 s.
    pub busy: Duration,
    /// How long the effect of one completion may keep its transaction open, and with it everybody else waiting.
    /// Default: 5 s.
    pub completion: Duration,
    /// Whether the file may lie on a network file system, whose locks often don't hold. Default: no.
    pub network: bool,
    /// How large the write-ahead log may grow before somebody is told. Default: 256 MiB.
    pub log_bytes: u64,
    /// Seed of the ids it makes; `None` takes one from the system.
    pub seed: Option<u64>,
}

/// When a transaction is on the disk: `PRAGMA synchronous`. `OFF` is not offered, since a crash could damage the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Synchronous {
    /// When it is answered: it survives the loss of power. Leases may be forgotten then, with their count of deliveries: all
    /// who held them are gone with the machine.
    #[default]
    Full,
    /// Some time later: it survives the end of the process, and may be lost with the power. The file stays sound.
    Normal,
}

impl Synchronous {
    pub(super) fn pragma(self) -> &'static str {
        match self {
            Self::Full => "PRAGMA synchronous = FULL",
            Self::Normal => "PRAGMA synchronous = NORMAL",
        }
    }

    /// What tasks survive.
    pub fn durability(self) -> Durability {
        match self {
            Self::Full => Durability::OsCrash,
            Self::Normal => Durability::ProcessCrash,
        }
    }
}

impl SqliteSettings {
    /// The defaults, for the file at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            capacity: 1_000_000,
            bytes: 16 << 30,
            task_bytes: 64 << 20,
            dead_capacity: 100_000,
            queues: 1_000,
            lease: Duration::from_secs(30),
            maximum_crashes: 5,
            synchronous: Synchronous::Full,
            busy: Duration::from_secs(5),
            completion: Duration::from_secs(5),
            network: false,
            log_bytes: 256 << 20,
            seed: None,
        }
    }

    /// Reads a location such as `sqlite:var/queue.db?lease=30&synchronous=full&capacity=1000000`; `lease`, `busy` and
    /// `completion` are in seconds.
    ///
    /// # Errors
    /// No path, an unknown name, or a value that won't do; the sentence names it.
    pub fn read(location: &Location) -> Result<Self, String> {
        let Some(path) = location.path() else {
            return Err(format!(
                "\"{location}\" names no file; write it as \"sqlite:var/queue.db\""
            ));
        };
        let mut settings = Self::new(path);
        for (name, value) in location.query() {
            settings.set(name, value)?;
        }
        settings.validate()?;
        Ok(settings)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let number = || {
            value
                .parse::<u64>()
                .map_err(|_| format!("{name} takes a whole number, not \"{value}\""))
        };
        let small = || usize::try_from(number()?).map_err(|_| format!("{name} is too large"));
        match name {
            "capacity" => self.capacity = number()?,
            "bytes" => self.bytes = number()?,
            "task_bytes" => self.task_bytes = small()?,
            "dead_capacity" => self.dead_capacity = number()?,
            "queues" => self.queues = number()?,
            "lease" => self.lease = Duration::from_secs(number()?),
            "maximum_crashes" => {
                self.maximum_crashes = u32::try_from(number()?).map_err(|_| format!("{name} is too large"))?;
            }
            "busy" => self.busy = Duration::from_secs(number()?),
            "completion" => self.completion = Duration::from_secs(number()?),
            "log_bytes" => self.log_bytes = number()?,
            "synchronous" => {
                self.synchronous = match value.to_ascii_lowercase().as_str() {
                    "full" => Synchronous::Full,
                    "normal" => Synchronous::Normal,
                    "off" => {
                        return Err(
                            "synchronous=off could damage the file when the machine stops, and is refused; \
                                    write full, or normal to lose the latest tasks at most"
                                .to_owned(),
                        );
                    }
                    _ => return Err(format!("synchronous is full or normal, not \"{value}\"")),
                };
            }
            "network" => {
                self.network = match value {
                    "allow" => true,
                    "refuse" => false,
                    _ => return Err(format!("network is allow or refuse, not \"{value}\"")),
                };
            }
            _ => {
                return Err(format!(
                    "\"sqlite:\" knows no \"{name}\", but capacity, bytes, task_bytes, dead_capacity, queues, lease, \
                     maximum_crashes, busy, completion, log_bytes, synchronous, network"
                ));
            }
        }
        Ok(())
    }

    /// Checks ranges.
    ///
    /// # Errors
    /// Every fault, each naming its setting.
    pub fn validate(&self) -> Result<(), String> {
        let mut faults = Vec::new();
        let mut require = |holds: bool, fault: &str| {
            if !holds {
                faults.push(fault.to_owned());
            }
        };
        let small = i64::MAX as u64 / 4;
        require(
            (1..=1_000_000_000).contains(&self.capacity),
            "capacity lies between 1 and 1,000,000,000",
        );
        require(
            (1 << 20..=small).contains(&self.bytes),
            "bytes is at least 1 MiB (1048576)",
        );
        require(
            (1 << 10..=512 << 20).contains(&self.task_bytes),
            "task_bytes lies between 1 KiB (1024) and 512 MiB (536870912)",
        );
        require(self.dead_capacity <= small, "dead_capacity is too large");
        require(
            (1..=100_000).contains(&self.queues),
            "queues lies between 1 and 100,000",
        );
        require(
            (Duration::from_millis(10)..=Duration::from_secs(86_400)).contains(&self.lease),
            "lease lies between 10 ms and a day",
        );
        require(self.maximum_crashes >= 1, "maximum_crashes is at least 1");
        let span = Duration::from_millis(10)..=Duration::from_secs(300);
        require(span.contains(&self.busy), "busy lies between 10 ms and 300 s");
        require(
            span.contains(&self.completion),
            "completion lies between 10 ms and 300 s",
        );
        require(
            (16 << 20..=small).contains(&self.log_bytes),
            "log_bytes is at least 16 MiB (16777216)",
        );
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults.join("; "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_from_the_location() {
        let location = Location::from("sqlite:var/queue.db?lease=60&synchronous=normal&capacity=7&network=allow");
        let settings = SqliteSettings::read(&location).unwrap();
        assert_eq!(
            (settings.path.as_path(), settings.capacity),
            ("var/queue.db".as_ref(), 7)
        );
        assert_eq!((settings.lease, settings.network), (Duration::from_secs(60), true));
        assert_eq!(settings.synchronous.durability(), Durability::ProcessCrash);
        assert_eq!(
            SqliteSettings::new("var/queue.db").synchronous.durability(),
            Durability::OsCrash
        );
    }

    #[test]
    fn faults_in_a_location_are_named() {
        for (location, fault) in [
            ("sqlite:", "names no file"),
            ("sqlite://host/file", "names no file"),
            (
                "sqlite:q.db?capacity=many",
                "capacity takes a whole number, not \"many\"",
            ),
            ("sqlite:q.db?capacity=0", "capacity lies between"),
            ("sqlite:q.db?synchronous=off", "refused"),
            ("sqlite:q.db?network=maybe", "network is allow or refuse"),
            ("sqlite:q.db?size=1", "knows no \"size\""),
        ] {
            let error = SqliteSettings::read(&Location::from(location)).unwrap_err();
            assert!(error.contains(fault), "{location}: {error}");
        }
    }
}
