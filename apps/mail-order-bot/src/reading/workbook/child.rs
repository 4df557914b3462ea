//! The child process that parses one workbook: it takes limits on itself, reads the workbook from standard input, writes
//! what is in it to standard output as JSON, and ends. Reached as `mail-order-bot parse-workbook LIMITS`, which only the
//! bot itself runs. What becomes of it is `parent`'s.

use std::io::{Read as _, Write as _};
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, Signal, setrlimit};

use super::cells;
use crate::reading::ReadingLimits;

/// The hidden command.
pub const COMMAND: &str = "parse-workbook";

/// Open files that the child may have: the three that it is started with, and one for looking at itself.
const OPEN_FILES: u64 = 4;

/// Runs the child if the command line asks for it; the program does nothing else then.
#[must_use]
pub fn run_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next()? != COMMAND {
        return None;
    }
    // What fails here is seen by the parent as a missing answer.
    Some(match arguments.next().as_deref().map(run) {
        Some(Ok(())) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn run(limits: &str) -> std::io::Result<()> {
    let limits: ReadingLimits = serde_json::from_str(limits)?;
    restrict(&limits)?;
    let mut workbook = Vec::new();
    let most = limits.message_bytes as u64;
    std::io::stdin().lock().take(most).read_to_end(&mut workbook)?;
    // The hook would write the panic to standard error, which says nothing to the parent that it doesn't hear here.
    std::panic::set_hook(Box::new(|_| {}));
    let answer = serde_json::to_vec(&cells::sheets(&workbook, &limits))?;
    std::io::stdout().lock().write_all(&answer)
}

/// Gives up everything that reading a workbook doesn't need. Limits that the system doesn't know are left out.
fn restrict(limits: &ReadingLimits) -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // When memory runs out on the machine, this process goes first. A container may forbid even that.
        drop(std::fs::write("/proc/self/oom_score_adj", "1000"));
    }
    let seconds = limits.workbook_seconds.max(1);
    limit(Resource::Core, 0, 0)?;
    limit(Resource::Fsize, 0, 0)?;
    limit(Resource::Nofile, OPEN_FILES, OPEN_FILES)?;
    limit(Resource::Nproc, 0, 0)?;
    // One second between the signals, so that the first one tells what it was.
    limit(Resource::Cpu, seconds, seconds + 1)?;
    let memory = limits.workbook_memory as u64;
    limit(Resource::As, memory, memory)
}

fn limit(resource: Resource, soft: u64, hard: u64) -> std::io::Result<()> {
    // Whoever started the bot may have set a lower limit, which can't be raised.
    let most = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let limit = Rlimit {
        current: Some(soft.min(most)),
        maximum: Some(hard.min(most)),
    };
    Ok(setrlimit(resource, limit)?)
}
