//! The subsystems of tokio-graceful-shutdown, with nothing to do.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_graceful_shutdown::{SubsystemBuilder, SubsystemHandle, Toplevel};

use crate::round::{REST, Round, timed};
use crate::tasks::Countdown;

/// Within which time everything has to stop.
const BUDGET: Duration = Duration::from_secs(60);

/// Starts subsystems below one, and shuts them down.
pub(crate) async fn run(count: u32) -> Round {
    let (running, shut_down) = (Countdown::new(count), Arc::new(Notify::new()));
    let (all_running, asked) = (Arc::clone(&running), Arc::clone(&shut_down));
    let start = async move {
        let top: Toplevel = Toplevel::new(async move |top: &mut SubsystemHandle| {
            for number in 0..count {
                let running = Arc::clone(&running);
                let wait = async move |subsystem: &mut SubsystemHandle| {
                    running.down();
                    subsystem.on_shutdown_requested().await;
                    Ok::<(), Infallible>(())
                };
                top.start(SubsystemBuilder::new(format!("worker-{number}"), wait));
            }
            asked.notified().await;
            top.request_shutdown();
        });
        all_running.finished.notified().await;
        top
    };
    timed(start, REST, |top| async move {
        shut_down.notify_one();
        top.handle_shutdown_requests(BUDGET).await.expect("everything ends");
    })
    .await
}
