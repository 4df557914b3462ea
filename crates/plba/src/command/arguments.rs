//! The words of the command line. What they mean to views and actions of modules is read in `ask`, because only a
//! configured application knows them.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// What was asked for.
#[derive(Debug, Parser)]
#[command(
    disable_help_subcommand = true,
    about = "Runs until asked to stop; the commands tell about it and change it."
)]
pub(crate) struct Arguments {
    /// A configuration file (TOML, YAML or JSON) or a directory of them; may be given several times, later ones win.
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) config: Vec<PathBuf>,
    /// Sets one value, such as `platform.control.listen=127.0.0.1:9000`; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", global = true)]
    pub(crate) set: Vec<String>,
    /// Answers as JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// The platform's own commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs until asked to stop; what is done when no command is given.
    Run,
    /// Validates the configuration without starting anything.
    Check,
    /// Tells how the running process is, at a glance.
    Status,
    /// Lists the workers of the running process.
    Workers,
    /// Lists what the supervisor of the running process saw and did, the newest first.
    Events {
        /// How many at most.
        #[arg(long)]
        limit: Option<u32>,
    },
    /// Tells which step of the running process's start took how long, in seconds.
    Startup,
    /// Tells how every part of the running process is.
    Health,
    /// Lists every figure that the running process measures.
    Metrics,
    /// Lists the latest finished spans of the running process.
    Traces {
        /// Only spans of this journey.
        #[arg(long)]
        trace: Option<String>,
        /// How many at most.
        #[arg(long)]
        limit: Option<u32>,
    },
    /// Tells about the configuration.
    Config {
        #[command(subcommand)]
        what: ConfigCommand,
    },
    #[command(external_subcommand)]
    Contributed(Vec<OsString>),
}

/// What to tell about the configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Shows every value with its origin; secrets are masked.
    Show,
    /// Explains one key: what it is for, its value in every layer, and which one wins.
    Explain {
        /// The key, such as `platform.control.listen`.
        key: String,
    },
    /// Prints the JSON schema of the whole configuration.
    Schema,
    /// Prints a commented configuration file with every default.
    Default,
}

/// Reads the command line.
///
/// # Errors
/// It can't be understood, or asks for help; the error prints itself.
pub(crate) fn read(name: &str, version: Option<&str>, words: Vec<OsString>) -> Result<Arguments, clap::Error> {
    let own = concat!("(plba ", env!("CARGO_PKG_VERSION"), ")");
    let version = version.map_or_else(|| own.to_owned(), |version| format!("{version} {own}"));
    let command = Arguments::command()
        .name(name.to_owned())
        .bin_name(name.to_owned())
        .version(version);
    Arguments::from_arg_matches(&command.try_get_matches_from(words)?)
}
