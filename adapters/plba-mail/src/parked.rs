//! The raw bytes of messages that could not become tasks, as files in a directory: until their dead letters are dropped, or
//! retried with success. Which messages these are is the source's business.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

/// How a whole message's file ends.
const WHOLE: &str = "eml";
/// How the file of something else ends: a message that did not come whole, or an answer in which none is to be found.
const PART: &str = "part";

/// A directory of raw messages, with a limit. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    directory: PathBuf,
    /// How many bytes it holds in all.
    most: u64,
}

impl Parked {
    /// The files in this directory, which is made when there is something to keep: at most `most` bytes of all sources.
    pub fn new(directory: impl Into<PathBuf>, most: u64) -> Self {
        let directory = directory.into();
        Parked { directory, most }
    }

    /// Keeps what came of a message, on the disk when this returns; a whole one instead of a part, and never the other way
    /// round. Answers with the file.
    ///
    /// # Errors
    /// The file can't be written, or the limit is reached.
    pub(crate) async fn keep(&self, source: &str, key: &str, raw: Vec<u8>, whole: bool) -> io::Result<PathBuf> {
        let (parked, stem) = (self.clone(), stem(source, key));
        blocking(move || parked.write(&stem, &raw, whole)).await
    }

    /// The message of this key, if it was kept whole.
    ///
    /// # Errors
    /// The file can't be read.
    pub async fn message(&self, source: &str, key: &str) -> io::Result<Option<Bytes>> {
        let path = self.path(&stem(source, key), true);
        blocking(move || match fs::read(path) {
            Ok(raw) => Ok(Some(raw.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        })
        .await
    }

    /// The keys of this source of which something is kept.
    pub(crate) async fn keys(&self, source: &str) -> io::Result<Vec<String>> {
        let (directory, prefix) = (self.directory.clone(), stem(source, ""));
        blocking(move || {
            let entries = match fs::read_dir(directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                entries => entries?,
            };
            let mut keys = Vec::new();
            for entry in entries {
                let name = entry?.file_name();
                let stem = name.to_str().and_then(|name| name.rsplit_once('.'));
                let stem = stem.filter(|(_, ending)| [WHOLE, PART].contains(ending));
                let key = stem.and_then(|(stem, _)| stem.strip_prefix(&prefix)).and_then(decoded);
                keys.extend(key);
            }
            keys.sort_unstable();
            keys.dedup();
            Ok(keys)
        })
        .await
    }

    /// What is kept of this key is no longer needed.
    pub(crate) async fn remove(&self, source: &str, key: &str) -> io::Result<()> {
        let stem = stem(source, key);
        let paths = [true, false].map(|whole| self.path(&stem, whole));
        blocking(move || paths.iter().try_for_each(|path| gone(fs::remove_file(path)))).await
    }

    fn path(&self, stem: &str, whole: bool) -> PathBuf {
        let ending = if whole { WHOLE } else { PART };
        self.directory.join(format!("{stem}.{ending}"))
    }

    fn write(&self, stem: &str, raw: &[u8], whole: bool) -> io::Result<PathBuf> {
        let (path, other) = (self.path(stem, whole), self.path(stem, !whole));
        if !whole && other.exists() {
            return Ok(other);
        }
        fs::create_dir_all(&self.directory)?;
        let size = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
        let mut taken = 0;
        for entry in fs::read_dir(&self.directory)? {
            taken += entry?.metadata()?.len();
        }
        let left = self.most.saturating_sub(taken - size(&path));
        if raw.len() as u64 > left {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!(
                    "{} would hold more than {} bytes; retry or drop dead letters, or make room",
                    self.directory.display(),
                    self.most
                ),
            ));
        }
        let beside = path.with_extension("new");
        let mut file = File::create(&beside)?;
        file.write_all(raw)?;
        file.sync_all()?;
        fs::rename(&beside, &path)?;
        File::open(&self.directory)?.sync_all()?;
        gone(fs::remove_file(other))?;
        Ok(path)
    }
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The name of a key's files but for their ending: letters, digits and some signs stand for themselves.
fn stem(source: &str, key: &str) -> String {
    format!("{}_{}", encoded(source), encoded(key))
}

fn encoded(text: &str) -> String {
    let letter = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'@' => char::from(byte).to_string(),
        _ => format!("%{byte:02x}"),
    };
    text.bytes().map(letter).collect()
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first == b'%' {
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &rest[2..];
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_kept_is_found_by_source_and_key_until_it_is_removed() {
        let place = plba_testkit::directory::Directory::new();
        let parked = Parked::new(place.path().join("mail"), 100);
        let source = "imap://bot@host/INBOX";
        assert!(parked.keys(source).await.unwrap().is_empty());
        parked.keep(source, "7:1", b"whole".to_vec(), true).await.unwrap();
        parked
            .keep("imap://bot@host/INBOX_2", "7:1", b"other".to_vec(), true)
            .await
            .unwrap();
        parked.keep(source, "7:2", b"par".to_vec(), false).await.unwrap();
        assert_eq!(parked.keys(source).await.unwrap(), ["7:1", "7:2"]);
        assert_eq!(parked.message(source, "7:1").await.unwrap().unwrap(), "whole");
        assert_eq!(parked.message(source, "7:2").await.unwrap(), None);
        // A part comes after the whole, and the whole after a part.
        parked.keep(source, "7:1", b"wh".to_vec(), false).await.unwrap();
        parked.keep(source, "7:2", b"part".to_vec(), true).await.unwrap();
        for (key, message) in [("7:1", "whole"), ("7:2", "part")] {
            assert_eq!(parked.message(source, key).await.unwrap().unwrap(), message);
            parked.remove(source, key).await.unwrap();
        }
        assert!(parked.keys(source).await.unwrap().is_empty());
        assert_eq!(
            fs::read_dir(place.path().join("mail")).unwrap().count(),
            1,
            "the other source's"
        );
    }

    #[tokio::test]
    async fn beyond_its_limit_it_keeps_nothing_more_and_says_so() {
        let place = plba_testkit::directory::Directory::new();
        let parked = Parked::new(place.path(), 10);
        parked.keep("a", "1", vec![0; 6], true).await.unwrap();
        let full = parked.keep("a", "2", vec![0; 5], true).await.unwrap_err();
        assert!(full.to_string().contains("more than 10 bytes"), "{full}");
        // Its own place counts once.
        parked.keep("a", "1", vec![0; 10], true).await.unwrap();
        assert_eq!(parked.keys("a").await.unwrap(), ["1"]);
    }

    #[test]
    fn names_of_files_are_plain_and_tell_the_key() {
        for text in ["7:12", "ä/../b", "%", "a_b.c@d", ""] {
            let name = encoded(text);
            assert!(
                name.bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-.@%".contains(&byte))
            );
            assert_eq!(decoded(&name).as_deref(), Some(text));
        }
        assert_eq!(decoded("%4"), None);
        assert_eq!(decoded("%zz"), None);
    }
}
