//! The parts of a running process, and how they are started, kept at work and stopped. The order of a whole life is the
//! manager's.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use plba_contracts::clock::Clock;
use plba_contracts::control::{ControlSurface, ControlTransport, Endpoint, TransportSettings};
use plba_contracts::health::Health;
use plba_contracts::metrics::{MetricSource, Metrics};
use plba_contracts::stop::{StopHandle, StopPhase};
use tokio::runtime::Handle;
use tracing::{info, warn};

use crate::TARGET;
use crate::actions;
use crate::audit::AuditLog;
use crate::blueprint::{AssembledModule, platform_of};
use crate::children::ChildStop;
use crate::config::change::{Asked as When, ChangeObserver, ConfigRecords, ConfigStart, HealthProving, Trigger};
use crate::config::overrides::OverrideKeeper;
use crate::config::{self, ConfigurationManager, StartDoubt};
use crate::control::{ControlParts, ControlPlane, ControlPlaneService, Lifecycle, Stage, transport_failed};
use crate::health::HealthRegistry;
use crate::manager::StartupError;
use crate::modules::{Foundation, RunningModules};
use crate::notify::ServiceManager;
use crate::platform::PlatformConfig;
use crate::previous_run::PreviousRun;
use crate::reload::{Followers, Reloader, watchers};
use crate::run_journal::RunJournal;
use crate::shutdown::{Asked, ExitReason, Signals, StopCause, StopReport};
use crate::state::StateDirectory;
use crate::supervisor::WorkerSupervisor;
use crate::timeline::Timeline;
use crate::token;
use crate::trace::{TraceExport, TraceService};
use crate::tuning::Tuning;
use crate::views;

/// How long services and traces may take to close, each, once the workers have stopped: what is left of the budget, but
/// within these bounds. A tenth of the budget, at most a second, is kept for them.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);
const CLOSE_LEAST: Duration = Duration::from_millis(100);
const CLOSE_SHARE: Duration = Duration::from_secs(1);

/// The platform's own views and actions.
fn own(facts: views::Facts, keeper: &Arc<OverrideKeeper>) -> Vec<Endpoint> {
    let configuration = Arc::clone(&facts.configuration);
    let mut own = actions::endpoints(Some(&facts.supervisor));
    own.extend(config::control::views(&configuration));
    own.extend(config::control::actions(Some((configuration, Arc::clone(keeper)))));
    own.extend(views::own(facts));
    own
}

/// Keeps what operators set while the process runs, and ends it in time.
fn keep_overrides(
    configuration: &Arc<ConfigurationManager>,
    directory: &Path,
) -> Result<Arc<OverrideKeeper>, StartupError> {
    let begun = OverrideKeeper::begin(configuration, directory).map_err(StartupError::failed)?;
    let (keeper, left) = (Arc::new(begun.0), begun.1);
    for one in left {
        warn!(target: TARGET,
            "the override of {} by {} is not taken: it was on probation when the last run ended without having been asked to stop",
            one.key,
            one.by
        );
    }
    let keeping: Arc<dyn ChangeObserver> = Arc::clone(&keeper) as _;
    configuration.observe(keeping);
    tokio::spawn(config::overrides::expire(Arc::clone(configuration)));
    Ok(keeper)
}

/// How a start ended.
pub(crate) enum Started {
    /// Every worker is ready.
    Ready,
    /// A signal came first.
    Interrupted(StopCause),
    /// It failed, with this message.
    Failed(String),
}

/// What is known by the time the parts are put together.
pub(crate) struct Beginnings {
    /// How the last run ended, if there was one.
    pub(crate) previous: Option<PreviousRun>,
    /// What a person should know of the configuration.
    pub(crate) doubt: Option<StartDoubt>,
    /// The start so far.
    pub(crate) timeline: Timeline,
}

/// The parts of a running process.
pub(crate) struct Process {
    application: String,
    clock: Arc<dyn Clock>,
    workers: Handle,
    platform: Arc<PlatformConfig>,
    pub(crate) configuration: Arc<ConfigurationManager>,
    overrides: Arc<OverrideKeeper>,
    records: Arc<ConfigRecords>,
    traces: TraceService,
    metrics: Metrics,
    /// Held, so that the platform's own figures are told.
    _observed: Arc<dyn MetricSource>,
    supervisor: WorkerSupervisor,
    health: HealthRegistry,
    plane: ControlPlane,
    lifecycle: Lifecycle,
    control: Option<ControlPlaneService>,
    modules: Option<RunningModules>,
    end_of_traces: StopHandle,
    service_manager: ServiceManager,
    timeline: Timeline,
}

