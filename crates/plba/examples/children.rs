//! Workers that start child processes, which have children of their own: nobody of them outlives the worker that started
//! them, however that ends. Each writes the process group of its child to a file of its name in the working directory.
//!
//! ```text
//! cargo run -p plba --example children
//! ```

use std::future::pending;
use std::process::Command;

use plba::prelude::*;
use plba::process::{ChildProcess, ChildProcesses};
use plba::worker::{RestartPolicy, RoutineError};

/// A child that waits for its own child.
const FAMILY: &str = "sleep 1000 & wait";

/// One that does not listen when it is told to end.
const OBSTINATE: &str = "trap '' TERM; sleep 1000 & wait; sleep 1000";

fn main() -> ExitCode {
    plba::app("children", |app| {
        app.worker(worker::service_with("waits", |services, _| async move {
            start(&services, "waits", FAMILY).await?.wait().await?;
            Ok(())
        }));
        app.worker(worker::service_with("obstinate", |services, _| async move {
            let _child = start(&services, "obstinate", OBSTINATE).await?;
            pending::<()>().await;
            Ok(())
        }));
        app.worker(worker::service_with("forgets", |services, stop| async move {
            std::mem::forget(start(&services, "forgets", FAMILY).await?);
            stop.requested().await;
            Ok(())
        }));
        let panics = worker::service_with("panics", |services, _| async move {
            std::mem::forget(start(&services, "panics", FAMILY).await?);
            if true {
                panic!("the parcel is empty");
            }
            Ok(())
        });
        app.worker(panics.restart(RestartPolicy::Never).optional());
        Ok(())
    })
    .run()
}

async fn start(services: &Services, name: &str, script: &str) -> Result<ChildProcess, RoutineError> {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    let child = services.get::<ChildProcesses>().await?.spawn(command)?;
    std::fs::write(name, child.id().to_string())?;
    Ok(child)
}
