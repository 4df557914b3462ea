//! BullMQ, on Node: installed by npm into a temporary directory, where there is one.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::guest::{Guest, Place, find, run};

const SCRIPT: &str = include_str!("bullmq.mjs");
/// How long npm may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// BullMQ, or why there is none.
pub(crate) struct BullMq {
    directory: Result<TempDir, String>,
}

impl BullMq {
    /// Installs it.
    pub(crate) async fn install() -> Self {
        Self {
            directory: install().await,
        }
    }

    /// As a peer that carries out so many tasks.
    pub(crate) fn guest(&self, tasks: usize, place: impl Place) -> Guest {
        let script = |directory: &TempDir| directory.path().join("bullmq.mjs").display().to_string();
        let directory = self.directory.as_ref().map_err(Clone::clone);
        Guest {
            name: "BullMQ 6".to_owned(),
            program: directory.clone().and_then(|_| node()),
            arguments: directory.map(script).into_iter().collect(),
            tasks,
            place: Box::new(place),
        }
    }
}

fn node() -> Result<PathBuf, String> {
    find("node").ok_or_else(|| "node is not installed (apt-get install --no-install-recommends nodejs npm)".to_owned())
}

async fn install() -> Result<TempDir, String> {
    node()?;
    let npm = find("npm").ok_or("npm is not installed (apt-get install --no-install-recommends npm)")?;
    let failed = |error: std::io::Error| format!("it could not be installed: {error}");
    let directory = tempfile::tempdir().map_err(failed)?;
    std::fs::write(directory.path().join("bullmq.mjs"), SCRIPT).map_err(failed)?;
    let mut command = Command::new(npm);
    command
        .args([
            "install",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "--silent",
            "bullmq@6",
            "ioredis@5",
        ])
        .current_dir(directory.path());
    let output = run(command, PATIENCE).await.map_err(|error| format!("npm: {error}"))?;
    if output.status.success() {
        return Ok(directory);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "npm could not install it: {}",
        said.lines().next().unwrap_or_default()
    ))
}