impl Process {
    pub(crate) fn new(
        application: &str,
        clock: Arc<dyn Clock>,
        workers: Handle,
        platform: Arc<PlatformConfig>,
        configuration: ConfigurationManager,
        traces: TraceService,
        beginnings: Beginnings,
    ) -> Result<Self, StartupError> {
        let Beginnings {
            previous,
            doubt,
            timeline,
        } = beginnings;
        let watchdog = platform.health.watchdog();
        let supervisor = WorkerSupervisor::with_workers_on(&workers, Arc::clone(&clock), fastrand::u64(..), watchdog);
        timeline.follow(supervisor.events());
        let configuration = Arc::new(configuration);
        let directory = platform.state_dir.as_path();
        let metrics = Metrics::default();
        let start = ConfigStart {
            directory,
            application,
            manager: &configuration,
            doubt: doubt.as_ref(),
        };
        let records = ConfigRecords::begin(&start, Arc::clone(&clock), &metrics).map_err(StartupError::failed)?;
        let health = HealthRegistry::new(
            Arc::clone(&clock),
            views::health_of(supervisor.clone(), Arc::clone(&records)),
        );
        configuration.observe(Arc::<ConfigRecords>::clone(&records));
        configuration.prove_with(Arc::new(HealthProving::new(Arc::clone(&clock), &supervisor, &health)));
        let token = token::of(&platform.control, directory).map_err(StartupError::failed)?;
        let audit = AuditLog::open(directory).map_err(|error| {
            StartupError::failed(format!(
                "the audit log in {} can't be written: {error}",
                directory.display()
            ))
        })?;
        let observed = crate::metrics::observe(&metrics, &supervisor, &health, &traces);
        let observed = observed.map_err(StartupError::failed)?;
        let (at_start, running) = (platform.health.stall_limit, Arc::clone(&configuration));
        let stall_limit = move || {
            let platform = platform_of(&running.current());
            Duration::from(platform.map_or(at_start, |platform| platform.health.stall_limit))
        };
        let lifecycle = Lifecycle::default();
        let keeper = keep_overrides(&configuration, directory)?;
        let plane = ControlPlane::new(ControlParts {
            lifecycle: lifecycle.clone(),
            clock: Arc::clone(&clock),
            token,
            audit,
            live: views::live(supervisor.clone(), stall_limit),
            usable: views::usable(health.clone()),
            metrics: metrics.clone(),
            own: own(
                views::Facts {
                    application: application.to_owned(),
                    started: clock.now(),
                    clock: Arc::clone(&clock),
                    state_dir: directory.to_owned(),
                    lifecycle: lifecycle.clone(),
                    configuration: Arc::clone(&configuration),
                    records: Arc::clone(&records),
                    supervisor: supervisor.clone(),
                    health: health.clone(),
                    traces: traces.clone(),
                    metrics: metrics.clone(),
                    previous,
                    timeline: timeline.clone(),
                },
                &keeper,
            ),
        });
        let application = application.to_owned();
        let (control, modules, end_of_traces) = (None, None, StopHandle::new());
        let service_manager = ServiceManager::default();
        Ok(Self {
            application,
            clock,
            workers,
            platform,
            configuration,
            overrides: keeper,
            records,
            traces,
            metrics,
            _observed: observed,
            supervisor,
            health,
            plane,
            lifecycle,
            control,
            modules,
            end_of_traces,
            service_manager,
            timeline,
        })
    }

    /// From now on tells this service manager how the process is.
    pub(crate) fn report_to(&mut self, manager: ServiceManager) -> std::io::Result<()> {
        let (plane, lifecycle, health) = (self.plane.clone(), self.lifecycle.clone(), self.health.clone());
        let status = move || {
            let stage = lifecycle.stage().word();
            match health.report().health {
                Health::Ok => format!("{stage}, all well"),
                Health::Degraded { reason } => format!("{stage}, degraded: {reason}"),
                Health::Unhealthy { reason } => format!("{stage}, unhealthy: {reason}"),
            }
        };
        manager.watch(move || plane.live().passed, status)?;
        self.service_manager = manager;
        Ok(())
    }

    pub(crate) fn keep_journal(&self, journal: &RunJournal) -> std::io::Result<()> {
        journal.follow(self.supervisor.clone())
    }

