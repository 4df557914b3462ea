//! The runtime manager: one process from its start to its exit code, written as one list of steps. How each part works
//! lives with that part; here is only their order.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use plba_contracts::clock::Clock;
use plba_contracts::control::{ControlTransport, TransportSettings};
use plba_contracts::stop::{StopHandle, StopPhase};
use plba_contracts::trace::TraceTransport;
use tokio::runtime::{Builder, Handle, Runtime};
use tracing::{error, info, warn};

use crate::audit::AuditLog;
use crate::blueprint::{AssembledModule, Blueprint, BlueprintError, Launch};
use crate::clock::SystemClock;
use crate::config::ConfigurationManager;
use crate::control::{ControlParts, ControlPlane, ControlPlaneService, Lifecycle, Stage, transport_failed};
use crate::health::HealthRegistry;
use crate::logging;
use crate::modules::{Foundation, RunningModules};
use crate::platform::PlatformConfig;
use crate::reload::Reloader;
use crate::shutdown::{Asked, ExitReason, Signals, StopReport};
use crate::state::{self, StateDirectory};
use crate::supervisor::{WatchdogOptions, WorkerSupervisor};
use crate::token;
use crate::trace::{TraceExport, TraceService};
use crate::views;

/// How long services and traces may take to close, each, once the workers have stopped.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

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
    fn failed(message: impl ToString) -> Self {
        Self {
            reason: ExitReason::StartFailed,
            message: message.to_string(),
        }
    }
}

impl From<BlueprintError> for StartupError {
    fn from(error: BlueprintError) -> Self {
        let reason = match error {
            BlueprintError::Misconfigured(_) => ExitReason::Misconfigured,
            BlueprintError::Assembly { .. } | BlueprintError::Name(_) => ExitReason::StartFailed,
        };
        Self {
            reason,
            message: error.to_string(),
        }
    }
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

    /// Runs the application from start to stop and says how it ended. Signals are heard from the first moment.
    ///
    /// The manager waits on an executor of its own, on the calling thread: workers that block every thread of theirs
    /// can't keep it from hearing a signal.
    ///
    /// # Errors
    /// It could not start.
    pub fn run(self) -> Result<ExitReason, StartupError> {
        let own = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(StartupError::failed)?;
        let workers = workers_executor().map_err(StartupError::failed)?;
        let outcome = own.block_on(self.live(workers.handle().clone()));
        // Threads that would not end are left behind; the process is about to end anyway.
        workers.shutdown_timeout(Duration::from_millis(500));
        outcome
    }

    async fn live(self, workers: Handle) -> Result<ExitReason, StartupError> {
        let mut signals = Signals::listen().map_err(StartupError::failed)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let blueprint = Blueprint::draw(&self.launch).await?;
        let Blueprint {
            configuration,
            platform,
            modules,
        } = blueprint;

        let directory = platform.state_dir.as_path().to_owned();
        let directory = directory.as_path();
        let state = StateDirectory::lock(directory, &self.launch.application, clock.now()).await;
        let mut state = state.map_err(StartupError::failed)?;
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

        let mut process = Process::new(
            &self.launch.application,
            clock,
            workers,
            platform,
            configuration,
            traces,
        )?;
        process.open_control_plane(self.transports, &mut state).await?;
        let exporting = process.export_traces(export);
        let started = process.start(modules, &mut signals).await;
        let (cause, failure) = match started {
            Started::Ready => {
                process.greet();
                let mut reloader = Reloader::new(
                    Arc::clone(&process.configuration),
                    Arc::clone(&logging),
                    self.launch.clone(),
                );
                (process.work(&mut signals, &mut reloader).await, None)
            }
            Started::Interrupted(cause) => (cause, None),
            Started::Failed(message) => {
                error!("could not start: {message}");
                ("a failed start", Some(message))
            }
        };
        let report = process.stop(cause, &mut signals, exporting).await;
        process.close_control_plane().await;
        report_stop(&report, directory);
        match failure {
            Some(message) => Err(StartupError::failed(message)),
            None => Ok(report.outcome),
        }
    }
}

/// The executor that workers run on: a thread for each core, and at least two, so that one that blocks leaves another.
fn workers_executor() -> std::io::Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    Builder::new_multi_thread()
        .worker_threads(cores.max(2))
        .thread_name("worker")
        .enable_all()
        .build()
}

