//! What the queues are measured beside: the disk by itself. Where the queues are measured lives in the examples.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const WRITES: usize = 200;
const PAGE: usize = 8_192;
const PAGES: usize = 512;

/// A file that is there in full, as logs of databases are after their first round, and written over with a sync each time.
pub(crate) struct Disk {
    path: PathBuf,
    file: File,
    next: usize,
    spans: Vec<Duration>,
}

impl Disk {
    /// Makes its file.
    pub(crate) fn new(directory: &Path) -> io::Result<Self> {
        let path = directory.join(format!("plba-disk-{}", std::process::id()));
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(&path)?;
        file.write_all(&vec![1; PAGE * PAGES])?;
        file.sync_all()?;
        Ok(Self {
            path,
            file,
            next: 0,
            spans: Vec::new(),
        })
    }

    /// Writes and syncs for a moment.
    pub(crate) fn measure(&mut self) -> io::Result<()> {
        for _ in 0..WRITES {
            let began = Instant::now();
            self.next = (self.next + 1) % PAGES;
            self.file.seek(SeekFrom::Start((self.next * PAGE) as u64))?;
            self.file.write_all(&[self.next as u8; PAGE])?;
            self.file.sync_data()?;
            self.spans.push(began.elapsed());
        }
        Ok(())
    }

    /// What it took, all in all.
    pub(crate) fn figures(&mut self) -> String {
        self.spans.sort_unstable();
        match self.spans.as_slice() {
            [] => "-".to_owned(),
            spans => format!(
                "p50 {:.2?} p99 {:.2?}",
                spans[spans.len() / 2],
                spans[spans.len() * 99 / 100]
            ),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It lies among temporary files anyway.
        let _gone = std::fs::remove_file(&self.path);
    }
}
