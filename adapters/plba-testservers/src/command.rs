//! Asking a server through its own command line program, for assertions and for setting it up.

use std::process::{Command, Stdio};

use crate::CommandError;

/// Runs the program to its end and returns what it printed, without the last line break.
///
/// `arguments` are told in an error; the ones that name the server are already part of `command`.
pub(crate) fn ask(program: &'static str, mut command: Command, arguments: &[String]) -> Result<String, CommandError> {
    command.args(arguments).stdin(Stdio::null());
    let error = |status: String, said: String| CommandError {
        program,
        arguments: arguments.join(" "),
        status,
        said,
    };
    let output = command
        .output()
        .map_err(|failed| error("no start".to_owned(), failed.to_string()))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let printed = printed.strip_suffix('\n').unwrap_or(&printed);
    if output.status.success() {
        return Ok(printed.to_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let said = [complaint.trim(), printed.trim()].join("\n");
    Err(error(output.status.to_string(), said.trim().to_owned()))
}

/// The arguments as owned text, to be taken off the executor.
pub(crate) fn owned<A: AsRef<str>>(arguments: impl IntoIterator<Item = A>) -> Vec<String> {
    arguments
        .into_iter()
        .map(|argument| argument.as_ref().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_without_its_line_break_and_a_refusal_with_everything_said() {
        let shell = || {
            let mut command = Command::new("sh");
            command.arg("-c");
            command
        };
        assert_eq!(ask("sh", shell(), &owned(["echo one; echo two"])).unwrap(), "one\ntwo");
        let refused = ask("sh", shell(), &owned(["echo out; echo why >&2; exit 3"])).unwrap_err();
        assert_eq!(refused.said, "why\nout");
        assert!(refused.to_string().contains("exit status: 3"), "{refused}");
    }
}
