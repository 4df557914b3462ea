//! What is told while all this happens.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

#[tokio::test(start_paused = true)]
async fn a_consumer_sees_every_event_and_may_panic() {
    let (supervisor, log) = (supervisor(), Log::default());
    let seen = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&seen);
    supervisor.events().subscribe(|_| panic!("a bad consumer"));
    supervisor.events().subscribe(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    supervisor
        .start(vec![acts("a", Does::Waits, &log)], services())
        .await
        .unwrap();
    assert_eq!(
        seen.load(Ordering::Relaxed) as usize,
        supervisor.events().history().len()
    );
    let first = serde_json::to_value(&supervisor.events().history()[0]).unwrap();
    assert_eq!(first["event"], "added");
}
