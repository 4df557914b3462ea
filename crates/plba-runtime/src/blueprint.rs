//! From modules to parts: every module declares, the configuration is loaded and validated whole, every module
//! assembles. Nothing is built or started here, so `check` does exactly this and no more.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use plba_contracts::application::{ApplicationModule, Assembly, Declaration, Parts, table_of};
use plba_contracts::config::{Published, SectionDefinition};
use plba_contracts::describe;
use plba_contracts::worker::WorkerDefinition;

use crate::config::{
    ConfigFaultKind, ConfigReport, Configuration, ConfigurationManager, ConfigurationSources, Consequence, FirstLook,
    OnInvalidStart, StartDoubt,
};
use crate::panic::panic_message;
use crate::platform::PlatformConfig;
use crate::tuning;

/// What a program brings to the platform.
#[derive(Clone)]
pub struct Launch {
    /// The application's name.
    pub application: String,
    /// Its modules, in the order in which they assemble.
    pub modules: Vec<Arc<dyn ApplicationModule>>,
    /// Where configuration comes from.
    pub sources: ConfigurationSources,
}

/// A validated plan of the process: nothing runs yet.
pub struct Blueprint {
    /// The configuration, as loaded and validated.
    pub configuration: ConfigurationManager,
    /// The platform's own section.
    pub platform: Arc<PlatformConfig>,
    /// What each module has registered, in their order.
    pub modules: Vec<AssembledModule>,
    /// What a person should know of the configuration that it is drawn by.
    pub doubt: Option<StartDoubt>,
}

/// A module and what it has registered.
pub struct AssembledModule {
    /// The module.
    pub module: Arc<dyn ApplicationModule>,
    /// Its table in the configuration.
    pub table: String,
    /// What it has registered.
    pub parts: Parts,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum BlueprintError {
    /// The configuration is wrong.
    #[error("{0}")]
    Misconfigured(Box<ConfigReport>),
    /// A module can't be put together.
    #[error("module \"{module}\" can't be assembled: {reason}")]
    Assembly {
        /// The module.
        module: String,
        /// What it said.
        reason: String,
    },
    /// A module's name can't be used.
    #[error("{0}")]
    Name(String),
    /// The start was to take the last good configuration, and can't.
    #[error("{written}\nplatform.config.on_invalid_start asks for the last good configuration then, but {reason}")]
    NoLastGood {
        /// What is wrong with the one that is written.
        written: Box<BlueprintError>,
        /// Why there is no other.
        reason: String,
    },
}

impl Blueprint {
    /// Draws the plan by the configuration that is written.
    ///
    /// # Errors
    /// The configuration is wrong, or a module can't be put together.
    pub async fn draw(launch: &Launch) -> Result<Self, BlueprintError> {
        let sections = declare(&launch.modules)?;
        let loaded = ConfigurationManager::load(sections, launch.sources.clone()).await;
        Self::drawn_by(launch, loaded)
    }

    /// Draws the plan of a start: if the configuration that is written is wrong, by the last good one, where
    /// `platform.config.on_invalid_start` asks for that.
    ///
    /// # Errors
    /// As [`draw`](Self::draw), or there is no last good configuration that can be used.
    pub async fn draw_for_start(launch: &Launch) -> Result<Self, BlueprintError> {
        let sections = declare(&launch.modules)?;
        let look = FirstLook::at(sections.clone(), launch.sources.clone(), &launch.application).await;
        let written = Self::draw(launch).await.and_then(|blueprint| {
            let configuration = &blueprint.configuration;
            let doubt = look.compare(&configuration.current(), configuration.files());
            let doubt = doubt.map_err(|report| BlueprintError::Misconfigured(Box::new(report)))?;
            Ok(Self { doubt, ..blueprint })
        });
        let written = match written {
            Err(written @ (BlueprintError::Misconfigured(_) | BlueprintError::Assembly { .. })) => written,
            drawn => return drawn,
        };
        if look.policy() == OnInvalidStart::Strict {
            return Err(written);
        }
        let drawn = match &look.last_good {
            Ok(kept) => {
                let loaded = ConfigurationManager::load_kept(sections, launch.sources.clone(), Arc::clone(kept)).await;
                Self::drawn_by(launch, loaded).map_err(|error| format!("it can't be used either:\n{error}"))
            }
            Err(error) => Err(error.to_string()),
        };
        match drawn {
            Ok(blueprint) => Ok(Self {
                doubt: Some(StartDoubt::LastGood(written.to_string())),
                ..blueprint
            }),
            Err(reason) => Err(BlueprintError::NoLastGood {
                written: Box::new(written),
                reason,
            }),
        }
    }

