//! Watching the file: whether it is still the same one, whether others have written to it, and if so, what it says now.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use super::file;
use super::settings::Settings;
use crate::config::Eye;
use crate::sqlite::failure::Failure;
use crate::sqlite::place::{Identity, identity};

/// Looks at one file.
pub(super) struct SqliteEye {
    settings: Settings,
    /// Shared with the thread that looks, of which there is one at most.
    open: Arc<Mutex<Option<Opened>>>,
}

/// A connection that stays, for it counts what others write.
struct Opened {
    connection: Connection,
    identity: Option<Identity>,
    /// The mark of what was there at this count.
    seen: Option<(i64, u64)>,
}

impl SqliteEye {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            open: Arc::default(),
        }
    }
}

/// Looks; blocks meanwhile.
fn look(open: &mut Option<Opened>, settings: &Settings) -> Result<u64, Failure> {
    let path = &settings.path;
    let now = identity(path).map(|(identity, _)| identity);
    // Another file by this name: who has the old one open would never see what is written to the new one.
    let opened = match open.take().filter(|opened| opened.identity == now) {
        Some(opened) => open.insert(opened),
        None => open.insert(Opened {
            connection: file::open(path)?,
            identity: now,
            seen: None,
        }),
    };
    let count = file::version(&opened.connection, path)?;
    if let Some((_, mark)) = opened.seen.filter(|(seen, _)| *seen == count) {
        return Ok(mark);
    }
    let (mark, _) = file::rows(&opened.connection, path)?;
    opened.seen = Some((count, mark));
    Ok(mark)
}

impl Eye for SqliteEye {
    type Mark = u64;
    type Blindness = Failure;

    async fn look(&mut self) -> Result<u64, Failure> {
        let mut open = Arc::clone(&self.open).lock_owned().await;
        let settings = self.settings.clone();
        let looking = tokio::task::spawn_blocking(move || {
            let seen = look(&mut open, &settings);
            if seen.is_err() {
                *open = None;
            }
            seen
        });
        looking.await.unwrap_or_else(|_| Err(Failure::closed()))
    }

    async fn wait(&mut self, until: Instant) {
        sleep_until(until).await;
    }

    fn interval(&self) -> Duration {
        self.settings.poll
    }
}
