//! Running cargo, in the root of the workspace, and reading its metadata.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::Stop;

/// The root of the workspace this xtask was built in.
pub(crate) fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}

/// A cargo command in the root, without standard input. It is the cargo that runs this program.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root()).stdin(Stdio::null());
    command
}

/// `cargo metadata` of the workspace with this manifest, without dependencies from outside.
pub(crate) fn metadata(manifest: &Path) -> Result<Value, Stop> {
    let output = command(&["metadata", "--format-version", "1", "--no-deps", "--manifest-path"])
        .arg(manifest)
        .output()
        .map_err(|error| Stop::Failed(format!("could not run cargo: {error}")))?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        return Err(Stop::Failed(format!("`cargo metadata` failed: {}", reason.trim())));
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| Stop::Failed(format!("`cargo metadata` printed no JSON: {error}")))
}
