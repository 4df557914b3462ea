//! The runtime manager: one process from its start to its exit code, written as one list of steps. How each part works
//! lives with that part; here is only their order.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use plba_contracts::clock::Clock;
use plba_contracts::control::ControlTransport;
use plba_contracts::trace::TraceTransport;
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use tokio::runtime::{Builder, Handle, Runtime};
use tracing::{error, info, warn};

use crate::TARGET;
use crate::blueprint::{Blueprint, BlueprintError, Launch};
use crate::clock::SystemClock;
use crate::config::StartDoubt;
use crate::logging;
use crate::notify::{NotifyEnvironment, ServiceManager};
use crate::panic;
use crate::platform::ExecutorConfig;
use crate::process::{Beginnings, Process, Started};
use crate::reload::{self, Followers};
use crate::run_journal::RunJournal;
use crate::shutdown::{ExitReason, Signals};
use crate::state::StateDirectory;
use crate::timeline::Timeline;
use crate::trace::TraceService;

/// Runs an application until it is asked to stop.
pub struct RuntimeManager {
    launch: Launch,
    transports: Vec<Arc<dyn ControlTransport>>,
    trace_transports: Vec<Arc<dyn TraceTransport>>,
}

/// Why a process could not start: what to print, and the exit code.
#[derive(Debug)]
pub struct StartupError {
    /// The exit code.
    pub reason: ExitReason,
    /// Cause and remedy, for a person; may have many lines.
    pub message: String,
}

impl StartupError {
    pub(crate) fn failed(message: impl ToString) -> Self {
        Self {
            reason: ExitReason::StartFailed,
            message: message.to_string(),
        }
    }
}

impl From<BlueprintError> for StartupError {
    fn from(error: BlueprintError) -> Self {
        fn reason(error: &BlueprintError) -> ExitReason {
            match error {
                BlueprintError::Misconfigured(_) => ExitReason::Misconfigured,
                BlueprintError::Assembly { .. } | BlueprintError::Name(_) => ExitReason::StartFailed,
                BlueprintError::NoLastGood { written, .. } => reason(written),
            }
        }
        Self {
            reason: reason(&error),
            message: error.to_string(),
        }
    }
}

/// What a start has by the time there is an executor for workers.
struct Start {
    signals: Signals,
    clock: Arc<dyn Clock>,
    timeline: Timeline,
    blueprint: Blueprint,
}

impl RuntimeManager {
    /// A manager for this application.
    pub fn new(
        launch: Launch,
        transports: Vec<Arc<dyn ControlTransport>>,
        trace_transports: Vec<Arc<dyn TraceTransport>>,
    ) -> Self {
        Self {
            launch,
            transports,
            trace_transports,
        }
    }

    /// Runs the application from start to stop and gives the exit code. Signals are heard from the first moment.
    ///
    /// The manager waits on an executor of its own, on the calling thread: workers that block every thread of theirs
    /// can't keep it from hearing a signal.
    ///
    /// # Errors
    /// It could not start.
    pub fn run(self) -> Result<u8, StartupError> {
        let own = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(StartupError::failed)?;
        // Before there is a second executor: each has a driver that hands signals on, and one that came between a
        // handler's installation and this subscription would be told to nobody.
        let signals = own
            .block_on(async { Signals::listen() })
            .map_err(StartupError::failed)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let timeline = Timeline::new(Arc::clone(&clock));
        timeline.step("configuration");
        let blueprint = own.block_on(Blueprint::draw_for_start(&self.launch))?;
        if !blueprint.platform.core_dumps {
            forbid_core_dumps();
        }
        let workers = workers_executor(&blueprint.platform.executor).map_err(StartupError::failed)?;
        let start = Start {
            signals,
            clock,
            timeline,
            blueprint,
        };
        let outcome = own.block_on(self.live(start, workers.handle().clone()));
        // Threads that would not end are left behind; the process is about to end anyway.
        workers.shutdown_timeout(Duration::from_millis(500));
        own.shutdown_background();
        outcome
    }

