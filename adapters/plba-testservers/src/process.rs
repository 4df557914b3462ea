//! Running a server's processes and ending exactly those: by process group, never by name.
//!
//! The server leads a process group of its own, so that its children are killed with it; children that left the group
//! (PostgreSQL's do) are found by their parent. Beside it runs a guard, a shell that waits for the end of a pipe held by
//! this process: when a test is interrupted or killed, nobody's `drop` runs, and the guard kills the processes and
//! removes the directory instead.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::account::Account;
use crate::wait;

/// What the guard runs: `$1` is the directory, `$2` the process group's leader, `$3` its farewell; without a leader only
/// the directory is removed. It reads until the pipe ends, which is when the process that holds the other end is gone.
/// The leader is stopped before its children are looked for, so that it makes no more.
const GUARD: &str = r#"
exec 2>/dev/null
read -r _
if [ -n "$2" ]; then
  if [ "$3" != KILL ]; then
    kill -s CONT -- "-$2"
    kill -s "$3" "$2"
    looks=0
    while [ "$looks" -lt 20 ] && kill -s 0 "$2"; do
      sleep 0.1
      looks=$((looks + 1))
    done
  fi
  kill -s STOP "$2"
  for stat in /proc/[0-9]*/stat; do
    read -r pid _ _ parent _ <"$stat" && [ "$parent" = "$2" ] && kill -s KILL "$pid"
  done
  kill -s KILL -- "-$2"
fi
rm -rf -- "$1" || { sleep 1; rm -rf -- "$1"; }
"#;

/// How long a leader may take over its farewell.
const FAREWELL: Duration = Duration::from_secs(2);

/// How long killed processes may take to disappear.
const DEATH: Duration = Duration::from_secs(5);

/// A running server with all its children.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    leader: Child,
    group: Pid,
    /// What a leader is told before it is killed because nobody needs it any more: `KILL` for one that leaves nothing
    /// behind. It has [`FAREWELL`] to end by itself.
    farewell: Signal,
    _guard: Guard,
}

/// Removes a directory, and ends the processes of a server, when this process has died without doing so.
#[derive(Debug)]
pub(crate) struct Guard(Child);

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
        farewell: Signal,
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
        match Guard::of_server(group, farewell, account, directory) {
            Ok(guard) => Ok(ServerProcess {
                leader,
                group,
                farewell,
                _guard: guard,
            }),
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

    /// The leader's id.
    pub(crate) fn pid(&self) -> u32 {
        self.leader.id()
    }

    /// Sends the leader a signal that ends it and says whether it ended within `limit`.
    pub(crate) fn end(&mut self, signal: Signal, limit: Duration) -> bool {
        self.resume();
        let _ = kill_process(self.group, signal);
        wait::until(limit, || self.exited()).is_some()
    }

    /// Ends all its processes without a farewell.
    pub(crate) fn kill(mut self) {
        self.farewell = Signal::KILL;
    }

    /// Stops all its processes, the leader first, so that it makes no more.
    pub(crate) fn pause(&self) {
        let _ = kill_process_group(self.group, Signal::STOP);
        self.signal_members(Signal::STOP);
    }

    /// Lets all its processes go on, the leader last.
    pub(crate) fn resume(&self) {
        self.signal_members(Signal::CONT);
        let _ = kill_process_group(self.group, Signal::CONT);
    }

    /// Whether the leader is stopped, by [`pause`](Self::pause) or by somebody else.
    pub(crate) fn is_paused(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()));
        stat.is_ok_and(|stat| Entry::read(&stat).is_some_and(|entry| entry.state == 'T'))
    }

    fn signal_members(&self, signal: Signal) -> Vec<Member> {
        let members = self.members();
        for member in &members {
            let _ = kill_process(member.pid, signal);
        }
        members
    }

    /// The living processes of the group, and the leader's children outside it.
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
    /// Ends the processes and waits until none is left. The guard goes after them: should this process die in between,
    /// it does the rest.
    fn drop(&mut self) {
        if self.farewell != Signal::KILL && self.exited().is_none() {
            self.end(self.farewell, FAREWELL);
        }
        self.pause();
        let members = self.signal_members(Signal::KILL);
        let _ = kill_process_group(self.group, Signal::KILL);
        wait::until(DEATH, || {
            let reaped = self.exited().is_some();
            (reaped && self.members().is_empty() && !members.iter().any(Member::is_alive)).then_some(())
        });
    }
}

impl Member {
    fn is_alive(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid.as_raw_pid()));
        stat.is_ok_and(|stat| Entry::read(&stat).is_some_and(|entry| entry.is_alive() && entry.member == *self))
    }
}

impl Guard {
    /// Guards nothing but a directory.
    pub(crate) fn of_directory(account: &Account, directory: &Path) -> io::Result<Guard> {
        Guard::spawn(account, directory, &[])
    }

