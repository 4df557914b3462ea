//! The smallest service: one worker, and everything of the platform around it.
use plba::prelude::*;

fn main() -> ExitCode {
    plba::app("pulse", |app| {
        app.worker(worker::every("beat", secs(1), || async {
            info!("beat");
            Ok(())
        }));
        Ok(())
    })
    .run()
}
