//! What an application brings: a module that first declares its configuration and then assembles its parts. The order
//! in which the platform calls it, and what it does with the parts, live in the runtime.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::BoxError;
use crate::config::{BeforeChange, Fixed, Live, Published};
use crate::control::Endpoint;
use crate::health::HealthContribution;
use crate::section::{ConfigSection, ErasedSection, SectionDefinition};
use crate::services::ServiceDefinition;
use crate::worker::WorkerDefinition;

/// Describes an application, or a part of one, to the platform.
///
/// Two steps, because configuration can only be checked once everyone has said what they need: first every module
/// declares, then the whole configuration is loaded and validated, then every module assembles. Neither step does input
/// or output: that belongs in the asynchronous factories of services and workers.
///
/// A reload that changes the module's section calls [`assemble`](Self::assemble) again.
///
/// ```
/// use plba_contracts::BoxError;
/// use plba_contracts::application::{ApplicationModule, Assembly, Declaration};
///
/// struct Orders;
///
/// impl ApplicationModule for Orders {
///     fn name(&self) -> &str {
///         "orders"
///     }
///     fn declare(&self, declaration: &mut Declaration) {
///         // declaration.section::<OrdersConfig>();
///     }
///     fn assemble(&self, assembly: &mut Assembly) -> Result<(), BoxError> {
///         // assembly.worker(..)
///         Ok(())
///     }
/// }
/// ```
pub trait ApplicationModule: Send + Sync + 'static {
    /// Its name, unique in the process: lower-case letters, digits and `-`. Its table in the configuration has `_` for
    /// `-`: `mail-order-bot` has `[mail_order_bot]`.
    fn name(&self) -> &str;

    /// Says which configuration it needs. Called once, before configuration is read.
    fn declare(&self, declaration: &mut Declaration) {
        let _ = declaration;
    }

    /// Registers services, workers, health contributors, views and actions from the validated configuration.
    ///
    /// - **`Err`**: the application can't be put together; ends the start-up, or refuses the reload, with this message.
    /// - **Panic**: as `Err`.
    fn assemble(&self, assembly: &mut Assembly) -> Result<(), BoxError>;
}

/// Where a module says which configuration it needs.
#[derive(Default)]
pub struct Declaration {
    module: String,
    sections: Vec<SectionDefinition>,
}

impl Declaration {
    /// The declaration of the module with this name.
    pub fn new(module: &str) -> Self {
        Self {
            module: module.to_owned(),
            sections: Vec::new(),
        }
    }

    /// The module's own table is read as `T`.
    pub fn section<T: ConfigSection>(&mut self) {
        self.sections.push(SectionDefinition::new::<T>(table_of(&self.module)));
    }

    /// What was declared.
    pub fn into_sections(self) -> Vec<SectionDefinition> {
        self.sections
    }
}

/// The table of the configuration that belongs to a module.
pub fn table_of(module: &str) -> String {
    module.replace('-', "_")
}

/// Where a module registers its parts.
pub struct Assembly {
    module: String,
    section: Option<ErasedSection>,
    published: Arc<dyn Published>,
    state_dir: PathBuf,
    parts: Parts,
}

/// What modules have registered.
#[derive(Default)]
pub struct Parts {
    /// Services, built before workers start.
    pub services: Vec<ServiceDefinition>,
    /// Workers.
    pub workers: Vec<WorkerDefinition>,
    /// Health contributors.
    pub health: Vec<HealthContribution>,
    /// Views and actions.
    pub endpoints: Vec<Endpoint>,
    /// Those who are asked before the module's section changes.
    pub before_change: Vec<BeforeChange>,
    /// Sentences for a person who watches the start: where things are, what to try.
    pub greetings: Vec<String>,
}

impl Assembly {
    /// The assembly of the module with this name, with its section as validated.
    pub fn new(module: &str, section: Option<ErasedSection>, state_dir: &Path) -> Self {
        let (module, state_dir) = (module.to_owned(), state_dir.to_owned());
        Self {
            module,
            published: Arc::new(Fixed(section.clone())),
            section,
            state_dir,
            parts: Parts::default(),
        }
    }

    /// From now on [`live`](Self::live) follows what is published here. Without it, its section never changes.
    #[must_use]
    pub fn following(mut self, published: Arc<dyn Published>) -> Self {
        self.published = published;
        self
    }

    /// The state directory, which this process owns while anything that was registered here runs.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// The name of the module that assembles.
    pub fn module(&self) -> &str {
        &self.module
    }

    /// The module's section, as validated.
    ///
    /// # Errors
    /// The module did not declare a section, or declared another type.
    pub fn section<T: ConfigSection>(&self) -> Result<Arc<T>, BoxError> {
        let section = self
            .section
            .clone()
            .map(|section| section as Arc<dyn Any + Send + Sync>);
        section.and_then(|section| section.downcast::<T>().ok()).ok_or_else(|| {
            let name = std::any::type_name::<T>();
            format!(
                "module \"{}\" asks for its section as {name}, which it has not declared",
                self.module
            )
            .into()
        })
    }

    /// The module's section, followed while the process runs: for what is to change without being built or started anew.
    /// It may be given to services, workers and views, and as a service to other modules.
    ///
    /// # Errors
    /// As [`section`](Self::section).
    pub fn live<T: ConfigSection>(&self) -> Result<Live<T>, BoxError> {
        self.section::<T>()?;
        Live::new(Arc::clone(&self.published), &table_of(&self.module))
    }

    /// Asks `ask` before a reload changes the module's section: the running one, then the new one. It may refuse with a
    /// reason, as [`BeforeChange`] says.
    ///
    /// ```
    /// # use plba_contracts::BoxError;
    /// # use plba_contracts::application::Assembly;
    /// # use plba_contracts::section::ConfigSection;
    /// # #[derive(Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
    /// # struct Shop { catalogue: String }
    /// # impl ConfigSection for Shop {}
    /// # async fn read(_: &str) -> Result<(), BoxError> { Ok(()) }
    /// fn assemble(assembly: &mut Assembly) {
    ///     assembly.before_change::<Shop, _, _>("catalogue", |old, new| async move {
    ///         if old.catalogue != new.catalogue {
    ///             read(&new.catalogue).await?;
    ///         }
    ///         Ok(())
    ///     });
    /// }
    /// ```
    pub fn before_change<T, F, Fut>(&mut self, name: &str, ask: F)
    where
        T: ConfigSection,
        F: Fn(Arc<T>, Arc<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let table = table_of(&self.module);
        self.parts
            .before_change
            .push(BeforeChange::new::<T, F, Fut>(name, table, ask));
    }

    /// Registers a service.
    pub fn service(&mut self, service: ServiceDefinition) {
        self.parts.services.push(service);
    }

    /// Registers a worker.
    pub fn worker(&mut self, worker: impl Into<WorkerDefinition>) {
        self.parts.workers.push(worker.into());
    }

    /// Registers a health contributor.
    pub fn health(&mut self, contribution: HealthContribution) {
        self.parts.health.push(contribution);
    }

    /// Registers a view or an action.
    pub fn endpoint(&mut self, endpoint: Endpoint) {
        self.parts.endpoints.push(endpoint);
    }

    /// Says something to the person who watches the start, once the application is ready.
    pub fn greet(&mut self, sentence: impl Into<String>) {
        self.parts.greetings.push(sentence.into());
    }

    /// What was registered.
    pub fn into_parts(self) -> Parts {
        self.parts
    }
}