fn report_stop(report: &StopReport, directory: &Path) {
    for line in report.lines() {
        match report.outcome {
            ExitReason::Clean => info!("{line}"),
            _ => warn!("{line}"),
        }
    }
    let path = directory.join("stop-report.json");
    let written = serde_json::to_vec_pretty(report).map_err(std::io::Error::other);
    if let Err(error) = written.and_then(|text| state::write_public(&path, &text)) {
        warn!(path = %path.display(), %error, "the stop report could not be written");
    }
}

/// How a start ended.
enum Started {
    /// Every worker is ready.
    Ready,
    /// A signal came first.
    Interrupted(&'static str),
    /// It failed, with this message.
    Failed(String),
}

/// The parts of a running process.
struct Process {
    application: String,
    clock: Arc<dyn Clock>,
    workers: Handle,
    platform: Arc<PlatformConfig>,
    configuration: Arc<ConfigurationManager>,
    traces: TraceService,
    supervisor: WorkerSupervisor,
    health: HealthRegistry,
    plane: ControlPlane,
    lifecycle: Lifecycle,
    control: Option<ControlPlaneService>,
    modules: Option<RunningModules>,
    end_of_traces: StopHandle,
}

impl Process {
    fn new(
        application: &str,
        clock: Arc<dyn Clock>,
        workers: Handle,
        platform: Arc<PlatformConfig>,
        configuration: ConfigurationManager,
        traces: TraceService,
    ) -> Result<Self, StartupError> {
        let watchdog = WatchdogOptions::default();
        let supervisor = WorkerSupervisor::with_workers_on(&workers, Arc::clone(&clock), fastrand::u64(..), watchdog);
        let configuration = Arc::new(configuration);
        let health = HealthRegistry::new(Arc::clone(&clock), views::worker_health(supervisor.clone()));
        let directory = platform.state_dir.as_path();
        let token = token::of(&platform.control, directory).map_err(StartupError::failed)?;
        let audit = AuditLog::open(directory).map_err(|error| {
            StartupError::failed(format!(
                "the audit log in {} can't be written: {error}",
                directory.display()
            ))
        })?;
        let stall_limit = Duration::from(platform.health.stall_limit);
        let lifecycle = Lifecycle::default();
        let plane = ControlPlane::new(ControlParts {
            lifecycle: lifecycle.clone(),
            clock: Arc::clone(&clock),
            token,
            audit,
            live: views::live(supervisor.clone(), stall_limit),
            usable: views::usable(health.clone()),
            own: views::own(views::Facts {
                application: application.to_owned(),
                started: clock.now(),
                clock: Arc::clone(&clock),
                state_dir: directory.to_owned(),
                lifecycle: lifecycle.clone(),
                configuration: Arc::clone(&configuration),
                supervisor: supervisor.clone(),
                health: health.clone(),
                traces: traces.clone(),
            }),
        });
        let application = application.to_owned();
        let (control, modules, end_of_traces) = (None, None, StopHandle::new());
        Ok(Self {
            application,
            clock,
            workers,
            platform,
            configuration,
            traces,
            supervisor,
            health,
            plane,
            lifecycle,
            control,
            modules,
            end_of_traces,
        })
    }

    async fn open_control_plane(
        &mut self,
        transports: Vec<Arc<dyn ControlTransport>>,
        state: &mut StateDirectory,
    ) -> Result<(), StartupError> {
        if !self.platform.control.enabled {
            return Ok(());
        }
        let control = &self.platform.control;
        let settings = TransportSettings {
            listen: control.listen.clone(),
            hosts: control.hosts.clone(),
        };
        let opened = ControlPlaneService::open(self.plane.clone(), transports, settings).await;
        let service = opened.map_err(|error| StartupError::failed(transport_failed(error)))?;
        if let Some(address) = service.addresses().first() {
            state.announce(address).map_err(StartupError::failed)?;
        }
        self.control = Some(service);
        Ok(())
    }

    fn export_traces(&self, export: TraceExport) -> tokio::task::JoinHandle<u64> {
        let end = self.end_of_traces.signal();
        self.workers.spawn(export.run(async move { end.requested().await }))
    }

