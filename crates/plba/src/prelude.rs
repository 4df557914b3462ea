//! What most applications name. No task types: an application that works with queues says so by naming [`crate::tasks`].

pub use std::process::ExitCode;

pub use plba_contracts::BoxError;
pub use plba_contracts::application::{ApplicationModule, Assembly, Declaration};
pub use plba_contracts::config::{ConfigSection, Faults, FilePath, Location, Secret, TimeSpan};
pub use plba_contracts::control::Endpoint;
pub use plba_contracts::health::{Health, HealthContribution, HealthContributor};
pub use plba_contracts::services::{ServiceDefinition, Services};
pub use plba_contracts::stop::StopSignal;
pub use tracing::{debug, error, info, info_span, instrument, trace, warn};

pub use crate::app::App;
pub use crate::worker::{self, Idle, millis, minutes, secs};