    pub(crate) async fn open_control_plane(
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

    pub(crate) fn export_traces(&self, export: TraceExport) -> tokio::task::JoinHandle<u64> {
        let end = self.end_of_traces.signal();
        self.workers.spawn(export.run(async move { end.requested().await }))
    }

    /// Puts the modules together and starts them, listening to signals meanwhile.
    pub(crate) async fn start(&mut self, modules: Vec<AssembledModule>, signals: &mut Signals) -> Started {
        let foundation = Foundation {
            clock: Arc::clone(&self.clock),
            workers: self.workers.clone(),
            supervisor: self.supervisor.clone(),
            health: self.health.clone(),
            plane: self.plane.clone(),
            traces: self.traces.clone(),
            metrics: self.metrics.clone(),
            tuning: Tuning::new(self.platform.workers.clone()),
            timeline: self.timeline.clone(),
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
                            self.service_manager.ready();
                            Started::Ready
                        }
                        Err(message) => Started::Failed(message),
                    };
                }
                asked = signals.next() => match asked {
                    Asked::Stop(cause) => return Started::Interrupted(cause.into()),
                    Asked::Reload => info!(target: TARGET, "SIGHUP is left alone: the process is still starting"),
                },
            }
        }
    }

    pub(crate) fn greet(&self) {
        info!(target: TARGET, "{} is ready", self.application);
        for greeting in self.modules.iter().flat_map(RunningModules::greetings) {
            info!(target: TARGET, "{greeting}");
        }
        for address in self.control.iter().flat_map(ControlPlaneService::addresses) {
            let token = token::path(&self.platform.control, self.platform.state_dir.as_path());
            info!(target: TARGET, "control plane at {address}, with the token in {token}");
        }
    }

    /// Waits for a stop, which a signal asks for or a worker's definition; the configuration changes on the way.
    pub(crate) async fn work(&mut self, signals: &mut Signals, followers: &Followers) -> StopCause {
        let supervisor = self.supervisor.clone();
        let fatal = supervisor.fatal();
        tokio::pin!(fatal);
        let configuration = Arc::clone(&self.configuration);
        let parts = match &mut self.modules {
            Some(modules) => followers.with(modules, self.workers.clone()),
            None => Vec::new(),
        };
        let (clock, service_manager) = (Arc::clone(&self.clock), self.service_manager.clone());
        let mut reloader = Reloader::new(Arc::clone(&configuration), clock, parts, service_manager);
        let _watching = watchers(&configuration);
        let changing = reloader.run();
        tokio::pin!(changing);
        loop {
            tokio::select! {
                never = &mut changing => match never {},
                fatal = &mut fatal => return fatal.into(),
                asked = signals.next() => match asked {
                    Asked::Stop(cause) => return cause.into(),
                    Asked::Reload => if configuration.requests().ask(Trigger::Signal) == When::AfterThis {
                        info!(target: TARGET, "SIGHUP: once more when the reload that is under way is over");
                    },
                },
            }
        }
    }

    /// Not ready at once; workers, services, traces; a second signal forces.
    pub(crate) async fn stop(
        &mut self,
        cause: StopCause,
        signals: &mut Signals,
        exporting: tokio::task::JoinHandle<u64>,
    ) -> StopReport {
        self.lifecycle.enter(Stage::Stopping);
        self.configuration.requests().close();
        self.overrides.settle().await;
        let StopCause { text: cause, exit_code } = cause;
        self.service_manager.stopping(&cause);
        self.supervisor.children().stopping();
        let (asked, since) = (self.clock.now(), self.clock.monotonic());
        let running = platform_of(&self.configuration.current());
        let budget = Duration::from(running.map_or(self.platform.stop_budget, |platform| platform.stop_budget));
        info!(target: TARGET,
            "stopping ({cause}): at most {:.0} s; a second signal interrupts what is in hand",
            budget.as_secs_f64()
        );
        let force = StopHandle::new();
        let for_workers = budget.saturating_sub((budget / 10).min(CLOSE_SHARE));
        let clock = Arc::clone(&self.clock);
        let left = || {
            let spent = clock.monotonic().saturating_sub(since);
            budget.saturating_sub(spent).clamp(CLOSE_LEAST, CLOSE_TIMEOUT)
        };
        let stopping = self.supervisor.stop(for_workers, force.signal());
        tokio::pin!(stopping);
        let workers = loop {
            tokio::select! {
                workers = &mut stopping => break workers,
                asked = signals.next() => if let Asked::Stop(again) = asked {
                    if force.signal().phase() < StopPhase::Force {
                        warn!(target: TARGET, "{again} again: what is in hand is interrupted now");
                    }
                    force.stop(true);
                },
            }
        };
        self.health.stop();
        if let Some(modules) = self.modules.take()
            && tokio::time::timeout(left(), modules.close()).await.is_err()
        {
            warn!(target: TARGET, "services did not close in time and were left behind");
        }
        self.end_of_traces.stop(false);
        let exported = tokio::time::timeout(left(), exporting).await;
        let spans_lost = exported
            .ok()
            .and_then(Result::ok)
            .unwrap_or_else(|| self.traces.counts().1);
        self.records.settle(left()).await;
        let stopped = StopReport::outcome_of(&workers);
        let children = self.end_children().await;
        StopReport {
            application: self.application.clone(),
            cause,
            asked,
            took: self.clock.monotonic().saturating_sub(since),
            budget,
            outcome: exit_code.map_or(stopped, |_| ExitReason::WorkerFailed),
            exit_code: exit_code.unwrap_or(stopped.code()),
            workers,
            children,
            spans_lost,
        }
    }

    /// Nobody whom a worker has started outlives the process.
    async fn end_children(&self) -> Vec<ChildStop> {
        let children = Arc::clone(self.supervisor.children());
        let ended = tokio::task::spawn_blocking(move || children.close()).await;
        ended.unwrap_or_default()
    }

    pub(crate) async fn close_control_plane(&mut self) {
        if let Some(control) = self.control.take() {
            control.close().await;
        }
    }
}
