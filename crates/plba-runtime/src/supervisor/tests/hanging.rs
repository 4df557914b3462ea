//! Instances that hang, and threads that are blocked for good. Real time: the watchdog has a thread of its own.

use super::*;

#[test]
fn a_thread_that_is_blocked_for_good_is_abandoned_and_seen_by_the_watchdog() {
    let workers = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let driver = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let release = Arc::new(std::sync::Barrier::new(2));
    let held = Arc::clone(&release);
    let definition = WorkerDefinition::new("blocks", move |_| {
        let held = Arc::clone(&held);
        async move { Ok(Arc::new(Blocks(held)) as Arc<dyn Worker>) }
    });
    driver.block_on(async {
        let millis = Duration::from_millis;
        let options = WatchdogOptions {
            look_every: millis(20),
            heartbeat: millis(10),
            stalled_after: millis(100),
        };
        let clock = Arc::new(SystemClock::new());
        let supervisor = WorkerSupervisor::with_workers_on(workers.handle(), clock, 1, options);
        let definition = definition.stall_after(millis(100));
        supervisor.start(vec![definition], services()).await.unwrap();
        let deadline = Instant::now() + secs(20);
        while supervisor.executor_stalled_for().is_none() || !view(&supervisor, "blocks").is_hung() {
            assert!(Instant::now() < deadline, "no verdict");
            tokio::time::sleep(millis(5)).await;
        }
        let health = view(&supervisor, "blocks").health;
        assert!(
            health.reason().unwrap().starts_with("hung: busy with a lock for"),
            "{health:?}"
        );
        let report = supervisor.stop(millis(200), never_forced()).await;
        assert_eq!(outcomes(&report), [("blocks", StopOutcome::Abandoned, Some("a lock"))]);
    });
    release.wait();
}

struct Blocks(Arc<std::sync::Barrier>);

#[async_trait]
impl Worker for Blocks {
    async fn start(self: Arc<Self>, context: WorkerContext) -> Result<Running, StartError> {
        Ok(Running::new(async move {
            let _busy = context.activity.begin("a lock".into());
            self.0.wait();
            Exit::Finished
        }))
    }

    fn stop(&self, _: bool) {}

    fn health(&self) -> Health {
        Health::Ok
    }

    fn status(&self) -> WorkerStatus {
        WorkerStatus::default()
    }
}

/// On real time: the watchdog has a thread and time of its own.
#[tokio::test]
async fn a_hung_instance_is_replaced_or_asks_for_the_end_of_the_process() {
    let (log, millis) = (Log::default(), Duration::from_millis);
    let options = WatchdogOptions {
        look_every: millis(20),
        ..WatchdogOptions::default()
    };
    let clock = Arc::new(SystemClock::new());
    let supervisor = WorkerSupervisor::with_workers_on(&Handle::current(), clock, 1, options);
    let hangs = |name, policy| {
        let definition = acts(name, Does::IgnoresGraceful, &log);
        definition.stall_after(millis(60)).on_hang(policy)
    };
    let definitions = vec![
        hangs("replaced", HangPolicy::Replace),
        hangs("vital", HangPolicy::EndProcess { exit_code: 70 }),
    ];
    supervisor.start(definitions, services()).await.unwrap();
    let fatal = tokio::time::timeout(secs(20), supervisor.fatal()).await.unwrap();
    assert_eq!((fatal.worker.as_str(), fatal.exit_code), ("vital", 70));
    let again = async {
        while view(&supervisor, "replaced").restarts == 0 {
            tokio::time::sleep(millis(5)).await;
        }
    };
    tokio::time::timeout(secs(20), again).await.unwrap();
    let exit = view(&supervisor, "replaced").slots[0].last_exit.clone().unwrap();
    assert_eq!(exit.end, AttemptEnd::Hung);
    assert_eq!(view(&supervisor, "vital").restarts, 0);
    supervisor.stop(millis(200), never_forced()).await;
}
