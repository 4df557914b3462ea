//! Many workers at once.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

static STARTED: AtomicU64 = AtomicU64::new(0);

struct Trivial(StopHandle);

#[async_trait]
impl Worker for Trivial {
    async fn start(self: Arc<Self>, _: WorkerContext) -> Result<Running, StartError> {
        STARTED.fetch_add(1, Ordering::Relaxed);
        Ok(Running::new(async move {
            self.0.signal().requested().await;
            Exit::Stopped
        }))
    }

    fn stop(&self, force: bool) {
        self.0.stop(force);
    }

    fn health(&self) -> Health {
        Health::Ok
    }

    fn status(&self) -> WorkerStatus {
        WorkerStatus::default()
    }
}

#[tokio::test]
async fn many_workers_start_and_stop() {
    let count: u32 = std::env::var("PLBA_MANY").map_or(5_000, |count| count.parse().unwrap());
    let began = std::time::Instant::now();
    let supervisor = WorkerSupervisor::new(Arc::new(SystemClock::new()), 1);
    let definition = |number| {
        WorkerDefinition::new(format!("w{number}"), |_| async {
            Ok(Arc::new(Trivial(StopHandle::new())) as Arc<dyn Worker>)
        })
    };
    let definitions: Vec<WorkerDefinition> = (0..count).map(definition).collect();
    let memory = resident();
    supervisor.start(definitions, services()).await.unwrap();
    let (started, used) = (began.elapsed(), resident().saturating_sub(memory));
    assert_eq!(supervisor.snapshot().len(), count as usize);
    let began = std::time::Instant::now();
    let report = supervisor.stop(secs(25), never_forced()).await;
    assert_eq!(report.len(), count as usize);
    let each = used / u64::from(count);
    eprintln!(
        "{count} workers: started in {started:?}, stopped in {:?}, {each} bytes each",
        began.elapsed()
    );
}

/// Resident memory of this process in bytes, where the system tells.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = status
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}
