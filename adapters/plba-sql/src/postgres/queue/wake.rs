//! Being told of what others publish: a connection that listens, and goes on listening after it was lost. What was missed
//! meanwhile is found by looking.

use std::sync::{Arc, Weak};
use std::time::Duration;

use plba_net::{Backoff, BackoffSettings};
use tokio::time::{Instant, sleep, timeout};

use super::super::fault::Fault;
use super::super::link::{Link, Target, notices};
use super::Inner;

/// How often the connection is asked whether it still is one.
const CHECK: Duration = Duration::from_secs(15);

/// Listens until the queue is dropped.
pub(super) async fn listen(inner: Weak<Inner>, target: Arc<Target>, channel: String) {
    let settings = BackoffSettings {
        first: Duration::from_millis(100),
        ceiling: Duration::from_secs(10),
        jitter: 0.5,
        stable_after: Duration::from_secs(10),
    };
    let mut backoff = Backoff::new(settings, fastrand::Rng::new());
    let mut told = false;
    while inner.strong_count() > 0 {
        let (sender, mut receiver) = notices();
        let opened = open(&target, &channel, sender).await;
        let link = match opened {
            Ok(link) => link,
            Err(fault) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(error = %fault, "PostgreSQL can't tell of new tasks now: consumers look by themselves");
                }
                sleep(backoff.failed(Instant::now().into_std())).await;
                continue;
            }
        };
        if std::mem::take(&mut told) {
            tracing::info!("PostgreSQL tells of new tasks again");
        }
        backoff.connected(Instant::now().into_std());
        wake_all(&inner);
        loop {
            match timeout(CHECK, receiver.recv()).await {
                Ok(Some(notice)) => {
                    let Some(inner) = inner.upgrade() else { return };
                    if let Some(room) = notice.parse().ok().and_then(|number| inner.known(number)) {
                        room.ready.notify_one();
                    }
                }
                Ok(None) => break,
                Err(_) => {
                    let answers = timeout(target.settings().deadline(), link.client.simple_query("")).await;
                    if !matches!(answers, Ok(Ok(_))) {
                        break;
                    }
                }
            }
            if inner.strong_count() == 0 {
                return;
            }
        }
        told = true;
        tracing::warn!(
            "the connection that tells of new tasks was lost; consumers look by themselves until there is one"
        );
        sleep(backoff.failed(Instant::now().into_std())).await;
    }
}

async fn open(target: &Target, channel: &str, notices: tokio::sync::mpsc::Sender<String>) -> Result<Link, Fault> {
    let link = target.connect(Some(notices)).await?;
    link.client.batch_execute(&format!("LISTEN \"{channel}\"")).await?;
    Ok(link)
}

fn wake_all(inner: &Weak<Inner>) {
    if let Some(inner) = inner.upgrade() {
        for room in inner.all_rooms() {
            room.ready.notify_one();
        }
    }
}
