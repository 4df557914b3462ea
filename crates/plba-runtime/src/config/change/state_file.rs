//! A small file of the state directory that is written whole, by one thread at a time, and never waited for: what came last
//! is what will stand there. What it says is its owner's.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tracing::warn;

use crate::TARGET;
use crate::state::write_private;

/// A file that only this user may read.
#[derive(Clone, Debug)]
pub(crate) struct StateFile(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    state: Mutex<State>,
    idle: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// What is to stand there, if that is not being written already.
    next: Option<Vec<u8>>,
    writing: bool,
    /// Whether the last write failed, which is told once.
    failed: bool,
}

impl StateFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        let (state, idle) = (Mutex::default(), Notify::new());
        Self(Arc::new(Shared { path, state, idle }))
    }

    /// Has this written soon; what was to be written before and isn't yet is left out. A failure is told on the log, and
    /// what stands there stays. Within a tokio runtime only.
    pub(crate) fn put(&self, content: Vec<u8>) {
        let mut state = self.0.lock();
        state.next = Some(content);
        if !std::mem::replace(&mut state.writing, true) {
            let shared = Arc::clone(&self.0);
            tokio::task::spawn_blocking(move || shared.write());
        }
    }

    /// Waits until all is written, at most for so long.
    ///
    /// # Cancel safety
    /// What was to be written still is.
    pub(crate) async fn settle(&self, limit: Duration) {
        let written = async {
            loop {
                let idle = self.0.idle.notified();
                if !self.0.lock().writing {
                    return;
                }
                idle.await;
            }
        };
        // What takes longer is a disk that hangs, and on the log if it fails.
        let _ = tokio::time::timeout(limit, written).await;
    }
}

impl Shared {
    fn write(&self) {
        loop {
            let next = {
                let mut state = self.lock();
                let next = state.next.take();
                state.writing = next.is_some();
                next
            };
            let Some(content) = next else {
                self.idle.notify_waiters();
                return;
            };
            let written = write_private(&self.path, &content);
            let failed = written.is_err();
            let told = std::mem::replace(&mut self.lock().failed, failed);
            if let Err(error) = written
                && !told
            {
                warn!(target: TARGET, file = %self.path.display(), %error, "it can't be written; what stands there stays");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_came_last_stands_there_and_nobody_else_may_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::temp_dir().join(format!("plba-state-file-{}.json", std::process::id()));
        let file = StateFile::new(path.clone());
        for number in 0..100 {
            file.put(format!("{number}").into_bytes());
        }
        file.settle(Duration::from_secs(60)).await;
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "99");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        file.put(b"again".to_vec());
        file.settle(Duration::from_secs(60)).await;
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "again");
        std::fs::remove_file(path).unwrap();
    }

    #[tokio::test]
    async fn what_cannot_be_written_stops_nothing() {
        let file = StateFile::new("/proc/nowhere/file.json".into());
        file.put(b"x".to_vec());
        file.settle(Duration::from_secs(60)).await;
        file.put(b"y".to_vec());
        file.settle(Duration::from_secs(60)).await;
        assert!(file.0.lock().failed);
    }
}
