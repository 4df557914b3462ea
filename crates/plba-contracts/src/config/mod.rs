//! Configuration as it crosses contracts: where a value came from, who provides values, and types for values that name
//! places and spans of time. Merging, reloading and publishing live in the runtime's `ConfigurationManager`.

mod origin;
mod place;
mod provider;
mod span;

pub use crate::secret::Secret;
pub use crate::section::{ConfigSection, Fault, FaultKind, Faults, SectionDefinition};
pub use origin::Origin;
pub use place::{FILE_PATH_FORMAT, FilePath, LOCATION_FORMAT, Location};
pub use provider::{ConfigBackend, ConfigProvider, ProvidedValue};
pub use span::TimeSpan;
