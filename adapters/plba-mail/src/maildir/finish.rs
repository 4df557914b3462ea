//! What becomes of messages in a Maildir that are over: flags in their file names, and the way to another folder. One
//! rename does both, so that a crash finds a message finished or not, and never half.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use super::folder::{Entry, Maildir, MaildirError, failed};
use super::name::Name;

/// What became of messages that were to be finished.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Finished {
    /// These are marked now, and in the other folder if there is one.
    pub done: Vec<String>,
    /// There are no such files in this folder, any more.
    pub gone: Vec<String>,
}

impl Maildir {
    /// Another folder of the same account, by its name with `/` between levels, made if it is not there: a Maildir++
    /// directory, which mail servers show below the inbox. See <https://www.courier-mta.org/imap/README.maildirquota.html>.
    pub fn folder(&self, name: &str) -> Result<Maildir, MaildirError> {
        let path = self.root().join(format!(".{}", name.replace('/', ".")));
        let folder = Maildir::create(&path)?;
        let sign = path.join("maildirfolder");
        if !sign.exists() {
            fs::write(&sign, b"").map_err(failed("create", &sign))?;
        }
        Ok(folder)
    }

    /// Moves messages into `cur`, of this folder or of another one, with these flags and all flags they had. Doing it twice
    /// does nothing.
    ///
    /// Other programs rename files during the listing and between it and the move: what was not found or had moved is
    /// tried again with a new listing. Only what two listings miss is gone.
    pub fn finish<'k>(
        &self,
        keys: impl IntoIterator<Item = &'k str>,
        flags: &str,
        target: Option<&Maildir>,
    ) -> Result<Finished, MaildirError> {
        const ROUNDS: usize = 50;
        let mut finished = Finished::default();
        let mut missed: BTreeSet<&str> = BTreeSet::new();
        let mut left: Vec<&str> = keys.into_iter().collect();
        for _ in 0..ROUNDS {
            if left.is_empty() {
                break;
            }
            let entries = self.by_key()?;
            let mut again = Vec::new();
            for key in left {
                match entries.get(key) {
                    Some(entry) if self.finish_one(entry, flags, target)? => finished.done.push(key.to_owned()),
                    None if !missed.insert(key) => finished.gone.push(key.to_owned()),
                    _ => again.push(key),
                }
            }
            left = again;
        }
        target.map_or(Ok(()), Maildir::sync)?;
        self.sync()?;
        match left.first() {
            None => Ok(finished),
            Some(key) => Err(failed("mark", &self.root().join(key))(io::Error::other(
                "another program renames it all the time",
            ))),
        }
    }

    /// Renames one file; `false` if it is no longer where it was.
    fn finish_one(&self, entry: &Entry, flags: &str, target: Option<&Maildir>) -> Result<bool, MaildirError> {
        let file_name = entry.path.file_name().unwrap_or_default().to_string_lossy();
        let name = Name::parse(&file_name).with(flags);
        let place = target.unwrap_or(self).cur_dir().join(&name);
        // A file of this name is this message, marked before, or another one, which must not be overwritten.
        if place == entry.path || place.exists() {
            return Ok(true);
        }
        match fs::rename(&entry.path, &place) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed("move", &entry.path)(error)),
        }
    }
}
