//! The peers that are programs of their own: those in `benches/peers`, which share no program with rusqlite, and others that
//! speak the same way. One process for each measurement; it prints what it saw as a line of JSON, small enough for a pipe.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::Value;
use tokio::task::spawn_blocking;

use crate::Result;
use crate::contest::Contestant;
use crate::seen::Seen;

/// A peer that takes longer has stalled.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many pick-ups a session of a peer measures.
const PICKUPS: usize = 100;
/// Where the peers are built, and where they are built to.
const PEERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../peers");
const TARGET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target");

/// The program with the peers, or why there is none.
pub(crate) struct Guests(std::result::Result<PathBuf, String>);

impl Guests {
    /// Builds it.
    pub(crate) async fn build() -> Self {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command
            .args(["build", "--quiet", "--release", "--manifest-path"])
            .arg(Path::new(PEERS).join("Cargo.toml"))
            .args(["--target-dir", TARGET])
            .stdout(Stdio::null());
        let status = spawn_blocking(move || command.status()).await;
        Self(match status {
            Ok(Ok(status)) if status.success() => Ok(Path::new(TARGET).join("release").join("plba-bench-peers")),
            Ok(Ok(status)) => Err(format!("benches/peers could not be built: {status}")),
            Ok(Err(error)) => Err(format!("benches/peers could not be built: {error}")),
            Err(error) => Err(error.to_string()),
        })
    }

    /// A peer of this name and version, for people, that carries out so many tasks in a place.
    pub(crate) fn guest(&self, peer: &'static str, version: &'static str, tasks: usize, place: impl Place) -> Guest {
        Guest {
            name: format!("{peer} {version}"),
            program: self.0.clone(),
            arguments: vec![peer.to_owned()],
            tasks,
            place: Box::new(place),
        }
    }
}

/// Makes an empty place for tasks.
#[async_trait]
pub(crate) trait Place: Send + Sync + 'static {
    /// Its address; it goes when the value is dropped.
    async fn make(&self) -> Result<(String, Box<dyn Send>)>;
}

/// A peer in a process of its own.
pub(crate) struct Guest {
    pub(crate) name: String,
    pub(crate) program: std::result::Result<PathBuf, String>,
    pub(crate) arguments: Vec<String>,
    pub(crate) tasks: usize,
    pub(crate) place: Box<dyn Place>,
}

impl Guest {
    async fn measure(&self, workers: u32, pickups: Option<usize>) -> Result<Seen> {
        let program = self.program.as_ref().map_err(Clone::clone)?;
        let (address, _kept) = self.place.make().await?;
        let mut command = Command::new(program);
        command
            .args(&self.arguments)
            .args([address, self.tasks.to_string(), workers.to_string()])
            .args(pickups.map(|count| count.to_string()));
        let output = run(command, PATIENCE).await?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let mut lines = said.lines().filter(|line| !line.trim().is_empty());
            // The line that says what is wrong, if one does, or the first.
            let first = lines.clone().next().unwrap_or_default();
            let fault = lines
                .find(|line| line.contains("Error") || line.contains("panicked"))
                .unwrap_or(first);
            return Err(format!("ended with {}: {fault}", output.status).into());
        }
        read(&output.stdout)
    }
}

#[async_trait]
impl Contestant for Guest {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn can_have(&self, workers: u32) -> bool {
        // Its storage in memory is not shared.
        workers == 1 || self.arguments.iter().all(|argument| argument != "apalis-memory")
    }

    async fn pace(&self, workers: u32) -> Result<Seen> {
        self.measure(workers, None).await
    }

    async fn pickups(&self) -> Result<Seen> {
        if self.can_have(4) {
            self.measure(1, Some(PICKUPS)).await
        } else {
            Ok(Seen::default())
        }
    }
}

/// Runs a command that says little, and kills it when it takes too long.
pub(crate) async fn run(mut command: Command, patience: Duration) -> Result<Output> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let began = Instant::now();
    while child.try_wait()?.is_none() {
        if began.elapsed() > patience {
            child.kill()?;
            child.wait()?;
            return Err(format!("took longer than {} s", patience.as_secs()).into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(child.wait_with_output()?)
}

/// The last line of what a peer says.
fn read(output: &[u8]) -> Result<Seen> {
    let text = String::from_utf8_lossy(output);
    let line = text.lines().last().unwrap_or_default();
    let seen: Value = serde_json::from_str(line).map_err(|error| format!("said `{line}`: {error}"))?;
    let spans = seen["pickups_us"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_f64);
    Ok(Seen {
        enqueue: seen["enqueue"].as_f64(),
        process: seen["process"].as_f64(),
        pickups: spans.map(|micros| Duration::from_secs_f64(micros / 1e6)).collect(),
        note: seen["note"].as_str().map(str::to_owned),
    })
}

/// Where a program of this name is, if it is anywhere.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(OsStr::new(name)))
        .find(|file| file.is_file())
}
