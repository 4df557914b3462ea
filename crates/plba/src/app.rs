//! The application as its author writes it: a name and modules. What its command line understands lives in `command`.

use std::process::ExitCode;
use std::sync::Arc;

use plba_contracts::BoxError;
use plba_contracts::application::{ApplicationModule, Assembly};
use plba_contracts::config::ConfigProvider;
use plba_contracts::trace::TraceTransport;

use crate::command;

/// An application: a name, and modules that bring its parts.
#[must_use = "an application does nothing until it runs"]
pub struct App {
    pub(crate) name: String,
    pub(crate) version: Option<String>,
    pub(crate) modules: Vec<Arc<dyn ApplicationModule>>,
    pub(crate) providers: Vec<Arc<dyn ConfigProvider>>,
    pub(crate) trace_transports: Vec<Arc<dyn TraceTransport>>,
}

/// An application of one module, written as a closure. The name is lower-case letters, digits and `-`.
///
/// The closure is called while the application is put together, and again after a reload; it does no input or output.
pub fn app<F>(name: &str, assemble: F) -> App
where
    F: Fn(&mut Assembly) -> Result<(), BoxError> + Send + Sync + 'static,
{
    App::new(name).module(Closure {
        name: name.to_owned(),
        assemble,
    })
}

impl App {
    /// An application without modules.
    pub fn new(name: &str) -> Self {
        let name = name.to_owned();
        Self {
            name,
            version: None,
            modules: Vec::new(),
            providers: Vec::new(),
            trace_transports: Vec::new(),
        }
    }

    /// What `--version` tells, beside the version of plba; usually `env!("CARGO_PKG_VERSION")`.
    pub fn version(mut self, version: &str) -> Self {
        self.version = Some(version.to_owned());
        self
    }

    /// Adds a module; modules assemble in the order in which they are added.
    pub fn module(mut self, module: impl ApplicationModule) -> Self {
        self.modules.push(Arc::new(module));
        self
    }

    /// Adds a source of configuration; its values lie above files and below the environment.
    pub fn config_provider(mut self, provider: impl ConfigProvider) -> Self {
        self.providers.push(Arc::new(provider));
        self
    }

    /// Adds a way by which finished spans leave the process.
    pub fn trace_transport(mut self, transport: impl TraceTransport) -> Self {
        self.trace_transports.push(Arc::new(transport));
        self
    }

    /// Reads the command line and does what it says; without a subcommand, runs until asked to stop.
    ///
    /// The exit codes are 0 for a clean end, 1 for a failed start or command, 2 for a wrong configuration or command
    /// line, 3 when a stop had to interrupt work, and 4 when it had to leave a worker behind.
    pub fn run(self) -> ExitCode {
        command::run(self)
    }
}

struct Closure<F> {
    name: String,
    assemble: F,
}

impl<F> ApplicationModule for Closure<F>
where
    F: Fn(&mut Assembly) -> Result<(), BoxError> + Send + Sync + 'static,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn assemble(&self, assembly: &mut Assembly) -> Result<(), BoxError> {
        (self.assemble)(assembly)
    }
}
