//! Where the file lies: whether locks hold there, and whether it is still the file that was opened. What is in it is not
//! looked at here.

use std::fs;
use std::path::{Path, PathBuf};

/// The file and its write-ahead log, as they were when they were opened.
pub(super) struct Place {
    path: PathBuf,
    log: PathBuf,
    file: Option<Identity>,
    log_file: Option<Identity>,
}

/// Which file it is, whatever its name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    number: u64,
}

impl Place {
    /// The place of a database that is open, and has been read.
    pub(super) fn new(path: &Path) -> Self {
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        let mut place = Self {
            path: path.to_owned(),
            log: log.into(),
            file: None,
            log_file: None,
        };
        place.file = identity(&place.path).map(|(identity, _)| identity);
        place.log_file = identity(&place.log).map(|(identity, _)| identity);
        place
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that both files are still there and the same, and gives the size of the log.
    ///
    /// # Errors
    /// What happened to them, and what to do.
    pub(super) fn check(&mut self) -> Result<u64, String> {
        let found = identity(&self.path).map(|(identity, _)| identity);
        if found != self.file {
            return Err(self.gone(&self.path, found.is_some()));
        }
        let Some((found, bytes)) = identity(&self.log) else {
            return match self.log_file {
                Some(_) => Err(self.gone(&self.log, false)),
                None => Ok(0),
            };
        };
        // The log of a new database comes into being with its first write.
        if *self.log_file.get_or_insert(found) != found {
            return Err(self.gone(&self.log, true));
        }
        Ok(bytes)
    }

    fn gone(&self, which: &Path, replaced: bool) -> String {
        let what = if replaced { "replaced" } else { "deleted or moved away" };
        format!(
            "{} was {what} while it was open, so nothing is written any more; the tasks are still in the file that this \
             process has open: save it from /proc/{}/fd before you stop the process, put it back, and start again",
            which.display(),
            std::process::id()
        )
    }
}

/// Which file a path leads to, and its size.
#[cfg(unix)]
pub(super) fn identity(path: &Path) -> Option<(Identity, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = fs::metadata(path).ok()?;
    let identity = Identity {
        device: metadata.dev(),
        number: metadata.ino(),
    };
    Some((identity, metadata.len()))
}

/// Where files have no numbers that a program can ask for, an open one can't be replaced either.
#[cfg(not(unix))]
pub(super) fn identity(path: &Path) -> Option<(Identity, u64)> {
    let metadata = fs::metadata(path).ok()?;
    let identity = Identity { device: 0, number: 0 };
    Some((identity, metadata.len()))
}

/// Which network file system a path lies on, if it does: there, SQLite's locks and its shared memory don't hold.
#[cfg(target_os = "linux")]
pub(super) fn network(path: &Path) -> Option<&'static str> {
    // From linux/magic.h and the file systems' own headers.
    const KNOWN: &[(u64, &str)] = &[
        (0x6969, "NFS"),
        (0x517b, "SMB"),
        (0xfe53_4d42, "SMB 2"),
        (0xff53_4d42, "CIFS"),
        (0x0102_1997, "9P"),
        (0x6573_5546, "FUSE"),
        (0x00c3_6400, "Ceph"),
        (0x5346_414f, "AFS"),
        (0x6b41_4653, "AFS"),
        (0x7375_7245, "Coda"),
        (0x564c, "NCP"),
        (0x0bd0_0bd0, "Lustre"),
        (0x0116_1970, "GFS2"),
        (0x7461_636f, "OCFS2"),
        (0x4750_4653, "GPFS"),
        (0x1983_0326, "BeeGFS"),
        (0xaad7_aaea, "PanFS"),
    ];
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let kind = rustix::fs::statfs(directory).ok()?.f_type;
    // Its type differs from one architecture to the other; the numbers have 32 bits.
    #[allow(
        clippy::cast_sign_loss,
        clippy::cast_possible_truncation,
        clippy::unnecessary_cast,
        reason = "a number of 32 bits in a type that differs between architectures"
    )]
    let kind = u64::from(kind as u32);
    KNOWN.iter().find(|(magic, _)| *magic == kind).map(|(_, name)| *name)
}

/// Elsewhere it can't be told.
#[cfg(not(target_os = "linux"))]
pub(super) fn network(_: &Path) -> Option<&'static str> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_deleted_or_replaced_is_noticed() {
        let directory = std::env::temp_dir().join(format!("plba-place-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("queue.db");
        fs::write(&path, "one").unwrap();
        let mut place = Place::new(&path);
        assert_eq!(place.check(), Ok(0));
        fs::write(directory.join("queue.db-wal"), "12345").unwrap();
        assert_eq!(place.check(), Ok(5));
        fs::write(directory.join("other"), "two").unwrap();
        fs::rename(directory.join("other"), &path).unwrap();
        assert!(place.check().unwrap_err().contains("replaced"));
        fs::remove_file(&path).unwrap();
        assert!(place.check().unwrap_err().contains("deleted"));
        assert_eq!(network(&path), None);
        fs::remove_dir_all(&directory).unwrap();
    }
}
