//! Configuration as it crosses contracts: where a value came from, who provides values, how a running
//! module sees its own section and is asked before it changes, and types for values that name
//! places and spans of time. Merging, reloading and publishing live in the runtime's `ConfigurationManager`.

mod live;
mod origin;
mod place;
mod provider;
mod span;
mod subscriber;

pub use crate::secret::Secret;
pub use crate::section::{ConfigSection, Fault, FaultKind, Faults, SectionDefinition};
pub(crate) use live::Fixed;
pub use live::{Generation, Live, Published};
pub use origin::Origin;
pub use place::{FILE_PATH_FORMAT, FilePath, LOCATION_FORMAT, Location};
pub use provider::{ConfigBackend, ConfigProvider, ProvidedValue};
pub use span::TimeSpan;
pub use subscriber::BeforeChange;
