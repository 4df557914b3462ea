//! Where a process of this application is to be found: told by the configuration also when that is wrong, so that whoever
//! broke a file can still ask the process that runs.

use std::path::PathBuf;

use plba_contracts::section::SectionDefinition;

use crate::config::read::bootstrap::usable;
use crate::config::read::layers::ConfigurationSources;
use crate::config::read::reader::Reader;
use crate::platform::ControlConfig;

/// Where a process is to be found, and how it is asked.
#[derive(Clone, Debug)]
pub struct Whereabouts {
    /// Its state directory.
    pub state_dir: PathBuf,
    /// Its control plane, as far as it can be read; what a database or a provider of the program says of it is not asked.
    pub control: ControlConfig,
}

impl Whereabouts {
    /// Reads files, environment, command line, secrets and overrides, and takes of them what can be used. Does input.
    pub fn of(definitions: Vec<SectionDefinition>, sources: ConfigurationSources) -> Self {
        let (tree, bootstrap) = Reader::new(definitions, sources).glimpse();
        let control = tree.child("platform").and_then(|platform| platform.child("control"));
        Self {
            state_dir: bootstrap.state_dir.unwrap_or_default(),
            control: control.map(usable).unwrap_or_default(),
        }
    }
}
