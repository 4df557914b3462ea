//! The command line of every plba application: what was asked for, and who answers. Reading the words lives in
//! `arguments`, showing answers in `print`, asking views and actions in `ask`.

mod arguments;
mod ask;
mod config;
mod print;
mod settings;
mod steps;

use std::process::ExitCode;

use plba_runtime::blueprint::{Blueprint, BlueprintError, Launch, declare};
use plba_runtime::config::{ConfigurationSources, Whereabouts};
use plba_runtime::manager::{RuntimeManager, StartupError};
use plba_runtime::shutdown::ExitReason;

use self::arguments::{Arguments, Command};
use crate::app::App;
use crate::wiring;

/// Why a command did not do what was asked.
pub(crate) struct Failure {
    code: ExitReason,
    message: String,
}

impl Failure {
    fn new(message: impl ToString) -> Self {
        Self {
            code: ExitReason::StartFailed,
            message: message.to_string(),
        }
    }

    fn usage(message: impl ToString) -> Self {
        Self {
            code: ExitReason::Misconfigured,
            message: message.to_string(),
        }
    }
}

impl From<BlueprintError> for Failure {
    fn from(error: BlueprintError) -> Self {
        let StartupError { reason, message } = error.into();
        Self { code: reason, message }
    }
}

/// Does what the command line says.
pub(crate) fn run(app: App) -> ExitCode {
    let arguments = match arguments::read(&app.name, app.version.as_deref(), std::env::args_os().collect()) {
        Ok(arguments) => arguments,
        // Help and version come this way too; clap knows which stream and exit code each takes.
        Err(told) => {
            let whole = arguments::is_of_the_whole(std::env::args());
            let listed = told.kind() == clap::error::ErrorKind::DisplayHelp && whole;
            let _ = told.print();
            if listed {
                ask::list_contributed(&app);
            }
            return ExitCode::from(u8::try_from(told.exit_code()).unwrap_or(2));
        }
    };
    let name = app.name.clone();
    match obey(app, arguments) {
        Ok(code) => code,
        Err(failure) => {
            print::error(&name, &failure.message);
            ExitCode::from(failure.code.code())
        }
    }
}

fn obey(app: App, arguments: Arguments) -> Result<ExitCode, Failure> {
    let json = arguments.json;
    let launch = launch(&app, &arguments);
    match arguments.command.unwrap_or(Command::Run) {
        Command::Run => {
            let manager = RuntimeManager::new(launch, wiring::transports(), app.trace_transports);
            let ended = manager.run().map_err(|error| Failure {
                code: error.reason,
                message: error.message,
            })?;
            return Ok(ExitCode::from(ended));
        }
        Command::Check => settings::check(&launch, json)?,
        Command::Config { what } => config::obey(&launch, what, json)?,
        Command::Status => ask::running(&launch, "status", json)?,
        Command::Workers => ask::running(&launch, "workers", json)?,
        Command::Events { limit } => ask::events(&launch, limit, json)?,
        Command::Startup => ask::running(&launch, "startup", json)?,
        Command::Health => ask::running(&launch, "health", json)?,
        Command::Metrics => ask::running(&launch, "metrics", json)?,
        Command::Traces { trace, limit } => ask::traces(&launch, trace, limit, json)?,
        Command::Contributed(words) => ask::contributed(&launch, &words, json)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn launch(app: &App, arguments: &Arguments) -> Launch {
    let mut sources = ConfigurationSources::of_process(arguments.config.clone(), arguments.set.clone());
    sources.providers.extend(app.providers.iter().cloned());
    sources.backends = wiring::config_backends();
    Launch {
        application: app.name.clone(),
        modules: app.modules.clone(),
        sources,
    }
}

/// A small executor for commands that do not run the application.
fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = runtime.map_err(Failure::new)?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_background();
    Ok(outcome)
}

/// Where a process that may run is to be found.
fn whereabouts(launch: &Launch) -> Result<Whereabouts, Failure> {
    if let Ok(blueprint) = draw(launch) {
        return Ok(Whereabouts {
            state_dir: blueprint.platform.state_dir.as_path().to_owned(),
            control: blueprint.platform.control.clone(),
        });
    }
    // Whoever broke a file can still ask the process that runs.
    Ok(Whereabouts::of(declare(&launch.modules)?, launch.sources.clone()))
}

fn draw(launch: &Launch) -> Result<Blueprint, Failure> {
    Ok(block_on(Blueprint::draw(launch))??)
}
