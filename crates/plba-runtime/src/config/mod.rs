//! Configuration: layers of sources merged into one snapshot of typed sections, with the origin of every value, all
//! faults at once, and reload as a transaction. What sections look like is the modules' business
//! (`plba_contracts::section`); files are watched in `read::watch`; probation is in `change`.
//!
//! Layers, lowest first:
//!
//! 1. built-in defaults;
//! 2. files in the order given (a directory stands for its `*.toml`, `*.yaml`, `*.yml` and `*.json` in name order);
//! 3. directories of secrets: `platform.config.secrets`, then the one that `CREDENTIALS_DIRECTORY` names;
//! 4. the database that `platform.config.database` names;
//! 5. providers of the program;
//! 6. the environment (`PLBA__TABLE__KEY`);
//! 7. the command line (`--set table.key=…`);
//! 8. overrides, which an operator sets while the process runs, the later above the earlier.
//!
//! Tables are merged key by key, everything else is replaced. Values from environment and command line are TOML values,
//! else text; where a key wants text, anything but a quoted TOML string is taken as it is. `platform.config` and
//! `platform.state_dir` lead to the other layers, so they are read from 1, 2, 6 and 7 alone.

pub mod change;
mod check;
pub mod control;
mod manager;
pub mod overrides;
mod read;
mod settings;
mod snapshot;
mod start;
mod tell;
mod whereabouts;

#[cfg(test)]
mod tests;

pub(crate) use check::report::vetoed;
pub(crate) use check::sections::suggestion;
pub(crate) use read::watch::follow as follow_files;
pub(crate) use start::FirstLook;
pub use start::StartDoubt;

pub use change::{ConfigChange, ConfigDiff, MAXIMUM_CHANGES};
pub use check::report::{
    ConfigFault, ConfigFaultKind, ConfigReport, Consequence, Excerpt, MAXIMUM_RELATED, MAXIMUM_REPORTED, RelatedPlace,
};
pub use manager::{ConfigurationManager, READ_LIMIT};
pub use read::assignments::ENVIRONMENT_PREFIX;
pub use read::files::{MAXIMUM_FILE_SIZE, MAXIMUM_FILES, MAXIMUM_TOTAL_SIZE};
pub use read::layers::ConfigurationSources;
pub use read::providers::PROVIDER_LIMIT;
pub use read::secrets::{MAXIMUM_SECRET_SIZE, MAXIMUM_SECRETS};
pub use settings::{ConfigSettings, OnInvalidStart};
pub use snapshot::{Configuration, SectionError};
pub use tell::explain::{ExplainError, Explanation, LayerValue};
pub use tell::show::{Shown, ShownTable, ShownValue};
pub use whereabouts::Whereabouts;
