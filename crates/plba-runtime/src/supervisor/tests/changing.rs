//! Reloads, and commands to one worker.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_reload_touches_only_what_changed() {
    let (supervisor, log) = (supervisor(), Log::default());
    let definitions = ["stays", "goes", "changes"].map(|name| acts(name, Does::Waits, &log));
    supervisor.start(definitions.into(), services()).await.unwrap();
    let change = DefinitionChange {
        added: vec![acts("comes", Does::Waits, &log).after("changes")],
        removed: vec!["goes".into()],
        changed: vec![acts("changes", Does::Waits, &log)],
    };
    supervisor.apply(change, services()).await.unwrap();
    let views = supervisor.snapshot();
    let names: Vec<_> = views
        .iter()
        .map(|view| (view.name.as_str(), view.slots[0].incarnation))
        .collect();
    assert_eq!(names, [("changes", 2), ("comes", 1), ("stays", 1)]);
    assert_eq!(
        view(&supervisor, "changes").status.succeeded,
        2,
        "totals outlive instances"
    );
    let unknown = DefinitionChange {
        removed: vec!["nobody".into()],
        ..DefinitionChange::default()
    };
    assert_eq!(
        supervisor.apply(unknown, services()).await,
        Err(SupervisionError::Unknown("nobody".into()))
    );
}

#[tokio::test(start_paused = true)]
async fn pools_grow_shrink_and_rest() {
    let (supervisor, log) = (supervisor(), Log::default());
    supervisor
        .start(vec![acts("pool", Does::Waits, &log).concurrency(2)], services())
        .await
        .unwrap();
    supervisor.scale("pool", 4).await.unwrap();
    assert_eq!(view(&supervisor, "pool").slots.len(), 4);
    supervisor.scale("pool", 1).await.unwrap();
    assert_eq!(view(&supervisor, "pool").slots.len(), 1);
    assert_eq!(supervisor.scale("pool", 0).await, Err(SupervisionError::Instances));
    supervisor.pause("pool").await.unwrap();
    assert_eq!(view(&supervisor, "pool").state, SlotState::Paused);
    supervisor.resume("pool").await.unwrap();
    assert_eq!(view(&supervisor, "pool").state, SlotState::Running);
    supervisor.pause_for("pool", secs(3600)).await.unwrap();
    let until = "2026-01-10T14:00:00Z".parse().unwrap();
    supervisor.pause_until("pool", until).await.unwrap();
    let rests = view(&supervisor, "pool");
    assert_eq!((rests.state, rests.slots[0].until), (SlotState::Paused, Some(until)));
    assert_eq!(rests.health, Health::degraded("paused until 2026-01-10T14:00:00Z"));
    tokio::time::sleep(secs(7201)).await;
    let pool = view(&supervisor, "pool");
    assert_eq!((pool.state, pool.slots[0].until), (SlotState::Running, None));
    let past = supervisor.pause_until("pool", until).await;
    assert_eq!(past, Err(SupervisionError::PastPause(until)));
    supervisor.restart("pool").await.unwrap();
    let pool = view(&supervisor, "pool");
    assert_eq!((pool.state, pool.slots[0].incarnation), (SlotState::Running, 4));
}
