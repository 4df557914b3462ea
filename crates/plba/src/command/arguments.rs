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
    /// Validates the configuration without starting anything: exit code 0 if it is in order, 2 if it isn't.
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
    /// Tells about the configuration, and changes it while the process runs.
    Config {
        #[command(subcommand)]
        what: ConfigCommand,
    },
    #[command(external_subcommand)]
    Contributed(Vec<OsString>),
}

/// What to tell about the configuration, or to change in it.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Shows every value with its origin, secrets masked: of the process that runs, else of what the next start would read.
    Show {
        /// Of what the next start would read, also while a process runs.
        #[arg(long)]
        on_disk: bool,
    },
    /// Explains one key: what it is for, its value in every layer, and which one wins.
    Explain {
        /// The key, such as `platform.control.listen`.
        key: String,
        /// In what the next start would read, also while a process runs.
        #[arg(long)]
        on_disk: bool,
    },
    /// Prints the JSON schema of the whole configuration.
    Schema,
    /// Prints a commented configuration file with every default.
    Default,
    /// Tells what a reload of the running process would change, or why it would be refused; changes nothing.
    Diff,
    /// Lists the latest changes of the running process's configuration, accepted and refused ones, the newest first.
    History {
        /// How many at most.
        #[arg(long)]
        limit: Option<u32>,
    },
    /// Lists the overrides: who set what, when, until when and what for.
    Overrides,
    /// Sets values above all other layers, without a restart; kept until they are unset or their time is over.
    Set {
        /// What to set, such as `platform.logging.level=debug`; several are set at once.
        #[arg(value_name = "KEY=VALUE", required = true)]
        values: Vec<String>,
        /// For how long, such as `2h`; for good when left out.
        #[arg(long = "for", value_name = "SPAN", conflicts_with = "until")]
        span: Option<String>,
        /// Until when, such as `2026-12-01T08:00:00Z`.
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
        /// What for, for those who look at it later.
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
    },
    /// Takes overrides back: what the other layers say counts again.
    Unset {
        /// The keys, as `config overrides` lists them.
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<String>,
    },
    /// Reads the configuration of the running process again, and puts it to work if nothing speaks against it.
    Reload,
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

/// Whether help was asked for about the whole program, and not about one of the platform's own commands.
pub(crate) fn is_of_the_whole(mut words: impl Iterator<Item = String>) -> bool {
    let command = Arguments::command();
    !words.any(|word| command.get_subcommands().any(|own| own.get_name() == word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_is_about_the_whole_or_about_one_command() {
        for (line, whole) in [
            ("bot --help", true),
            ("bot --config bot.toml -h", true),
            ("bot config set --help", false),
            ("bot --json check -h", false),
        ] {
            assert_eq!(is_of_the_whole(line.split(' ').map(str::to_owned)), whole, "{line}");
        }
    }

    #[test]
    fn an_override_ends_at_a_moment_or_after_a_span() {
        let given = |line: &str| read("bot", None, line.split(' ').map(OsString::from).collect());
        assert!(given("bot config set a.b=1 c=2 --for 2h --why sale").is_ok());
        for wrong in [
            "bot config set",
            "bot config unset",
            "bot config set a=1 --for 2h --until 2026-12-01T08:00:00Z",
        ] {
            assert!(given(wrong).is_err(), "{wrong}");
        }
    }
}
