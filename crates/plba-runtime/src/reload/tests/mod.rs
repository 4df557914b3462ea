//! Reloads of a whole process but for its signals: real files, modules, supervisor and log levels, on paused time. Here lives
//! the shop that is reloaded, which fails wherever its configuration says.

mod subscribers;
mod torture;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use plba_contracts::BoxError;
use plba_contracts::application::{ApplicationModule, Assembly, Declaration};
use plba_contracts::clock::Clock;
use plba_contracts::config::{ConfigSection, Faults};
use plba_contracts::control::Endpoint;
use plba_contracts::health::{Health, HealthContribution, HealthContributor};
use plba_contracts::metrics::Metrics;
use plba_contracts::services::{ServiceDefinition, Services};
use plba_contracts::stop::StopHandle;
use plba_contracts::worker::{Exit, Running, StartError, Worker, WorkerContext, WorkerDefinition, WorkerStatus};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::*;
use crate::audit::AuditLog;
use crate::blueprint::Blueprint;
use crate::config::ConfigurationSources;
use crate::config::change::Stage;
use crate::config::overrides::Overrides;
use crate::control::{ControlParts, ControlPlane, Lifecycle};
use crate::health::HealthRegistry;
use crate::logging;
use crate::modules::Foundation;
use crate::platform::PlatformConfig;
use crate::supervisor::WorkerSupervisor;
use crate::supervisor::tests::TokioClock;
use crate::timeline::Timeline;
use crate::trace::TraceConfig;
use crate::tuning::Tuning;

/// A shop.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct ShopConfig {
    /// What it sells.
    stock: String,
    /// Where it fails.
    fault: String,
}

impl ConfigSection for ShopConfig {
    fn validate(&self, faults: &mut Faults) {
        faults.require(
            self.fault != "validate",
            "fault",
            "the shop's own validation refuses this",
        );
    }
}

/// What the shop sells, as a service.
struct Stock(String);

/// Who is at work now, and with what.
type Present = Arc<Mutex<Vec<String>>>;

struct Shop {
    name: &'static str,
    present: Present,
}

impl ApplicationModule for Shop {
    fn name(&self) -> &str {
        self.name
    }

    fn declare(&self, declaration: &mut Declaration) {
        declaration.section::<ShopConfig>();
    }

    fn assemble(&self, assembly: &mut Assembly) -> Result<(), BoxError> {
        let config = assembly.section::<ShopConfig>()?;
        let fault = Arc::new(config.fault.clone());
        match fault.as_str() {
            "assemble" => return Err("the shop has no roof".into()),
            "assemble panics" => panic!("the shop has burnt down"),
            _ => {}
        }
        assembly.before_change("shopkeeper", |_: Arc<ShopConfig>, new: Arc<ShopConfig>| async move {
            match new.fault.as_str() {
                "refuse" => Err("not on a Sunday".into()),
                "refuse by panic" => panic!("the shopkeeper has fainted"),
                "hang" => std::future::pending().await,
                _ => Ok(()),
            }
        });
        let (name, stock, fails) = (self.name, config.stock.clone(), Arc::clone(&fault));
        assembly.service(
            ServiceDefinition::new::<Stock, _, _>(move |_| {
                let (stock, fails) = (Arc::new(Stock(stock.clone())), Arc::clone(&fails));
                async move {
                    match fails.as_str() {
                        "service" => Err("the supplier is broke".into()),
                        "service panics" => panic!("the supplier has fled"),
                        _ => Ok(stock),
                    }
                }
            })
            .named(name),
        );
        let (present, fails) = (Arc::clone(&self.present), Arc::clone(&fault));
        assembly.worker(WorkerDefinition::new(format!("{name}-seller"), move |services| {
            build_seller(name, services, Arc::clone(&present), Arc::clone(&fails))
        }));
        let fails = Arc::clone(&fault);
        assembly.health(HealthContribution::new(format!("{name}-till"), move |_| {
            let fails = Arc::clone(&fails);
            async move {
                match fails.as_str() {
                    "health" => Err("the till is locked".into()),
                    _ => Ok(Arc::new(Well) as Arc<dyn HealthContributor>),
                }
            }
        }));
        let view = || Endpoint::view::<u32, _, _>("sales", "Tells the sales.", |_, _| async { Ok(1) });
        if fault.as_str() == "endpoint" {
            assembly.endpoint(view());
            assembly.endpoint(view());
        }
        Ok(())
    }
}

async fn build_seller(
    name: &'static str,
    services: Services,
    present: Present,
    fault: Arc<String>,
) -> Result<Arc<dyn Worker>, BoxError> {
    let stock = services.get_named::<Stock>(name).await?;
    if fault.as_str() == "worker" {
        return Err("no seller applies".into());
    }
    let who = format!("{name} sells {}", stock.0);
    Ok(Arc::new(Seller {
        who,
        present,
        stop: StopHandle::new(),
        fault,
    }))
}

