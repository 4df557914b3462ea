//! The journal file: lines of a checksum and a list of events, appended and synchronised in batches, and rewritten as a
//! whole when it has grown. What the events mean is the book's business.
//!
//! ```text
//! plba-ledger 1
//! 8 hexadecimal digits of the CRC-32C of the rest, a space, a JSON list of events, a line feed
//! …
//! ```
//!
//! A line is one write. The last one may be torn by whatever ended the process or the system: nobody was told that it is
//! kept for good, so it is cut off. A line that is written while lines before it may not be on the disk yet ends with a space:
//! it may outlive those, and what is cut off then ends before the first damaged one. A damaged line *before* a sound one
//! without that space is damage of another kind, and the file is refused.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::OpenLedgerError;
use super::event::Event;

const NAME: &str = "plba-ledger";
const VERSION: u32 = 1;
/// How many events a line of a snapshot holds.
const SNAPSHOT_LINE: usize = 500;
/// Ends a line that may outlive those before it. JSON doesn't mind it.
const EARLY: u8 = b' ';

/// An open journal.
pub(super) struct Journal {
    path: PathBuf,
    file: Arc<File>,
    /// Where the next line begins.
    end: u64,
    /// Up to here it is on the disk.
    synchronised: u64,
    /// Length after the latest rewrite.
    base: u64,
    /// A write failed: what the file holds is unknown until it is rewritten.
    suspect: bool,
}

impl Journal {
    /// Opens the journal, or makes one, and gives its events to `replay`.
    pub(super) fn open(path: &Path, mut replay: impl FnMut(&Event)) -> Result<Self, OpenLedgerError> {
        let failed = |source| OpenLedgerError::Io {
            path: path.to_owned(),
            source,
        };
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(failed)?;
        }
        let content = match std::fs::read(path) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed(error)),
        };
        let header = header();
        if content.len() < header.len() && header.as_bytes().starts_with(&content) {
            return Self::create(path).map_err(failed);
        }
        let events = check_header(path, &content)?;
        let end = read(path, &content, events, &mut replay)?;
        let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
        file.set_len(end as u64).map_err(failed)?;
        file.seek(SeekFrom::Start(end as u64)).map_err(failed)?;
        // What the last process wrote need not be on the disk.
        file.sync_data().map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            file: Arc::new(file),
            end: end as u64,
            synchronised: end as u64,
            base: end as u64,
            suspect: false,
        })
    }

    fn create(path: &Path) -> io::Result<Self> {
        let (file, end) = replace(path, std::iter::empty())?;
        Ok(Self {
            path: path.to_owned(),
            file: Arc::new(file),
            end,
            synchronised: end,
            base: end,
            suspect: false,
        })
    }

    /// Appends events as one line: they survive the end of the process. The end of the operating system they survive once
    /// what is [unsynchronised](Self::unsynchronised) has been synchronised.
    pub(super) fn append(&mut self, events: &[&Event]) -> io::Result<()> {
        let line = line(events, self.synchronised < self.end)?;
        let written = (&*self.file).write_all(&line);
        if written.is_err() {
            self.suspect = true;
            return written;
        }
        self.end += line.len() as u64;
        Ok(())
    }

    /// What may not be on the disk yet; `None` if all is. To be synchronised without holding the journal, and then
    /// [told](Self::synchronised).
    pub(super) fn unsynchronised(&self) -> Option<Unsynchronised> {
        (self.synchronised < self.end).then(|| Unsynchronised {
            file: Arc::clone(&self.file),
            end: self.end,
        })
    }

    /// How a synchronisation has ended.
    pub(super) fn synchronised(&mut self, what: &Unsynchronised, result: io::Result<()>) -> io::Result<()> {
        match &result {
            Ok(()) => self.synchronised = self.synchronised.max(what.end),
            // Nobody knows what is on the disk; only a new file can be trusted.
            Err(_) => self.suspect = true,
        }
        result
    }

    /// Makes every write fail until the next rewrite.
    #[cfg(test)]
    pub(super) fn break_file(&mut self) -> io::Result<()> {
        self.file = Arc::new(File::open(&self.path)?);
        Ok(())
    }

    /// Whether the file must be rewritten before anything else is appended.
    pub(super) fn is_suspect(&self) -> bool {
        self.suspect
    }

    /// Whether the file has grown so much that a rewrite pays.
    pub(super) fn is_overgrown(&self, floor: u64) -> bool {
        self.end > floor.max(self.base.saturating_mul(2))
    }

    /// Puts a new file with just these events in the place of the old one, at once and for good.
    pub(super) fn rewrite(&mut self, events: impl Iterator<Item = Event>) -> io::Result<()> {
        let (file, end) = replace(&self.path, events)?;
        self.file = Arc::new(file);
        (self.end, self.synchronised, self.base, self.suspect) = (end, end, end, false);
        Ok(())
    }
}

/// The part of a journal that may not be on the disk yet.
pub(super) struct Unsynchronised {
    file: Arc<File>,
    end: u64,
}

