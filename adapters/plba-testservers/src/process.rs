//! Running a server's processes and ending exactly those: by process group, never by name.
//!
//! The server leads a process group of its own, so that its children are killed with it. Beside it runs a guard, a
//! shell that waits for the end of a pipe held by this process: when a test is interrupted or killed, nobody's `drop`
//! runs, and the guard kills the group and removes the directory instead.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::account::Account;
use crate::wait;

/// What the guard runs: `$1` is the process group, `$2` the directory. It reads until the pipe ends, which is when the
/// process that holds the other end is gone.
const GUARD: &str = r#"
read -r _
kill -s KILL -- "-$1" 2>/dev/null
rm -rf -- "$2" 2>/dev/null || { sleep 1; rm -rf -- "$2"; }
"#;

/// How long killed processes may take to disappear.
const DEATH: Duration = Duration::from_secs(5);

/// A running server with all its children.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    leader: Child,
    group: Pid,
    guard: Child,
}

/// A living process of a server's group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) pid: Pid,
    /// The program's name as the kernel keeps it: at most 15 bytes.
    pub(crate) name: String,
}

impl ServerProcess {
    /// Spawns the command as leader of its own process group, under the account, with its output in `log`. `directory`
    /// is what the guard removes should this process die.
    pub(crate) fn spawn(
        mut command: Command,
        account: &Account,
        directory: &Path,
        log: &Path,
    ) -> io::Result<ServerProcess> {
        let output = File::options().create(true).append(true).open(log)?;
        account.own(log)?;
        account.apply(&mut command);
        command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let mut leader = command.spawn()?;
        let group = pid_of(&leader);
        match spawn_guard(group, account, directory) {
            Ok(guard) => Ok(ServerProcess { leader, group, guard }),
            Err(error) => {
                let _ = kill_process_group(group, Signal::KILL);
                leader.wait()?;
                Err(error)
            }
        }
    }

    /// How the leader ended, if it did.
    pub(crate) fn exited(&mut self) -> Option<ExitStatus> {
        self.leader.try_wait().ok().flatten()
    }

    /// The living processes of the group.
    pub(crate) fn members(&self) -> Vec<Member> {
        members(self.group)
    }

    /// Kills the living processes of the group called `name`, waits until they are gone and says how many they were.
    pub(crate) fn kill_members(&self, name: &str) -> usize {
        let found: Vec<Member> = self
            .members()
            .into_iter()
            .filter(|member| member.name == name)
            .collect();
        for member in &found {
            let _ = kill_process(member.pid, Signal::KILL);
        }
        wait::until(DEATH, || {
            let left = self.members();
            found.iter().all(|member| !left.contains(member)).then_some(())
        });
        found.len()
    }
}

impl Drop for ServerProcess {
    /// Kills the group and waits until no process of it is left. The guard goes first: it has nothing to do any more.
    fn drop(&mut self) {
        let _ = self.guard.kill();
        let _ = self.guard.wait();
        let _ = kill_process_group(self.group, Signal::KILL);
        wait::until(DEATH, || {
            let reaped = self.exited().is_some();
            (reaped && self.members().is_empty()).then_some(())
        });
    }
}

fn spawn_guard(group: Pid, account: &Account, directory: &Path) -> io::Result<Child> {
    let mut guard = Command::new("/bin/sh");
    guard
        .arg("-c")
        .arg(GUARD)
        .arg("plba-test-guard")
        .arg(group.as_raw_pid().to_string())
        .arg(directory);
    account.apply(&mut guard);
    guard
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    guard.spawn()
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// Reads the group's processes from `/proc`, without the dead ones that nobody has reaped yet.
fn members(group: Pid) -> Vec<Member> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| {
            entry
                .file_name()
                .as_encoded_bytes()
                .first()
                .is_some_and(u8::is_ascii_digit)
        })
        .filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok())
        .filter_map(|stat| member(&stat, group))
        .collect()
}

/// A line of `/proc/PID/stat`: `pid (name) state parent group …`, where the name may contain anything.
fn member(stat: &str, group: Pid) -> Option<Member> {
    let (pid, rest) = stat.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    let of: i32 = fields.nth(1)?.parse().ok()?;
    let alive = !matches!(state, "Z" | "X");
    (alive && of == group.as_raw_pid()).then(|| {
        Some(Member {
            pid: Pid::from_raw(pid.parse().ok()?)?,
            name: name.to_owned(),
        })
    })?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::TemporaryDirectory;

    fn start(script: &str) -> (ServerProcess, TemporaryDirectory) {
        let account = Account::for_servers("a test").unwrap();
        let directory = TemporaryDirectory::create("test", &account).unwrap();
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(script);
        let log = directory.join("log");
        let server = ServerProcess::spawn(command, &account, directory.path(), &log).unwrap();
        (server, directory)
    }

    fn wait_for_members(server: &ServerProcess, count: usize) {
        let seen = wait::until(DEATH, || (server.members().len() == count).then_some(()));
        assert!(seen.is_some(), "{count} members expected: {:?}", server.members());
    }

    #[test]
    fn dropping_a_server_leaves_no_process_of_its_group() {
        let (server, _directory) = start("sleep 1000 & sleep 1000 & wait");
        wait_for_members(&server, 3);
        let (group, guard) = (server.group, pid_of(&server.guard));
        drop(server);
        assert_eq!(members(group), []);
        assert_eq!(members(guard), []);
    }

    #[test]
    fn members_are_killed_by_name_and_the_others_live_on() {
        let (server, _directory) = start("sleep 1000 & tail -f /dev/null & wait");
        wait_for_members(&server, 3);
        assert_eq!(server.kill_members("sleep"), 1);
        let left: Vec<String> = server.members().into_iter().map(|member| member.name).collect();
        assert!(
            left.contains(&"tail".to_owned()) && !left.contains(&"sleep".to_owned()),
            "{left:?}"
        );
    }

    #[test]
    fn the_guard_cleans_up_when_this_process_is_gone() {
        let (mut server, directory) = start("sleep 1000");
        // The pipe's end is all the guard sees of this process's death.
        drop(server.guard.stdin.take());
        let gone = wait::until(DEATH, || {
            (server.exited().is_some() && server.members().is_empty() && !directory.path().exists()).then_some(())
        });
        assert!(gone.is_some(), "the guard did nothing: {:?}", server.members());
    }

    #[test]
    fn an_early_end_is_seen() {
        let (mut server, _directory) = start("exit 7");
        let status = wait::until(DEATH, || server.exited()).unwrap();
        assert_eq!(status.code(), Some(7));
    }

    #[test]
    fn stat_lines_are_read_whatever_the_name_contains() {
        let group = Pid::from_raw(77).unwrap();
        let name = |stat: &str| member(stat, group).map(|member| member.name);
        assert_eq!(name("12 (imap) S 1 77 77 0"), Some("imap".to_owned()));
        assert_eq!(name("12 (a) b (c) S 1 77 77 0"), Some("a) b (c".to_owned()));
        assert_eq!(name("12 (imap) Z 1 77 77 0"), None);
        assert_eq!(name("12 (imap) S 77 78 77 0"), None);
        assert_eq!(name("garbage"), None);
    }
}
