//! The disk by itself: how long a small write takes until it is on it. A task that survives the loss of power is picked up no
//! sooner than its publication is on the disk, so that is what pick-ups of durable queues are read beside.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tempfile::TempDir;

use crate::Result;
use crate::contest::{Contestant, Rival};
use crate::ours::{PICKUPS, REST};
use crate::seen::Seen;

const PAGE: usize = 8_192;
const PAGES: usize = 512;

/// The disk of a directory.
struct Disk(PathBuf);

/// The disk with this directory, beside which pick-ups are read; there is no rate of it.
pub(crate) fn rival(directory: impl Into<PathBuf>) -> Rival {
    Rival {
        contestant: Box::new(Disk(directory.into())),
        enqueue: None,
        process: None,
        is_control: false,
    }
}

#[async_trait]
impl Contestant for Disk {
    fn name(&self) -> String {
        "a synchronised write of this disk".to_owned()
    }

    fn can_have(&self, _workers: u32) -> bool {
        false
    }

    async fn pace(&self, _workers: u32) -> Result<Seen> {
        Ok(Seen::default())
    }

    async fn pickups(&self) -> Result<Seen> {
        let directory = tempfile::tempdir_in(&self.0)?;
        let mut file = preallocated(&directory)?;
        let mut spans = Vec::with_capacity(PICKUPS);
        for number in 0..PICKUPS {
            tokio::time::sleep(REST).await;
            let written;
            (file, written) = tokio::task::spawn_blocking(move || write(file, number)).await??;
            spans.push(written);
        }
        Ok(Seen::pickups(spans))
    }
}

/// A file that is there in full, as logs of databases are after their first round.
fn preallocated(directory: &TempDir) -> Result<File> {
    let mut file = File::create(directory.path().join("log"))?;
    file.write_all(&vec![1; PAGE * PAGES])?;
    file.sync_all()?;
    Ok(file)
}

fn write(mut file: File, number: usize) -> Result<(File, Duration)> {
    let began = Instant::now();
    file.seek(SeekFrom::Start((number % PAGES * PAGE) as u64))?;
    file.write_all(&[number as u8; PAGE])?;
    file.sync_data()?;
    Ok((file, began.elapsed()))
}
