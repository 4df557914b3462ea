//! Tests of child processes, with real ones.

use std::fs;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use plba_contracts::health::Health;
use plba_contracts::stop::StopHandle;
use plba_contracts::worker::{Exit, Running, StartError, Worker, WorkerContext, WorkerDefinition, WorkerStatus};

use super::*;
use crate::supervisor::tests::{services, supervisor};

fn children() -> ChildProcesses {
    ChildProcesses::new(Arc::default(), ("orders".into(), 0, 1), None)
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdin(Stdio::null());
    command
}

/// The processes of this group that are no zombies.
fn members(group: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let in_group = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // After the name, which may hold anything: state, parent, group.
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let alive = fields.next()? != "Z";
        (alive && fields.nth(1)?.parse() == Ok(group)).then_some(())
    };
    processes.filter(|pid| in_group(pid).is_some()).collect()
}

async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(20);
    while !is() {
        assert!(Instant::now() < limit, "no {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_child_runs_to_its_end_and_its_output_is_given() {
    let output = children()
        .output(shell("echo out; echo err >&2; exit 7"))
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
    let missing = children().output(Command::new("/does/not/exist")).await;
    assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[tokio::test]
async fn a_dropped_child_goes_with_its_whole_family() {
    let children = children();
    let mut child = children.spawn(shell("sleep 1000 & sleep 1000 & wait")).unwrap();
    let group = child.id();
    until("grandchildren", || members(group).len() == 3).await;
    drop(child.take_stdin());
    drop(child);
    until("end", || members(group).is_empty()).await;
}

#[tokio::test]
async fn grandchildren_that_a_child_leaves_behind_go_when_it_is_dropped() {
    let children = children();
    let mut child = children.spawn(shell("sleep 1000 & exit 0")).unwrap();
    let group = child.id();
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
    assert_eq!(members(group).len(), 1, "the grandchild is there");
    drop(child);
    until("end", || members(group).is_empty()).await;
}

#[tokio::test]
async fn who_ignores_being_told_is_killed_and_named() {
    let children = children();
    children.registry.stopping();
    let child = children
        .spawn(shell("trap '' TERM; echo; while :; do sleep 1000; done"))
        .unwrap();
    let group = child.id();
    until("start", || !members(group).is_empty()).await;
    children.registry.end_of("orders", 0, 2);
    assert!(!members(group).is_empty(), "another attempt's");
    children.registry.end_of("orders", 0, 1);
    until("end", || members(group).is_empty()).await;
    let lines = children.registry.close();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(
        (lines[0].pid, lines[0].how, lines[0].program.as_str()),
        (group, ChildEnd::Killed, "sh")
    );
}

#[tokio::test]
async fn the_end_of_the_process_leaves_nobody() {
    let children = children();
    let child = children
        .spawn(shell("trap '' TERM; sleep 1000 & wait; sleep 1000"))
        .unwrap();
    let group = child.id();
    std::mem::forget(child);
    until("start", || members(group).len() == 2).await;
    let lines = children.registry.close();
    assert_eq!(members(group), Vec::<u32>::new());
    assert_eq!((lines.len(), lines[0].how), (1, ChildEnd::Killed), "{lines:?}");
    assert!(children.spawn(shell("exit 0")).is_err(), "no more are started");
}

/// What [`Late`] started children with, and what it was told.
type Told = Arc<Mutex<Option<(Arc<ChildProcesses>, String)>>>;

/// Starts a child once it was told by force to stop, and keeps its handle for afterwards.
struct Late {
    stop: StopHandle,
    children: Arc<ChildProcesses>,
    told: Told,
}

#[async_trait]
impl Worker for Late {
    async fn start(self: Arc<Self>, _: WorkerContext) -> Result<Running, StartError> {
        Ok(Running::new(async move {
            let mut child = self.children.spawn(shell("sleep 1000")).unwrap();
            self.stop.signal().forced().await;
            // The force itself has ended it; nobody has dropped it.
            child.wait().await.unwrap();
            let refused = self.children.spawn(shell("sleep 1000")).err().unwrap();
            *self.told.lock().unwrap() = Some((Arc::clone(&self.children), refused.to_string()));
            Exit::Stopped
        }))
    }

    fn stop(&self, force: bool) {
        self.stop.stop(force);
    }

    fn health(&self) -> Health {
        Health::Ok
    }

    fn status(&self) -> WorkerStatus {
        WorkerStatus::default()
    }
}

#[tokio::test]
async fn an_instance_that_was_forced_or_has_ended_starts_no_more() {
    let told: Told = Arc::default();
    let tell = Arc::clone(&told);
    let definition = WorkerDefinition::new("late", move |services| {
        let told = Arc::clone(&tell);
        async move {
            let (stop, children) = (StopHandle::new(), services.get::<ChildProcesses>().await?);
            Ok(Arc::new(Late { stop, children, told }) as Arc<dyn Worker>)
        }
    });
    let supervisor = supervisor();
    supervisor.start(vec![definition], services()).await.unwrap();
    let force = StopHandle::new();
    force.stop(true);
    supervisor.stop(Duration::from_secs(10), force.signal()).await;
    let (children, when_forced) = told.lock().unwrap().take().unwrap();
    let afterwards = children.spawn(shell("sleep 1000")).err().unwrap().to_string();
    for refused in [when_forced, afterwards] {
        assert!(refused.contains("has ended or was told by force"), "{refused}");
    }
}
