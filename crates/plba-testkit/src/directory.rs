//! Directories for tests, gone at the end.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// An empty directory of its own below the system's temporary one, removed when this is dropped.
#[derive(Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// Makes one.
    ///
    /// # Panics
    /// When the system's temporary directory can't be written to.
    pub fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("plba-test-{}-{number}", std::process::id()));
        if let Err(error) = std::fs::create_dir_all(&path) {
            panic!("no directory {} for the test: {error}", path.display());
        }
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Default for Directory {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What can't be removed is left to the system.
        drop(std::fs::remove_dir_all(&self.0));
    }
}
