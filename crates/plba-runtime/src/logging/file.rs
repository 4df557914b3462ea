//! A log file that stays where it was asked for: begun anew with each day or hour, and whenever somebody has renamed or
//! removed it, as programs that rotate logs do. Old ones of its own are removed. How errors are borne is in `output`.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use plba_contracts::clock::Clock;

use super::config::{LogFileConfig, Rotation};

/// A file, and where it has to be. Every line is looked after: whoever removes the file loses no line that comes later.
pub(super) struct LogFile {
    path: PathBuf,
    rotation: Rotation,
    max_files: usize,
    clock: Arc<dyn Clock>,
    /// None after it could not be opened.
    open: Option<Open>,
}

/// What is open, for how long, and which file that is.
struct Open {
    file: File,
    path: PathBuf,
    identity: (u64, u64),
    /// Never, without rotation.
    until: Option<Timestamp>,
}

impl LogFile {
    /// Opens it; missing directories are made.
    pub(super) fn open(path: &Path, config: &LogFileConfig, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let mut log = Self {
            path: path.to_owned(),
            rotation: config.rotation,
            max_files: config.max_files as usize,
            clock,
            open: None,
        };
        log.at_its_place()?;
        Ok(log)
    }

    /// The file to write to now.
    fn at_its_place(&mut self) -> io::Result<&mut File> {
        let now = self.clock.now();
        if !self.open.as_ref().is_some_and(|open| open.is_current(now)) {
            // What can't be opened must not go on into a file that nobody finds.
            self.open = None;
        }
        let open = match self.open.take() {
            Some(open) => open,
            None => self.begin(now)?,
        };
        Ok(&mut self.open.insert(open).file)
    }

    fn begin(&self, now: Timestamp) -> io::Result<Open> {
        let (path, until) = match self.period(now) {
            None => (self.path.clone(), None),
            Some((date, until)) => (self.path.with_file_name(self.dated(&date)), Some(until)),
        };
        let opening = || OpenOptions::new().create(true).append(true).open(&path);
        let file = opening().or_else(|error| {
            let directory = path.parent().filter(|_| error.kind() == io::ErrorKind::NotFound);
            fs::create_dir_all(directory.ok_or(error)?)?;
            opening()
        })?;
        let identity = identity(&file.metadata()?);
        if until.is_some() {
            // What can't be removed stays.
            let _ = self.remove_old_ones();
        }
        Ok(Open {
            file,
            path,
            identity,
            until,
        })
    }

    /// The date in the name of a file that is begun now, and when its time is over.
    fn period(&self, now: Timestamp) -> Option<(String, Timestamp)> {
        let (seconds, format) = match self.rotation {
            Rotation::Never => return None,
            Rotation::Hourly => (3_600, "%Y-%m-%d-%H"),
            Rotation::Daily => (86_400, "%Y-%m-%d"),
        };
        let begun = now.as_second().div_euclid(seconds) * seconds;
        let at = |second| Timestamp::from_second(second).unwrap_or(Timestamp::MAX);
        Some((at(begun).strftime(format).to_string(), at(begun + seconds)))
    }

    /// The date goes before the extension.
    fn dated(&self, date: &str) -> String {
        let (before, after) = self.round_the_date();
        format!("{before}{date}{after}")
    }

    fn round_the_date(&self) -> (String, String) {
        let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let extension = self.path.extension().map(|extension| text(Some(extension)));
        let after = extension.map_or_else(String::new, |extension| format!(".{extension}"));
        (format!("{}.", text(self.path.file_stem())), after)
    }

    /// Keeps so many of the latest files of this log.
    fn remove_old_ones(&self) -> io::Result<()> {
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let (before, after) = self.round_the_date();
        let dated = |name: &str| {
            let date = name.strip_prefix(&before).and_then(|rest| rest.strip_suffix(&after));
            date.is_some_and(|date| date.len() >= 10 && date.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit()))
        };
        let mut names: Vec<String> = fs::read_dir(directory.unwrap_or(Path::new(".")))?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| dated(name))
            .collect();
        // Dates sort as text.
        names.sort_unstable_by(|one, other| other.cmp(one));
        for name in names.iter().skip(self.max_files) {
            fs::remove_file(self.path.with_file_name(name))?;
        }
        Ok(())
    }
}

impl Open {
    /// Whether its time is not over, and it lies where it was opened. Where nobody can look, it is taken to.
    fn is_current(&self, now: Timestamp) -> bool {
        let in_time = self.until.is_none_or(|until| now < until);
        in_time
            && match fs::metadata(&self.path) {
                Ok(found) => identity(&found) == self.identity,
                Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
            }
    }
}

/// Which file it is, whatever it is called.
fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

impl Write for LogFile {
    /// Writes a whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.at_its_place()?.write_all(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.open.as_mut().map_or(Ok(()), |open| open.file.flush())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use jiff::SignedDuration;

    use super::*;