    fn drawn_by(launch: &Launch, loaded: Result<ConfigurationManager, ConfigReport>) -> Result<Self, BlueprintError> {
        let configuration = loaded.map_err(|report| BlueprintError::Misconfigured(Box::new(report)))?;
        let current = configuration.current();
        let platform = platform_of(&current)?;
        let published = configuration.published();
        let assembled = launch
            .modules
            .iter()
            .map(|module| assemble(module, &current, &platform, &published));
        let modules = assembled.collect::<Result<Vec<_>, _>>()?;
        check_workers(&current, &modules, Consequence::NothingStarted)?;
        Ok(Self {
            configuration,
            platform,
            modules,
            doubt: None,
        })
    }
}

/// The sections that the platform and these modules declare.
///
/// # Errors
/// A module's name can't be used, or is taken.
pub fn declare(modules: &[Arc<dyn ApplicationModule>]) -> Result<Vec<SectionDefinition>, BlueprintError> {
    let mut tables = BTreeSet::from(["platform".to_owned()]);
    let mut sections = vec![SectionDefinition::new::<PlatformConfig>("platform")];
    for module in modules {
        let name = module.name();
        let sound = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
        if name.is_empty() || !name.bytes().all(sound) {
            let message = format!("module name {name:?} can't be used; use lower-case letters, digits and `-`");
            return Err(BlueprintError::Name(message));
        }
        if !tables.insert(table_of(name)) {
            let message = format!(
                "there are two modules for the table [{}]; rename one of them",
                table_of(name)
            );
            return Err(BlueprintError::Name(message));
        }
        let mut declaration = Declaration::new(name);
        module.declare(&mut declaration);
        sections.extend(declaration.into_sections());
    }
    Ok(sections)
}

/// Lets one module register its parts from this configuration, following what is published from then on.
///
/// # Errors
/// The module refuses, or panics.
pub fn assemble(
    module: &Arc<dyn ApplicationModule>,
    configuration: &Configuration,
    platform: &PlatformConfig,
    published: &Arc<dyn Published>,
) -> Result<AssembledModule, BlueprintError> {
    let table = table_of(module.name());
    let mut assembly = Assembly::new(
        module.name(),
        configuration.section(&table),
        platform.state_dir.as_path(),
    )
    .following(Arc::clone(published));
    let failed = |reason| BlueprintError::Assembly {
        module: module.name().to_owned(),
        reason,
    };
    catch_unwind(AssertUnwindSafe(|| module.assemble(&mut assembly)))
        .map_err(|panic| failed(panic_message(panic.as_ref())))?
        .map_err(|error| failed(describe(error.as_ref())))?;
    Ok(AssembledModule {
        module: Arc::clone(module),
        table,
        parts: assembly.into_parts(),
    })
}

/// Checks that the configuration of single workers names such as there are, and fits them.
///
/// # Errors
/// Some are not there, or run at no interval that could be set: each with its place, and what follows from it.
pub fn check_workers(
    configuration: &Configuration,
    modules: &[AssembledModule],
    consequence: Consequence,
) -> Result<(), BlueprintError> {
    let platform = platform_of(configuration)?;
    let workers: Vec<&WorkerDefinition> = modules.iter().flat_map(|module| &module.parts.workers).collect();
    let unknown = tuning::unknown(&platform.workers, workers.iter().map(|worker| worker.name.as_str()));
    let unknown = unknown.into_iter().map(|(name, remedy)| {
        let (path, message) = (["platform", "workers", name], format!("there is no worker `{name}`"));
        configuration.fault(&path, ConfigFaultKind::Unknown, message, remedy)
    });
    let paced = |worker: &&&WorkerDefinition| {
        let set = platform.workers.get(&worker.name);
        set.is_some_and(|set| set.interval.is_some()) && worker.pace.is_none()
    };
    let unpaced = workers.iter().filter(paced).map(|worker| {
        let path = ["platform", "workers", &worker.name, "interval"];
        let message = format!("the worker `{}` does not run at an interval", worker.name);
        let remedy = "take this out; what a source or a queue is asked how often is set where it is configured";
        configuration.fault(&path, ConfigFaultKind::Invalid, message, remedy.to_owned())
    });
    let faults: Vec<_> = unknown.chain(unpaced).collect();
    if faults.is_empty() {
        return Ok(());
    }
    let report = ConfigReport::new(faults, consequence);
    Err(BlueprintError::Misconfigured(Box::new(report)))
}

/// The platform's own section of a configuration.
///
/// # Errors
/// The configuration was loaded without it.
pub fn platform_of(configuration: &Configuration) -> Result<Arc<PlatformConfig>, BlueprintError> {
    let section = configuration
        .section("platform")
        .and_then(|section| section.downcast::<PlatformConfig>().ok());
    section.ok_or_else(|| BlueprintError::Name("the configuration was loaded without its section [platform]".into()))
}