    /// Puts the modules together and starts them, listening to signals meanwhile.
    async fn start(&mut self, modules: Vec<AssembledModule>, signals: &mut Signals) -> Started {
        let foundation = Foundation {
            clock: Arc::clone(&self.clock),
            workers: self.workers.clone(),
            supervisor: self.supervisor.clone(),
            health: self.health.clone(),
            plane: self.plane.clone(),
            traces: self.traces.clone(),
        };
        let modules = match RunningModules::new(modules, foundation) {
            Ok(modules) => self.modules.insert(modules),
            Err(message) => return Started::Failed(message),
        };
        let starting = modules.start();
        tokio::pin!(starting);
        loop {
            tokio::select! {
                started = &mut starting => {
                    return match started {
                        Ok(()) => {
                            self.lifecycle.enter(Stage::Ready);
                            Started::Ready
                        }
                        Err(message) => Started::Failed(message),
                    };
                }
                asked = signals.next() => match asked {
                    Asked::Stop(cause) => return Started::Interrupted(cause),
                    Asked::Reload => info!("SIGHUP is left alone: the process is still starting"),
                },
            }
        }
    }

    fn greet(&self) {
        info!("{} is ready", self.application);
        for greeting in self.modules.iter().flat_map(RunningModules::greetings) {
            info!("{greeting}");
        }
        for address in self.control.iter().flat_map(ControlPlaneService::addresses) {
            let token = token::path(&self.platform.control, self.platform.state_dir.as_path());
            info!("control plane at {address}, with the token in {token}");
        }
    }

    /// Waits for a stop; carries out reloads on the way. Returns what asked for the stop.
    async fn work(&mut self, signals: &mut Signals, reloader: &mut Reloader) -> &'static str {
        loop {
            match signals.next().await {
                Asked::Stop(cause) => return cause,
                Asked::Reload => {
                    let Some(modules) = &mut self.modules else { continue };
                    let reloading = reloader.reload(modules);
                    tokio::pin!(reloading);
                    loop {
                        tokio::select! {
                            () = &mut reloading => break,
                            asked = signals.next() => match asked {
                                Asked::Stop(cause) => return cause,
                                Asked::Reload => info!("SIGHUP is left alone: a reload is under way"),
                            },
                        }
                    }
                }
            }
        }
    }

    /// Not ready at once; workers, services, traces; a second signal forces.
    async fn stop(
        &mut self,
        cause: &str,
        signals: &mut Signals,
        exporting: tokio::task::JoinHandle<u64>,
    ) -> StopReport {
        self.lifecycle.enter(Stage::Stopping);
        let (asked, since) = (self.clock.now(), self.clock.monotonic());
        let budget = Duration::from(self.platform.stop_budget);
        info!(
            "stopping ({cause}): at most {:.0} s; a second signal interrupts what is in hand",
            budget.as_secs_f64()
        );
        let force = StopHandle::new();
        let stopping = self.supervisor.stop(budget, force.signal());
        tokio::pin!(stopping);
        let workers = loop {
            tokio::select! {
                workers = &mut stopping => break workers,
                asked = signals.next() => if let Asked::Stop(again) = asked {
                    if force.signal().phase() < StopPhase::Force {
                        warn!("{again} again: what is in hand is interrupted now");
                    }
                    force.stop(true);
                },
            }
        };
        self.health.stop();
        if let Some(modules) = self.modules.take()
            && tokio::time::timeout(CLOSE_TIMEOUT, modules.close()).await.is_err()
        {
            warn!(
                "services did not close within {} s and were left behind",
                CLOSE_TIMEOUT.as_secs()
            );
        }
        self.end_of_traces.stop(false);
        let exported = tokio::time::timeout(CLOSE_TIMEOUT, exporting).await;
        let spans_lost = exported
            .ok()
            .and_then(Result::ok)
            .unwrap_or_else(|| self.traces.counts().1);
        StopReport {
            application: self.application.clone(),
            cause: cause.to_owned(),
            asked,
            took: self.clock.monotonic().saturating_sub(since),
            budget,
            outcome: StopReport::outcome_of(&workers),
            workers,
            spans_lost,
        }
    }

    async fn close_control_plane(&mut self) {
        if let Some(control) = self.control.take() {
            control.close().await;
        }
    }
}
