//! What an IMAP source shows of its connection. Health and counts of messages are on the board that all mail sources have.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a source's connection is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConnectionStatus {
    /// What it is doing.
    pub state: ConnectionState,
    /// How it learns of new messages: `idle`, or `polling` and why. `None` before the first connection.
    pub mode: Option<String>,
    /// When the server last agreed to IDLE.
    #[schemars(with = "Option<String>")]
    pub last_idle: Option<Timestamp>,
    /// How often IDLE was issued anew because its time was up.
    pub reissues: u64,
    /// How often the server's notice led to a look.
    pub notices: u64,
    /// How often the folder was opened over a new connection after the first.
    pub reconnects: u64,
    /// The folder's UIDVALIDITY.
    pub uid_validity: Option<u32>,
    /// All messages up to this UID were taken in, or are out of scope.
    pub last_uid: Option<u32>,
    /// How many messages were found that are still to be taken in.
    pub waiting: u64,
}

/// What a source's connection is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionState {
    /// There is none, and none is being opened: before the first, between two, and after a stop.
    #[default]
    Closed,
    /// It is being opened.
    Connecting,
    /// Messages are looked for, fetched or marked.
    Working,
    /// The server is waited for, by IDLE.
    Idle,
    /// The next look is waited for.
    Waiting,
}

/// The status as the running source writes it and anybody reads it.
#[derive(Debug, Default)]
pub(super) struct Shown {
    status: Mutex<ConnectionStatus>,
}

impl Shown {
    pub(super) fn snapshot(&self) -> ConnectionStatus {
        lock(&self.status).clone()
    }

    pub(super) fn state(&self, state: ConnectionState) {
        lock(&self.status).state = state;
    }

    /// The folder is open.
    pub(super) fn opened(&self, mode: String) {
        let mut status = lock(&self.status);
        status.state = ConnectionState::Working;
        let again = status.mode.replace(mode).is_some();
        status.reconnects += u64::from(again);
    }

    /// The way of learning of messages has changed on an open connection.
    pub(super) fn mode(&self, mode: String) {
        lock(&self.status).mode = Some(mode);
    }

    /// So many messages are to be taken in.
    pub(super) fn found(&self, count: usize) {
        lock(&self.status).waiting = count as u64;
    }

    pub(super) fn taken_in(&self, count: usize) {
        let mut status = lock(&self.status);
        status.waiting = status.waiting.saturating_sub(count as u64);
    }

    pub(super) fn looked(&self, uid_validity: u32, last_uid: u32) {
        let mut status = lock(&self.status);
        status.waiting = 0;
        status.uid_validity = Some(uid_validity);
        status.last_uid = Some(last_uid);
    }

    pub(super) fn idling(&self, now: Timestamp) {
        let mut status = lock(&self.status);
        status.state = ConnectionState::Idle;
        status.last_idle = Some(now);
    }

    pub(super) fn reissued(&self) {
        lock(&self.status).reissues += 1;
    }

    pub(super) fn noticed(&self) {
        lock(&self.status).notices += 1;
    }
}

// Nothing here can be left half-written by a panic, so a poisoned lock is as good as a sound one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
