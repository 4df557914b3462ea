//! Commands about the configuration: check it, show it, explain it. They start nothing and need no running process.

use plba_runtime::blueprint::{BlueprintError, Launch, declare};
use plba_runtime::config::{ConfigurationManager, ConfigurationSources};
use serde_json::json;

use super::arguments::ConfigCommand;
use super::{Failure, draw, print};

/// Validates the configuration and assembles the modules, without starting anything.
pub(super) fn check(launch: &Launch, json: bool) -> Result<(), Failure> {
    match super::block_on(plba_runtime::blueprint::Blueprint::draw(launch))? {
        Ok(blueprint) => {
            let workers: usize = blueprint.modules.iter().map(|module| module.parts.workers.len()).sum();
            if json {
                print::answer(&json!({ "ok": true, "workers": workers, "faults": [] }), true);
            } else {
                print::text(&format!("the configuration is in order: {workers} workers would start"));
            }
            Ok(())
        }
        Err(BlueprintError::Misconfigured(report)) if json => {
            print::answer(&json!({ "ok": false, "faults": report.faults }), true);
            Err(Failure::usage(report))
        }
        Err(error) => Err(error.into()),
    }
}

/// Tells about the configuration.
pub(super) fn tell(launch: &Launch, what: ConfigCommand, json: bool) -> Result<(), Failure> {
    match what {
        ConfigCommand::Show => {
            let shown = draw(launch)?.configuration.current().show();
            if json {
                print::answer(&serde_json::to_value(&shown).map_err(Failure::new)?, true)
            } else {
                print::text(&shown.to_string())
            }
        }
        ConfigCommand::Explain { key } => {
            let explained = draw(launch)?
                .configuration
                .current()
                .explain(&key)
                .map_err(Failure::usage)?;
            if json {
                print::answer(&serde_json::to_value(&explained).map_err(Failure::new)?, true);
            } else {
                print::text(&explained.to_string());
            }
        }
        ConfigCommand::Schema => print::answer(built_in(launch)?.current().schema(), true),
        ConfigCommand::Default => print::text(&built_in(launch)?.current().default_toml()),
    }
    Ok(())
}

/// The built-in defaults alone: known without any source, so that a broken one does not hide them.
fn built_in(launch: &Launch) -> Result<ConfigurationManager, Failure> {
    let sections = declare(&launch.modules)?;
    super::block_on(ConfigurationManager::load(sections, ConfigurationSources::default()))?.map_err(Failure::usage)
}
