//! The runtime manager: one process from its start to its exit code, written as one list of steps. How each part works
//! lives with that part; here is only their order.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use plba_contracts::clock::Clock;
use plba_contracts::control::{ControlTransport, TransportSettings};
use plba_contracts::health::HealthContribution;
use plba_contracts::services::ServiceDefinition;
use plba_contracts::stop::{StopHandle, StopPhase};
use plba_contracts::trace::{TraceFactory, TraceTransport};
use plba_contracts::worker::WorkerDefinition;
use plba_contracts::describe;
use tokio::runtime::{Builder, Handle, Runtime};
use tracing::{error, info, warn};

use crate::audit::AuditLog;
use crate::blueprint::{AssembledModule, Blueprint, BlueprintError, Launch};
use crate::clock::SystemClock;
use crate::config::ConfigurationManager;
use crate::control::{ControlParts, ControlPlane, ControlPlaneService, Lifecycle, Stage, transport_failed};
use crate::health::HealthRegistry;
use crate::logging::{self, LoggingHandle};
use crate::platform::PlatformConfig;
use crate::reload::Reloader;
use crate::services::{Provided, ServiceContainer};
use crate::shutdown::{Asked, ExitReason, Signals, StopReport};
use crate::state::{self, StateDirectory};
use crate::supervisor::WorkerSupervisor;
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
        Self { reason: ExitReason::StartFailed, message: message.to_string() }
    }
}

impl From<BlueprintError> for StartupError {
    fn from(error: BlueprintError) -> Self {
        let reason = match error {
            BlueprintError::Misconfigured(_) => ExitReason::Misconfigured,
            BlueprintError::Assembly { .. } | BlueprintError::Name(_) => ExitReason::StartFailed,
        };
        Self { reason, message: error.to_string() }
    }
}

impl RuntimeManager {
    /// A manager for this application.
    pub fn new(
        launch: Launch,
        transports: Vec<Arc<dyn ControlTransport>>,
        trace_transports: Vec<Arc<dyn TraceTransport>>,
    ) -> Self {
        Self { launch, transports, trace_transports }
    }