    /// A time that is set by hand.
    struct Set(Mutex<Timestamp>);

    impl Clock for Set {
        fn now(&self) -> Timestamp {
            *self.0.lock().unwrap()
        }

        fn monotonic(&self) -> Duration {
            Duration::ZERO
        }
    }

    /// A log in a directory of its own, and the hands of whoever else is about.
    struct Ground {
        directory: PathBuf,
        clock: Arc<Set>,
        log: LogFile,
    }

    impl Ground {
        fn new(name: &str, rotation: Rotation) -> Self {
            let directory = std::env::temp_dir().join(format!("plba-log-file-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&directory);
            let clock = Arc::new(Set(Mutex::new("2026-11-22T23:59:58Z".parse().unwrap())));
            let config = LogFileConfig {
                rotation,
                max_files: 2,
                ..LogFileConfig::default()
            };
            let log = LogFile::open(&directory.join("bot.log"), &config, Arc::clone(&clock) as _).unwrap();
            Self { directory, clock, log }
        }

        fn say(&mut self, line: &str) {
            self.log.write_all(format!("{line}\n").as_bytes()).unwrap();
        }

        fn wait(&self, seconds: i64) {
            let mut now = self.clock.0.lock().unwrap();
            *now += SignedDuration::from_secs(seconds);
        }

        fn said(&self, name: &str) -> String {
            fs::read_to_string(self.directory.join(name)).unwrap()
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.directory).unwrap();
            let mut names: Vec<String> = entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort_unstable();
            names
        }
    }

    impl Drop for Ground {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }

    #[test]
    fn a_day_has_a_file_and_old_ones_go() {
        let mut ground = Ground::new("days", Rotation::Daily);
        fs::write(ground.directory.join("bot.notes.log"), "mine").unwrap();
        for day in ["one", "two", "three"] {
            ground.say(day);
            ground.wait(24 * 3_600);
        }
        assert_eq!(
            ground.names(),
            ["bot.2026-11-23.log", "bot.2026-11-24.log", "bot.notes.log"]
        );
        assert_eq!(ground.said("bot.2026-11-24.log"), "three\n");
    }

    #[test]
    fn an_hour_ends_on_the_hour() {
        let mut ground = Ground::new("hours", Rotation::Hourly);
        ground.say("before");
        ground.wait(1);
        ground.say("still before");
        ground.wait(1);
        ground.say("after");
        assert_eq!(ground.names(), ["bot.2026-11-22-23.log", "bot.2026-11-23-00.log"]);
        assert_eq!(ground.said("bot.2026-11-22-23.log"), "before\nstill before\n");
    }

    #[test]
    fn failure_42_a_file_that_somebody_renames_goes_on_under_its_own_name() {
        for (rotation, name) in [(Rotation::Never, "bot.log"), (Rotation::Daily, "bot.2026-11-22.log")] {
            let mut ground = Ground::new("renamed", rotation);
            ground.say("one");
            fs::rename(ground.directory.join(name), ground.directory.join("bot.log.1")).unwrap();
            ground.say("two");
            assert_eq!((&*ground.said("bot.log.1"), &*ground.said(name)), ("one\n", "two\n"));
            // As programs that rotate do when they are told to make the next file themselves.
            fs::rename(ground.directory.join(name), ground.directory.join("bot.log.2")).unwrap();
            fs::write(ground.directory.join(name), "begun by another\n").unwrap();
            ground.say("three");
            assert_eq!(ground.said(name), "begun by another\nthree\n");
        }
    }

    #[test]
    fn failure_42_a_file_that_somebody_empties_goes_on_from_its_beginning() {
        let mut ground = Ground::new("emptied", Rotation::Never);
        ground.say("one");
        fs::write(ground.directory.join("bot.log"), "").unwrap();
        ground.say("two");
        assert_eq!(ground.said("bot.log"), "two\n");
    }

    #[test]
    fn failure_42_a_file_that_somebody_removes_is_made_anew_with_its_directory() {
        let mut ground = Ground::new("removed", Rotation::Never);
        ground.say("one");
        fs::remove_file(ground.directory.join("bot.log")).unwrap();
        ground.say("two");
        assert_eq!(ground.said("bot.log"), "two\n");
        fs::remove_dir_all(&ground.directory).unwrap();
        ground.say("three");
        assert_eq!(ground.said("bot.log"), "three\n");
    }

    #[test]
    fn failure_42_a_place_that_can_not_be_had_is_an_error_for_each_line_until_it_can() {
        let mut ground = Ground::new("taken", Rotation::Never);
        ground.say("one");
        let place = ground.directory.join("bot.log");
        fs::remove_file(&place).unwrap();
        fs::create_dir(&place).unwrap();
        assert!(ground.log.write_all(b"two\n").is_err());
        assert!(ground.log.write_all(b"three\n").is_err());
        fs::remove_dir(&place).unwrap();
        ground.say("four");
        assert_eq!(ground.said("bot.log"), "four\n");
    }
}
