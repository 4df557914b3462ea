//! Commands about the configuration that need nothing but this program: check it, and tell its schema and its defaults. Those
//! that ask a running process, or change what it runs by, live in `config`.

use plba_runtime::blueprint::{BlueprintError, Launch, declare};
use plba_runtime::config::{ConfigurationManager, ConfigurationSources};
use serde_json::json;

use super::{Failure, print};

/// Validates the configuration and assembles the modules, without starting anything.
pub(super) fn check(launch: &Launch, json: bool) -> Result<(), Failure> {
    match super::block_on(plba_runtime::blueprint::Blueprint::draw(launch))? {
        Ok(blueprint) => {
            let workers: usize = blueprint.modules.iter().map(|module| module.parts.workers.len()).sum();
            let current = blueprint.configuration.current();
            let warnings = current.warnings();
            if json {
                print::answer(
                    &json!({ "ok": true, "workers": workers, "faults": [], "warnings": warnings }),
                    true,
                );
            } else {
                warnings.iter().for_each(|warning| print::text(&warning.to_string()));
                print::text(&format!("the configuration is in order: {workers} workers would start"));
            }
            Ok(())
        }
        Err(error) => {
            let faults = match &error {
                BlueprintError::Misconfigured(report) => json!(report.faults),
                _ => json!([]),
            };
            if json {
                print::answer(
                    &json!({ "ok": false, "faults": faults, "error": error.to_string() }),
                    true,
                );
            }
            // Whatever is wrong with it: for whoever checks there are two answers.
            Err(Failure::usage(error))
        }
    }
}

/// The schema of the whole configuration.
pub(super) fn schema(launch: &Launch) -> Result<(), Failure> {
    print::answer(built_in(launch)?.current().schema(), true);
    Ok(())
}

/// A commented file with every default.
pub(super) fn default(launch: &Launch) -> Result<(), Failure> {
    print::text(&built_in(launch)?.current().default_toml());
    Ok(())
}

/// The built-in defaults alone: known without any source, so that a broken one does not hide them.
pub(super) fn built_in(launch: &Launch) -> Result<ConfigurationManager, Failure> {
    let sections = declare(&launch.modules)?;
    super::block_on(ConfigurationManager::load(sections, ConfigurationSources::default()))?.map_err(Failure::usage)
}
