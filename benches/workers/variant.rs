//! The variants of a round: workers through the supervisor in several forms, and the peers. How those are run lives in
//! `ours`, `tasks`, `actors` and `subsystems`.

use crate::round::Round;
use crate::{actors, ours, subsystems, tasks};

/// What a round runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// As many definitions, of one small worker each.
    Definitions,
    /// A tenth as many definitions, beside the peer that does not go further.
    FewDefinitions,
    /// Ten definitions with a tenth of them as instances each.
    Pools,
    /// As many definitions that the builder of services made of an asynchronous function.
    Services,
    /// As many definitions that do something once a second.
    Beats,
    /// A peer: bare tasks.
    Tasks,
    /// A peer: bare tasks that do something once a second.
    BeatingTasks,
    /// A peer: ractor's actors, linked to a supervisor.
    Ractor,
    /// A peer: kameo's actors.
    Kameo,
    /// A peer: the subsystems of tokio-graceful-shutdown.
    Subsystems,
}

impl Variant {
    pub(crate) const ALL: [Self; 10] = [
        Self::Definitions,
        Self::FewDefinitions,
        Self::Pools,
        Self::Services,
        Self::Beats,
        Self::Tasks,
        Self::BeatingTasks,
        Self::Ractor,
        Self::Kameo,
        Self::Subsystems,
    ];

    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Definitions | Self::FewDefinitions => "workers, each of its own definition",
            Self::Pools => "workers, instances of ten definitions",
            Self::Services => "workers, each built by `worker::service`",
            Self::Beats => "workers, each built by `worker::every` second",
            Self::Tasks => "bare tasks with a child token each",
            Self::BeatingTasks => "bare tasks with a child token and a heartbeat each second",
            Self::Ractor => "ractor 0.16, linked to a supervisor",
            Self::Kameo => "kameo 0.22",
            Self::Subsystems => "tokio-graceful-shutdown 0.20",
        }
    }

    /// For the child process.
    pub(crate) fn key(self) -> String {
        format!("{self:?}")
    }

    /// The variant with this key.
    pub(crate) fn by_key(key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|variant| variant.key() == key)
    }

    /// How many there are of them.
    pub(crate) fn count(self) -> u32 {
        match self {
            Self::FewDefinitions | Self::Subsystems => 10_000,
            _ => 100_000,
        }
    }

    /// Whether they do something while nobody asks, so that it is worth measuring.
    pub(crate) fn beats(self) -> bool {
        matches!(self, Self::Beats | Self::BeatingTasks)
    }

    /// Those that this variant of ours is measured beside.
    pub(crate) fn peers(self) -> &'static [Self] {
        match self {
            Self::Definitions => &[Self::Tasks, Self::Ractor, Self::Kameo],
            Self::FewDefinitions => &[Self::Subsystems],
            Self::Pools | Self::Services => &[Self::Tasks],
            Self::Beats => &[Self::BeatingTasks],
            _ => &[],
        }
    }

    /// Runs a round.
    pub(crate) async fn run(self) -> Round {
        let count = self.count();
        match self {
            Self::Definitions | Self::FewDefinitions => ours::definitions(count).await,
            Self::Pools => ours::pools(count).await,
            Self::Services => ours::services(count).await,
            Self::Beats => ours::beats(count).await,
            Self::Tasks => tasks::resting(count).await,
            Self::BeatingTasks => tasks::beating(count).await,
            Self::Ractor => actors::ractor(count).await,
            Self::Kameo => actors::kameo(count).await,
            Self::Subsystems => subsystems::run(count).await,
        }
    }
}