struct Seller {
    who: String,
    present: Present,
    stop: StopHandle,
    fault: Arc<String>,
}

#[async_trait]
impl Worker for Seller {
    async fn start(self: Arc<Self>, _: WorkerContext) -> Result<Running, StartError> {
        match self.fault.as_str() {
            "start" => return Err(StartError::new("the seller is ill")),
            "never starts" => std::future::pending().await,
            _ => {}
        }
        let here = Here::new(&self.who, &self.present);
        Ok(Running::new(async move {
            let _here = here;
            self.stop.signal().requested().await;
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

/// Someone is present for as long as this.
struct Here(String, Present);

impl Here {
    fn new(who: &str, present: &Present) -> Self {
        present.lock().unwrap().push(who.to_owned());
        Self(who.to_owned(), Arc::clone(present))
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        let mut present = self.1.lock().unwrap();
        if let Some(at) = present.iter().position(|who| *who == self.0) {
            present.swap_remove(at);
        }
    }
}

struct Well;

#[async_trait]
impl HealthContributor for Well {
    async fn check(&self) -> Health {
        Health::Ok
    }
}

/// A process with two shops, and its directory.
struct Town {
    directory: PathBuf,
    clock: Arc<dyn Clock>,
    supervisor: WorkerSupervisor,
    health: HealthRegistry,
    present: Present,
    followers: Followers,
    modules: RunningModules,
    /// Without it the log's filters are nobody's.
    _dispatch: tracing::Dispatch,
}

impl Town {
    async fn start(text: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("plba-reload-{}-{count}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("town.toml"), text).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(TokioClock(Instant::now()));
        let present = Present::default();
        let launch = launch(&directory, &clock, &present);
        let Blueprint {
            configuration,
            platform,
            modules,
            doubt: _,
        } = Blueprint::draw(&launch).await.unwrap();
        let (_dispatch, logging) = logging::prepare(&platform.logging, Arc::clone(&clock), Vec::new()).unwrap();
        let supervisor = WorkerSupervisor::new(Arc::clone(&clock), 7);
        let health = HealthRegistry::new(Arc::clone(&clock), Vec::new);
        let (traces, _) = TraceService::new(&TraceConfig::default(), Arc::clone(&clock), 7, Vec::new());
        let foundation = foundation(&clock, &supervisor, &health, &traces, &platform);
        let mut modules = RunningModules::new(modules, foundation).unwrap();
        modules.start().await.unwrap();
        Self {
            directory,
            clock,
            supervisor,
            health,
            present,
            followers: Followers {
                configuration: Arc::new(configuration),
                logging: Arc::new(logging),
                traces,
                launch,
            },
            modules,
            _dispatch,
        }
    }

    fn write(&self, text: &str) {
        fs::write(self.directory.join("town.toml"), text).unwrap();
    }

    /// Changes that all of its parts follow, and after them `more`.
    fn transactions<'a>(
        followers: &'a Followers,
        modules: &'a mut RunningModules,
        clock: &Arc<dyn Clock>,
        more: Vec<Box<dyn LivePart + 'a>>,
    ) -> Transactions<'a> {
        let mut parts = followers.with(modules, Handle::current());
        parts.extend(more);
        Transactions::new(Arc::clone(&followers.configuration), Arc::clone(clock), parts)
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn launch(directory: &Path, clock: &Arc<dyn Clock>, present: &Present) -> Launch {
    let shop = |name| {
        let present = Arc::clone(present);
        Arc::new(Shop { name, present }) as Arc<dyn ApplicationModule>
    };
    Launch {
        application: "town".into(),
        modules: vec![shop("bakery"), shop("butchery")],
        sources: ConfigurationSources {
            files: vec![directory.join("town.toml")],
            overrides: vec![format!("platform.state_dir={}", directory.display())],
            kept: Overrides::by(Arc::clone(clock)),
            ..ConfigurationSources::default()
        },
    }
}

fn foundation(
    clock: &Arc<dyn Clock>,
    supervisor: &WorkerSupervisor,
    health: &HealthRegistry,
    traces: &TraceService,
    platform: &PlatformConfig,
) -> Foundation {
    let plane = ControlPlane::new(ControlParts {
        lifecycle: Lifecycle::default(),
        clock: Arc::clone(clock),
        token: "a town's token".into(),
        audit: AuditLog::to_log_only(),
        live: Box::new(|| true),
        usable: Box::new(|| true),
        metrics: Metrics::default(),
        own: Vec::new(),
    });
    Foundation {
        clock: Arc::clone(clock),
        workers: Handle::current(),
        supervisor: supervisor.clone(),
        health: health.clone(),
        plane,
        traces: traces.clone(),
        metrics: Metrics::default(),
        tuning: Tuning::new(platform.workers.clone()),
        timeline: Timeline::new(Arc::clone(clock)),
    }
}
