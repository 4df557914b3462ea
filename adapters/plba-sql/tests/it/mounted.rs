//! A small file system in memory, for tests of disks that are full. Mounting takes root; where it is not allowed, tests say
//! that they were not run.

use std::path::{Path, PathBuf};
use std::process::Command;

use plba_testkit::directory::Directory;

/// A file system of a few megabytes, unmounted when it is dropped.
pub(crate) struct Mounted {
    path: PathBuf,
    _directory: Directory,
}

impl Mounted {
    /// Mounts one; `None`, and a line that says so, where that is not allowed.
    pub(crate) fn new(megabytes: u32) -> Option<Self> {
        let directory = Directory::new();
        let path = directory.path().to_owned();
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "plba-test"])
            .arg(&path)
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self {
                path,
                _directory: directory,
            }),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                eprintln!(
                    "not run: a small file system can't be mounted here, which takes root: {}",
                    said.trim()
                );
                None
            }
            Err(error) => {
                eprintln!("not run: there is no program `mount`: {error}");
                None
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it larger.
    pub(crate) fn grow(&self, megabytes: u32) {
        let size = format!("remount,size={megabytes}m");
        let grown = Command::new("mount").args(["-o", &size]).arg(&self.path).status();
        assert!(grown.unwrap().success(), "what could be mounted can be made larger");
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: whoever still has a file open there keeps it until then.
        drop(Command::new("umount").arg("--lazy").arg(&self.path).status());
    }
}