    /// Runs the application from start to stop and says how it ended. Signals are heard from the first moment.
    ///
    /// The manager waits on an executor of its own, on the calling thread: workers that block every thread of theirs
    /// can't keep it from hearing a signal.
    ///
    /// # Errors
    /// It could not start.
    pub fn run(self) -> Result<ExitReason, StartupError> {
        let own = Builder::new_current_thread().enable_all().build().map_err(StartupError::failed)?;
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
        let Blueprint { configuration, platform, modules } = blueprint;

        let directory = platform.state_dir.as_path();
        let state = StateDirectory::lock(directory, &self.launch.application, clock.now());
        let mut state = state.map_err(StartupError::failed)?;
        let (traces, export) =
            TraceService::new(&platform.trace, Arc::clone(&clock), fastrand::u64(..), self.trace_transports);
        let logging = logging::init(&platform.logging, vec![Box::new(traces.layer())]).map_err(StartupError::failed)?;

        let mut process = Process::new(&self.launch.application, clock, workers, platform, configuration, traces)?;
        process.open_control_plane(self.transports, &mut state).await?;
        let exporting = process.export_traces(export);
        let greetings = modules.iter().flat_map(|module| module.parts.greetings.clone()).collect::<Vec<_>>();

        let started = process.start_while_listening(modules, &mut signals, logging).await;
        let (cause, failure) = match started {
            Started::Ready(reloader) => {
                greet(&process, &greetings, directory);
                (process.work(&mut signals, reloader).await, None)
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
    Builder::new_multi_thread().worker_threads(cores.max(2)).thread_name("worker").enable_all().build()
}

fn greet(process: &Process, greetings: &[String], directory: &Path) {
    info!("{} is ready", process.application);
    for greeting in greetings {
        info!("{greeting}");
    }
    if let Some(control) = &process.control {
        for address in control.addresses() {
            let token = directory.join(token::FILE);
            info!("control plane: {address}, token in {}", token.display());
        }
    }
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
    Ready(Reloader),
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
    container: Option<Arc<ServiceContainer>>,
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
        let supervisor = {
            let _on_workers = workers.enter();
            WorkerSupervisor::new(Arc::clone(&clock), fastrand::u64(..))
        };
        let configuration = Arc::new(configuration);
        let health = HealthRegistry::new(Arc::clone(&clock), views::worker_health(supervisor.clone()));
        let directory = platform.state_dir.as_path();
        let token = token::of(&platform.control, directory).map_err(StartupError::failed)?;
        let audit = AuditLog::open(directory).map_err(|error| {
            StartupError::failed(format!("the audit log in {} can't be written: {error}", directory.display()))
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
        let (control, container, end_of_traces) = (None, None, StopHandle::new());
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
            container,
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
        let settings = TransportSettings { listen: control.listen.clone(), hosts: control.hosts.clone() };
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

    async fn start_while_listening(
        &mut self,
        modules: Vec<AssembledModule>,
        signals: &mut Signals,
        logging: LoggingHandle,
    ) -> Started {
        let starting = self.start(modules, logging);
        tokio::pin!(starting);
        loop {
            tokio::select! {
                started = &mut starting => return match started {
                    Ok(reloader) => Started::Ready(reloader),
                    Err(message) => Started::Failed(message),
                },
                asked = signals.next() => match asked {
                    Asked::Stop(cause) => return Started::Interrupted(cause),
                    Asked::Reload => info!("SIGHUP is left alone: the process is still starting"),
                },
            }
        }
    }

    /// Builds services, starts health checks and workers. Runs on the workers' executor, where what is built may spawn.
    async fn start(&mut self, modules: Vec<AssembledModule>, logging: LoggingHandle) -> Result<Reloader, String> {
        let mut parts = StartParts::default();
        let mut kept = Vec::new();
        for module in modules {
            kept.push((Arc::clone(&module.module), module.table.clone(), names(&module.parts.workers)));
            parts.services.extend(module.parts.services);
            parts.workers.extend(module.parts.workers);
            parts.health.extend(module.parts.health);
            parts.endpoints.extend(module.parts.endpoints);
        }
        let provided = Provided::default()
            .with::<dyn Clock>(Arc::clone(&self.clock))
            .with::<dyn TraceFactory>(Arc::new(self.traces.clone()));
        let container = ServiceContainer::new(parts.services, provided).map_err(|error| error.to_string())?;
        let container = Arc::new(container);
        self.container = Some(Arc::clone(&container));
        let services = container.services();
        let contributed = self.plane.contribute(parts.endpoints, services.clone(), self.workers.clone());
        contributed.map_err(|error| error.to_string())?;
        let (health, supervisor) = (self.health.clone(), self.supervisor.clone());
        let (definitions, contributions) = (parts.workers, parts.health);
        let start = self.workers.spawn(async move {
            container.build_all().await.map_err(|error| describe(&error))?;
            health.watch(contributions, &services).await.map_err(|error| describe(error.as_ref()))?;
            supervisor.start(definitions, services).await.map_err(|error| describe(&error))
        });
        start.await.map_err(|broken| format!("the start was cut short: {broken}"))??;
        self.lifecycle.enter(Stage::Ready);
        Ok(Reloader::new(Arc::clone(&self.configuration), logging, self.supervisor.clone(), kept))
    }

    /// Waits for a stop; carries out reloads on the way. Returns what asked for the stop.
    async fn work(&self, signals: &mut Signals, mut reloader: Reloader) -> &'static str {
        loop {
            match signals.next().await {
                Asked::Stop(cause) => return cause,
                Asked::Reload => reloader.reload().await,
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
        info!("stopping ({cause}): at most {:.0} s; a second signal interrupts what is in hand", budget.as_secs_f64());
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
        if let Some(container) = self.container.take() {
            let closing = self.workers.spawn(async move { container.close_all().await });
            if tokio::time::timeout(CLOSE_TIMEOUT, closing).await.is_err() {
                warn!("services did not close within {} s and were left behind", CLOSE_TIMEOUT.as_secs());
            }
        }
        self.end_of_traces.stop(false);
        let exported = tokio::time::timeout(CLOSE_TIMEOUT, exporting).await;
        let spans_lost = exported.ok().and_then(Result::ok).unwrap_or_else(|| self.traces.counts().1);
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

#[derive(Default)]
struct StartParts {
    services: Vec<ServiceDefinition>,
    workers: Vec<WorkerDefinition>,
    health: Vec<HealthContribution>,
    endpoints: Vec<plba_contracts::control::Endpoint>,
}

fn names(workers: &[WorkerDefinition]) -> Vec<String> {
    workers.iter().map(|worker| worker.name.clone()).collect()
}
