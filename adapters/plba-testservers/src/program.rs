//! Finding a server's program, and running helper programs to their end.

use std::env;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::StartError;

/// Where servers live, although the `PATH` of an ordinary user on Debian doesn't say so.
const SERVER_DIRECTORIES: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// The first executable file called `name` in `PATH` and the directories of servers.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(SERVER_DIRECTORIES.iter().map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| is_executable(candidate))
}

/// Runs a command to its end and returns what it printed; an end other than success is `StartError::Failed`, with its
/// standard error as the reason.
pub(crate) fn run(what: &'static str, command: &mut Command) -> Result<String, StartError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| StartError::io(what, &format!("run `{program}`"), &error))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let reason = String::from_utf8_lossy(&output.stderr);
        Err(StartError::failed(
            what,
            format!("`{program}` ended with {}: {}", output.status, reason.trim()),
        ))
    }
}

pub(crate) fn is_executable(file: &Path) -> bool {
    file.metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_and_an_invented_one_is_not() {
        assert!(find("sh").is_some());
        assert_eq!(find("a-program-that-nobody-wrote"), None);
    }

    #[test]
    fn a_failing_helper_is_quoted() {
        let error = run("a test", Command::new("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err();
        assert!(error.to_string().contains("why"), "{error}");
        assert!(error.to_string().contains("3"), "{error}");
    }
}