    fn of_server(leader: Pid, farewell: Signal, account: &Account, directory: &Path) -> io::Result<Guard> {
        let farewell = match farewell {
            Signal::QUIT => "QUIT",
            Signal::TERM => "TERM",
            _ => "KILL",
        };
        Guard::spawn(account, directory, &[&leader.as_raw_pid().to_string(), farewell])
    }

    fn spawn(account: &Account, directory: &Path, arguments: &[&str]) -> io::Result<Guard> {
        let mut guard = Command::new("/bin/sh");
        guard
            .arg("-c")
            .arg(GUARD)
            .arg("plba-test-guard")
            .arg(directory)
            .args(arguments);
        account.apply(&mut guard);
        guard
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        guard.spawn().map(Guard)
    }
}

impl Drop for Guard {
    /// Nothing is left to guard.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// Reads the group's processes and the leader's children from `/proc`, without the dead ones that nobody has reaped yet.
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

fn member(stat: &str, group: Pid) -> Option<Member> {
    let entry = Entry::read(stat)?;
    let leader = group.as_raw_pid();
    (entry.is_alive() && (entry.group == leader || entry.parent == leader)).then_some(entry.member)
}

/// What is told of a process.
struct Entry {
    member: Member,
    state: char,
    parent: i32,
    group: i32,
}

impl Entry {
    /// Whether it is more than the memory of a process that nobody has asked about.
    fn is_alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X')
    }

    /// A line of `/proc/PID/stat`: `pid (name) state parent group …`, where the name may contain anything.
    fn read(stat: &str) -> Option<Entry> {
        let (pid, rest) = stat.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        let state = fields.next()?;
        Some(Entry {
            member: Member {
                pid: Pid::from_raw(pid.parse().ok()?)?,
                name: name.to_owned(),
            },
            state: state.chars().next()?,
            parent: fields.next()?.parse().ok()?,
            group: fields.next()?.parse().ok()?,
        })
    }
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
        let server = ServerProcess::spawn(command, &account, directory.path(), &log, Signal::KILL).unwrap();
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
        let (group, guard) = (server.group, pid_of(&server._guard.0));
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
        drop(server._guard.0.stdin.take());
        let gone = wait::until(DEATH, || {
            (server.exited().is_some() && server.members().is_empty() && !directory.path().exists()).then_some(())
        });
        assert!(gone.is_some(), "the guard did nothing: {:?}", server.members());
    }

    #[test]
    fn children_that_left_the_group_end_with_it() {
        for guard in [false, true] {
            let (mut server, _directory) = start("setsid sleep 1000 & wait");
            let outsiders = wait::until(DEATH, || {
                let mut members = server.members();
                members.retain(|member| member.name == "sleep");
                (members.len() == 1).then_some(members)
            });
            let outsiders = outsiders.expect("a child that runs what it was made for");
            if guard {
                drop(server._guard.0.stdin.take());
                let gone = wait::until(DEATH, || {
                    server
                        .exited()
                        .map(|_| ())
                        .filter(|()| !outsiders.iter().any(Member::is_alive))
                });
                assert!(gone.is_some(), "{outsiders:?}");
            } else {
                drop(server);
                assert!(!outsiders.iter().any(Member::is_alive), "{outsiders:?}");
            }
        }
    }

    #[test]
    fn a_farewell_is_heard_before_the_end_and_a_kill_has_none() {
        for killed in [false, true] {
            let account = Account::for_servers("a test").unwrap();
            let directory = TemporaryDirectory::create("test", &account).unwrap();
            let (ready, heard) = (directory.join("ready"), directory.join("heard"));
            let mut command = Command::new("/bin/sh");
            let script = format!(
                "trap 'touch {}; exit' QUIT; touch {}; while :; do sleep 0.01; done",
                heard.display(),
                ready.display()
            );
            command.arg("-c").arg(script);
            let log = directory.join("log");
            let server = ServerProcess::spawn(command, &account, directory.path(), &log, Signal::QUIT).unwrap();
            wait::until(DEATH, || ready.exists().then_some(())).unwrap();
            if killed {
                server.kill();
            } else {
                drop(server);
            }
            assert_eq!(heard.exists(), !killed);
        }
    }

    #[test]
    fn paused_processes_stand_still_and_go_on() {
        let (server, _directory) = start("sleep 1000 & wait");
        wait_for_members(&server, 2);
        let state = |state: char| {
            let all = || {
                server.members().iter().all(|member| {
                    let stat = fs::read_to_string(format!("/proc/{}/stat", member.pid.as_raw_pid())).unwrap();
                    stat.contains(&format!(") {state} "))
                })
            };
            wait::until(DEATH, || all().then_some(()))
        };
        assert_eq!(state('S'), Some(()));
        server.pause();
        assert_eq!(state('T'), Some(()));
        server.resume();
        assert_eq!(state('S'), Some(()));
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
        assert_eq!(name("12 (imap) S 76 78 77 0"), None);
        assert_eq!(
            name("12 (child that left) S 77 78 78 0"),
            Some("child that left".to_owned())
        );
        assert_eq!(name("garbage"), None);
    }
}
