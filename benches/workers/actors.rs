//! The actors of ractor and kameo, with nothing to do.

use kameo::actor::Spawn;
use kameo::error::Infallible;
use ractor::{ActorProcessingErr, ActorRef, SupervisionEvent};

use crate::round::{REST, Round, timed};

/// An actor that waits for messages nobody sends, and puts up with the end of those linked to it.
struct Waits;

impl ractor::Actor for Waits {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _myself: ActorRef<()>, _arguments: ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<()>,
        _event: SupervisionEvent,
        _state: &mut (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

impl kameo::Actor for Waits {
    type Args = ();
    type Error = Infallible;

    async fn on_start(_arguments: (), _myself: kameo::actor::ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(Self)
    }
}

/// Starts ractor's actors, linked to one supervisor, and stops them through it, as ours are stopped.
pub(crate) async fn ractor(count: u32) -> Round {
    let supervisor = <Waits as ractor::Actor>::spawn(None, Waits, ()).await;
    let (supervisor, _task) = supervisor.expect("a supervisor starts");
    let start = async move {
        for _ in 0..count {
            let actor = <Waits as ractor::Actor>::spawn_linked(None, Waits, (), supervisor.get_cell()).await;
            actor.expect("an actor starts");
        }
        supervisor
    };
    timed(start, REST, |supervisor| async move {
        supervisor.get_cell().stop_children_and_wait(None, None).await;
        assert!(supervisor.get_cell().get_children().is_empty(), "every actor has ended");
    })
    .await
}

/// Starts kameo's actors, and stops them.
pub(crate) async fn kameo(count: u32) -> Round {
    let start = async move {
        let actors: Vec<_> = (0..count).map(|_| <Waits as Spawn>::spawn(())).collect();
        for actor in &actors {
            actor.wait_for_startup().await;
        }
        actors
    };
    timed(start, REST, |actors| async move {
        for actor in &actors {
            actor.stop_gracefully().await.expect("an actor hears");
        }
        for actor in &actors {
            actor.wait_for_shutdown().await;
        }
    })
    .await
}
