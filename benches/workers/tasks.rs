//! Bare tasks, which nobody supervises: the floor.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::round::{BEAT, BEATS, REST, Round, WATCH, timed};

/// Starts tasks that wait for their token, and cancels them.
pub(crate) async fn resting(count: u32) -> Round {
    let parent = CancellationToken::new();
    let (running, ended) = (Countdown::new(count), Countdown::new(count));
    let (child_of, all_ended) = (parent.clone(), Arc::clone(&ended));
    let start = async move {
        for _ in 0..count {
            let (token, running, ended) = (child_of.child_token(), Arc::clone(&running), Arc::clone(&ended));
            tokio::spawn(async move {
                running.down();
                token.cancelled().await;
                ended.down();
            });
        }
        running.finished.notified().await;
    };
    timed(start, REST, |()| async move {
        parent.cancel();
        all_ended.finished.notified().await;
    })
    .await
}

/// Starts tasks that do something once a second until their token is cancelled, and cancels them.
pub(crate) async fn beating(count: u32) -> Round {
    let parent = CancellationToken::new();
    let (running, ended) = (Countdown::new(count), Countdown::new(count));
    let (child_of, all_ended) = (parent.clone(), Arc::clone(&ended));
    let start = async move {
        for _ in 0..count {
            let (token, running, ended) = (child_of.child_token(), Arc::clone(&running), Arc::clone(&ended));
            tokio::spawn(async move {
                running.down();
                let mut beats = tokio::time::interval(BEAT);
                beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    tokio::select! {
                        () = token.cancelled() => break,
                        _ = beats.tick() => BEATS.fetch_add(1, Ordering::Relaxed),
                    };
                }
                ended.down();
            });
        }
        running.finished.notified().await;
    };
    timed(start, WATCH, |()| async move {
        parent.cancel();
        all_ended.finished.notified().await;
    })
    .await
}

/// Counts all of them down and tells of the last.
pub(crate) struct Countdown {
    left: AtomicU32,
    pub(crate) finished: Notify,
}

impl Countdown {
    pub(crate) fn new(count: u32) -> Arc<Self> {
        Arc::new(Self {
            left: AtomicU32::new(count),
            finished: Notify::new(),
        })
    }

    pub(crate) fn down(&self) {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.finished.notify_one();
        }
    }
}
