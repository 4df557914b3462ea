//! A worker without which the process has no purpose: when it is given up, the process ends by the ordinary stop, with an
//! exit code of its own, and the service manager decides what follows.
use plba::prelude::*;
use plba::worker::{Restart, RoutineError};

fn main() -> ExitCode {
    plba::app("essential", |app| {
        let restart = Restart {
            initial_delay: millis(10),
            intensity: 2,
            ..Restart::default()
        };
        let feed = worker::every("feed", millis(10), || async {
            Err::<(), _>(RoutineError::new("the licence has run out").fatal())
        });
        app.worker(feed.restart(restart).exit_when_given_up(70));
        Ok(())
    })
    .run()
}