    async fn live(self, start: Start, workers: Handle) -> Result<u8, StartupError> {
        let Start {
            mut signals,
            clock,
            timeline,
            blueprint,
        } = start;
        let Blueprint {
            configuration,
            platform,
            modules,
            doubt,
        } = blueprint;

        let directory = platform.state_dir.as_path().to_owned();
        let directory = directory.as_path();
        timeline.step("state directory");
        let state = StateDirectory::lock(directory, &self.launch.application, clock.now()).await;
        let mut state = state.map_err(StartupError::failed)?;
        let begun = RunJournal::begin(directory, &self.launch.application, Arc::clone(&clock));
        let (journal, previous) = begun.map_err(|error| journal_failed(directory, &error))?;
        timeline.step("logging");
        let (traces, export) = TraceService::new(
            &platform.trace,
            Arc::clone(&clock),
            fastrand::u64(..),
            self.trace_transports,
        );
        // Held to the very end: what is logged after its drop is lost.
        let logging = Arc::new(
            logging::init(&platform.logging, Arc::clone(&clock), vec![Box::new(traces.layer())])
                .map_err(StartupError::failed)?,
        );

        panic::tell_on_the_log();
        journal.note_panics();
        if let Some(previous) = &previous {
            info!(target: TARGET, "{previous}");
        }
        reload::tell_warnings(&configuration.current());
        match &doubt {
            Some(StartDoubt::LastGood(wrong)) => {
                reload::tell_report(wrong);
                warn!(target: TARGET, "the last good configuration runs instead; what is written is read again when it changes");
            }
            Some(StartDoubt::TakenBack(when)) => warn!(target: TARGET, "this configuration has failed before: {when}"),
            None => {}
        }
        let mut process = Process::new(
            &self.launch.application,
            clock,
            workers,
            platform,
            configuration,
            traces.clone(),
            Beginnings {
                previous,
                doubt,
                timeline: timeline.clone(),
            },
        )?;
        let followed = process.keep_journal(&journal);
        followed.map_err(|error| journal_failed(directory, &error))?;
        let manager = ServiceManager::reach(&NotifyEnvironment::of_process());
        if let Err(error) = manager.and_then(|manager| process.report_to(manager)) {
            warn!(target: TARGET, %error, "the service manager can't be told how the process is");
        }
        timeline.step("control plane");
        process.open_control_plane(self.transports, &mut state).await?;
        let exporting = process.export_traces(export);
        let started = process.start(modules, &mut signals).await;
        timeline.complete();
        let (cause, failure) = match started {
            Started::Ready => {
                process.greet();
                let followers = Followers {
                    configuration: Arc::clone(&process.configuration),
                    logging: Arc::clone(&logging),
                    traces: traces.clone(),
                    launch: self.launch.clone(),
                };
                (process.work(&mut signals, &followers).await, None)
            }
            Started::Interrupted(cause) => (cause, None),
            Started::Failed(message) => {
                error!(target: TARGET, "could not start: {message}");
                ("a failed start".into(), Some(message))
            }
        };
        let mut report = process.stop(cause, &mut signals, exporting).await;
        if failure.is_some() {
            report.outcome = ExitReason::StartFailed;
            report.exit_code = ExitReason::StartFailed.code();
        }
        process.close_control_plane().await;
        report.tell(directory);
        journal.end(&report, failure.as_deref());
        match failure {
            Some(message) => Err(StartupError::failed(message)),
            None => Ok(report.exit_code),
        }
    }
}

fn journal_failed(directory: &Path, error: &std::io::Error) -> StartupError {
    let directory = directory.display();
    StartupError::failed(format!("the journal of this run can't be kept in {directory}: {error}"))
}

/// Memory holds secrets: the control plane's token at least. The limit is for files; a handler to which the system pipes core
/// dumps heeds only the other.
fn forbid_core_dumps() {
    let maximum = getrlimit(Resource::Core).maximum;
    let current = Some(0);
    // Who may not even lower a limit is confined by others, who know what they do.
    let _ = setrlimit(Resource::Core, Rlimit { current, maximum });
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// The executor that workers run on: a thread for each core, and at least two, so that one that blocks leaves another;
/// or as many as are configured.
fn workers_executor(config: &ExecutorConfig) -> std::io::Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let threads = config.threads.map_or(cores.max(2), |threads| threads.max(1) as usize);
    Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("worker")
        .enable_all()
        .build()
}