impl Unsynchronised {
    /// Puts it there. Others may write to the journal meanwhile.
    pub(super) fn synchronise(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

fn header() -> String {
    format!("{NAME} {VERSION}\n")
}

/// Checks the first line and gives where the events begin.
fn check_header(path: &Path, content: &[u8]) -> Result<usize, OpenLedgerError> {
    let length = content.iter().position(|byte| *byte == b'\n').unwrap_or(content.len());
    let first = std::str::from_utf8(&content[..length]).unwrap_or_default();
    let version = first
        .strip_prefix(NAME)
        .and_then(|rest| rest.trim().parse::<u32>().ok());
    match version {
        Some(VERSION) => Ok(length + 1),
        Some(found) if found > VERSION => Err(OpenLedgerError::Newer {
            path: path.to_owned(),
            found,
            known: VERSION,
        }),
        _ => Err(OpenLedgerError::Foreign { path: path.to_owned() }),
    }
}

/// Replays the lines, and gives where the last sound one ends.
fn read(path: &Path, content: &[u8], start: usize, replay: &mut impl FnMut(&Event)) -> Result<usize, OpenLedgerError> {
    let mut place = start;
    while let Some(length) = content[place..].iter().position(|byte| *byte == b'\n') {
        let Some(events) = parse(&content[place..place + length]) else {
            break;
        };
        events.iter().for_each(&mut *replay);
        place += length + 1;
    }
    let sound = |rest: &[u8]| rest.last() != Some(&EARLY) && parse(rest).is_some();
    let rest = &content[place..];
    if rest.split(|byte| *byte == b'\n').skip(1).any(sound) {
        let line = content[..place].iter().filter(|byte| **byte == b'\n').count() + 1;
        return Err(OpenLedgerError::Damaged {
            path: path.to_owned(),
            line,
        });
    }
    Ok(place)
}

fn parse(line: &[u8]) -> Option<Vec<Event>> {
    let (sum, events) = line.split_at_checked(9)?;
    let sum = u32::from_str_radix(std::str::from_utf8(sum).ok()?.trim_end(), 16).ok()?;
    if crc32c(events) != sum {
        return None;
    }
    serde_json::from_slice(events).ok()
}

fn line(events: &[&Event], early: bool) -> io::Result<Vec<u8>> {
    let mut line = vec![b' '; 9];
    serde_json::to_writer(&mut line, events)?;
    line.extend(early.then_some(EARLY));
    let sum = format!("{:08x}", crc32c(&line[9..]));
    line[..8].copy_from_slice(sum.as_bytes());
    line.push(b'\n');
    Ok(line)
}

/// Writes a file beside the old one, synchronises it, puts it in the old one's place and synchronises the directory.
fn replace(path: &Path, events: impl Iterator<Item = Event>) -> io::Result<(File, u64)> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&beside)?;
    let mut end = header().len() as u64;
    file.write_all(header().as_bytes())?;
    let mut events = events.peekable();
    while events.peek().is_some() {
        let batch: Vec<Event> = events.by_ref().take(SNAPSHOT_LINE).collect();
        let line = line(&batch.iter().collect::<Vec<_>>(), false)?;
        file.write_all(&line)?;
        end += line.len() as u64;
    }
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        // A directory can't be opened on every system; where it can't, the rename is as durable as it gets.
        if let Ok(directory) = File::open(directory) {
            directory.sync_all()?;
        }
    }
    Ok((file, end))
}

/// CRC-32C (Castagnoli), RFC 3720 appendix B.4.
fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut index = 0;
        while index < 256 {
            let mut value = index as u32;
            let mut bit = 0;
            while bit < 8 {
                value = if value & 1 == 1 {
                    (value >> 1) ^ 0x82f6_3b78
                } else {
                    value >> 1
                };
                bit += 1;
            }
            table[index] = value;
            index += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |sum, byte| {
        TABLE[((sum ^ u32::from(*byte)) & 0xff) as usize] ^ (sum >> 8)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(cursor: &str) -> Event {
        Event::Cursor {
            source: "inbox".into(),
            cursor: cursor.into(),
        }
    }

    fn cursors(path: &Path) -> Result<Vec<String>, OpenLedgerError> {
        let mut found = Vec::new();
        Journal::open(path, |event| {
            if let Event::Cursor { cursor, .. } = event {
                found.push(cursor.clone());
            }
        })?;
        Ok(found)
    }

    #[test]
    fn the_checksum_is_the_one_of_the_rfc() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    /// Of two lines on their way to the disk the system may have written only the second before it ended.
    #[test]
    fn a_line_that_outlives_an_unsynchronised_one_goes_with_it() {
        let path = std::env::temp_dir().join(format!("plba-journal-{}", std::process::id()));
        drop(std::fs::remove_file(&path));
        let mut journal = Journal::open(&path, |_| {}).unwrap();
        let places: Vec<u64> = ["a", "b", "c", "d"]
            .map(|text| {
                let place = journal.end;
                journal.append(&[&cursor(text)]).unwrap();
                if text == "a" {
                    let all = journal.unsynchronised().unwrap();
                    journal.synchronised(&all, all.synchronise()).unwrap();
                }
                place
            })
            .into();
        drop(journal);
        let whole = std::fs::read(&path).unwrap();
        let with_damage_at = |place: u64| {
            let mut content = whole.clone();
            content[place as usize + 12] ^= 1;
            std::fs::write(&path, content).unwrap();
        };
        for (damaged, left) in [(3, vec!["a", "b", "c"]), (2, vec!["a", "b"]), (1, vec!["a"])] {
            with_damage_at(places[damaged]);
            assert_eq!(cursors(&path).unwrap(), left);
        }
        // `b` was written when `a` was on the disk: that `a` is damaged is the disk's doing.
        with_damage_at(places[0]);
        assert!(matches!(cursors(&path), Err(OpenLedgerError::Damaged { line: 2, .. })));
        std::fs::remove_file(&path).unwrap();
    }
}
