//! A server's own temporary directory, readable by its account only and removed with the value.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use crate::account::Account;
use crate::port::random;
use crate::wait;

/// A longer root would push a server's sockets past the 108 bytes of a socket's path.
const LONGEST_ROOT: usize = 48;

/// A file system in memory on Linux.
const MEMORY: &str = "/dev/shm";

/// How many bytes have to be free in memory: containers come with 64 MiB, which a database soon fills.
const ENOUGH_MEMORY: u64 = 2 << 30;

/// How long a directory may resist while killed processes still close their files.
const REMOVAL: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(crate) struct TemporaryDirectory {
    path: PathBuf,
}

impl TemporaryDirectory {
    /// Makes `<root>/plba-<server>-<pid>-<random>` with mode 0700, owned by the account.
    pub(crate) fn create(server: &str, account: &Account) -> io::Result<TemporaryDirectory> {
        let mut root = account.temporary_root();
        if root.as_os_str().len() > LONGEST_ROOT {
            root = PathBuf::from("/tmp");
        }
        TemporaryDirectory::create_in(root, server, account)
    }

    /// The same in memory, if this machine has room for that: syncing files costs nothing there, and takes most of the
    /// time of a database on a busy disk. Otherwise like [`create`](Self::create).
    pub(crate) fn create_in_memory(server: &str, account: &Account) -> io::Result<TemporaryDirectory> {
        match rustix::fs::statvfs(MEMORY) {
            Ok(space) if space.f_bavail.saturating_mul(space.f_frsize) >= ENOUGH_MEMORY => {
                TemporaryDirectory::create_in(PathBuf::from(MEMORY), server, account)
            }
            _ => TemporaryDirectory::create(server, account),
        }
    }

    fn create_in(root: PathBuf, server: &str, account: &Account) -> io::Result<TemporaryDirectory> {
        let path = root.join(format!("plba-{server}-{}-{:08x}", process::id(), random() >> 32));
        DirBuilder::new().mode(0o700).create(&path)?;
        let directory = TemporaryDirectory { path };
        account.own(&directory.path)?;
        Ok(directory)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A path inside.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        wait::until(REMOVAL, || match fs::remove_dir_all(&self.path) {
            Ok(()) => Some(()),
            Err(error) => (error.kind() == io::ErrorKind::NotFound).then_some(()),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    #[test]
    fn it_is_private_belongs_to_the_account_and_goes_with_the_value() {
        let account = Account::for_servers("a test").unwrap();
        let directory = TemporaryDirectory::create("test", &account).unwrap();
        let path = directory.path().to_owned();
        fs::write(directory.join("file"), "text").unwrap();
        let metadata = path.metadata().unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o700);
        assert_ne!(metadata.uid(), 0);
        drop(directory);
        assert!(!path.exists());
    }
}
