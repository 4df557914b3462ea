//! A Maildir as Dovecot keeps it on disk: delivering into it and reading flags from file names. No IMAP.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::account::Account;

/// Where file names begin to count. Dovecot gives UIDs in the order of this number, which others make a time.
const FIRST: u64 = 1_000_000_000;

/// How often a listing is repeated because messages moved meanwhile.
const MOST_LISTINGS: usize = 10;

/// A message on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMessage {
    /// The letters of its flags, e.g. `FS`; empty for a message that no client has touched.
    pub flags: String,
    /// The file, as it was called when it was listed: a change of flags renames it.
    pub path: PathBuf,
}

impl StoredMessage {
    /// Whether the message carries `\Seen`.
    pub fn is_seen(&self) -> bool {
        self.flags.contains('S')
    }

    /// Whether the message carries `\Deleted`.
    pub fn is_deleted(&self) -> bool {
        self.flags.contains('T')
    }
}

/// Makes the Maildir, or what is missing of it.
pub(super) fn create(maildir: &Path, account: &Account) -> io::Result<()> {
    let mail = maildir.parent().unwrap_or(maildir);
    for directory in [mail.to_owned(), maildir.to_owned()].into_iter().chain(parts(maildir)) {
        match DirBuilder::new().mode(0o700).create(&directory) {
            Ok(()) => account.own(&directory)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

pub(super) fn deliver(maildir: &Path, account: &Account, counter: &AtomicU64, raw: &[u8]) -> io::Result<()> {
    let number = FIRST + counter.fetch_add(1, Ordering::Relaxed);
    create(maildir, account)?;
    let name = format!("{number}.P{}.localhost", process::id());
    let written = maildir.join("tmp").join(&name);
    fs::write(&written, raw)?;
    account.own(&written)?;
    fs::rename(written, maildir.join("new").join(name))
}

/// Lists `new/` and `cur/`. A message that moves during a listing may be seen in neither or both, so listings are
/// repeated until two agree on which messages there are; of two names the later one counts.
pub(super) fn messages(maildir: &Path) -> io::Result<Vec<StoredMessage>> {
    let mut found = list(maildir)?;
    for _ in 0..MOST_LISTINGS {
        let again = list(maildir)?;
        let settled = found.keys().eq(again.keys());
        found = again;
        if settled {
            break;
        }
    }
    Ok(found.into_values().collect())
}

/// Removes what Dovecot knows about UIDs: it then makes a new UIDVALIDITY. The file that remembers the last UIDVALIDITY
/// stays, so that the new one is another even within the same second.
pub(super) fn forget_uids(maildir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(maildir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name == "dovecot-uidlist" || name.starts_with("dovecot.index") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn parts(maildir: &Path) -> [PathBuf; 3] {
    ["tmp", "new", "cur"].map(|part| maildir.join(part))
}

fn list(maildir: &Path) -> io::Result<BTreeMap<String, StoredMessage>> {
    let mut found = BTreeMap::new();
    for part in ["new", "cur"] {
        let entries = match fs::read_dir(maildir.join(part)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let (base, flags) = name.split_once(":2,").unwrap_or((&name, ""));
            // Dovecot puts sizes behind the name it was given: `,S=512,W=530`.
            let base = base.split(',').next().unwrap_or(base).to_owned();
            found.insert(
                base,
                StoredMessage {
                    flags: flags.to_owned(),
                    path,
                },
            );
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::TemporaryDirectory;

    #[test]
    fn flags_are_read_from_names_in_the_order_of_delivery() {
        let account = Account::for_servers("a test").unwrap();
        let directory = TemporaryDirectory::create("mailbox", &account).unwrap();
        let maildir = directory.path().join("mail").join("ada");
        assert_eq!(messages(&maildir).unwrap(), []);

        let counter = AtomicU64::new(0);
        for raw in ["one", "two", "three"] {
            deliver(&maildir, &account, &counter, raw.as_bytes()).unwrap();
        }
        let first = messages(&maildir).unwrap().swap_remove(0);
        let name = first.path.file_name().unwrap().to_str().unwrap().to_owned();
        fs::rename(first.path, maildir.join("cur").join(format!("{name},S=3:2,FS"))).unwrap();

        let listed = messages(&maildir).unwrap();
        let texts: Vec<String> = listed
            .iter()
            .map(|message| fs::read_to_string(&message.path).unwrap())
            .collect();
        assert_eq!(texts, ["one", "two", "three"]);
        let flags: Vec<&str> = listed.iter().map(|message| message.flags.as_str()).collect();
        assert_eq!(flags, ["FS", "", ""]);
        assert!(listed[0].is_seen() && !listed[1].is_seen() && !listed[0].is_deleted());
    }
}
