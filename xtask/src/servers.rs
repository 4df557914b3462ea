//! The servers that tests need: which they are, whether they are here, and how to get them. Tests start them
//! themselves, through `plba-testservers`.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Stop;

/// A server, one line of the table.
struct Server {
    name: &'static str,
    /// The program that is looked for.
    program: &'static str,
    /// The Debian package that brings it.
    package: &'static str,
    /// The crates whose tests start it.
    needed_by: &'static [&'static str],
}

const SERVERS: &[Server] = &[Server {
    name: "Dovecot",
    program: "dovecot",
    package: "dovecot-imapd",
    needed_by: &["plba-testservers", "plba-mail", "mail-order-bot"],
}];

/// Where servers live, although the `PATH` of an ordinary user on Debian doesn't say so.
const SERVER_DIRECTORIES: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Sees to it that the servers for the tests of these crates (none named: of all) are installed.
pub(crate) fn ensure(crates: &[String]) -> Result<(), Stop> {
    let mut missing = Vec::new();
    for server in SERVERS.iter().filter(|server| is_needed(server, crates)) {
        if is_installed(server.program) {
            println!("{}: installed", server.name);
        } else {
            missing.push(server);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|server| server.package).collect();
    let advice = format!(
        "tests need servers that are not installed: apt-get install {}",
        packages.join(" ")
    );
    let Some(privilege) = Privilege::find() else {
        return Err(Stop::Failed(format!(
            "{advice}\n(this user may not: neither root nor sudo without a password)"
        )));
    };
    install(&packages, &privilege).map_err(|reason| Stop::Failed(format!("{reason}\n{advice}")))?;
    match missing.iter().find(|server| !is_installed(server.program)) {
        None => Ok(()),
        Some(server) => Err(Stop::Failed(format!(
            "{} is installed but has no `{}`",
            server.package, server.program
        ))),
    }
}

fn is_needed(server: &Server, crates: &[String]) -> bool {
    crates.is_empty() || crates.iter().any(|name| server.needed_by.contains(&name.as_str()))
}

fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(
            SERVER_DIRECTORIES
                .iter()
                .map(|directory| Path::new(directory).to_owned()),
        )
        .any(|directory| directory.join(program).is_file())
}

/// How this user may install packages.
enum Privilege {
    Root,
    Sudo,
}

impl Privilege {
    fn find() -> Option<Privilege> {
        if !is_installed("apt-get") {
            return None;
        }
        let id = Command::new("id").arg("-u").output().ok()?;
        if id.stdout.trim_ascii() == b"0" {
            return Some(Privilege::Root);
        }
        let sudo = Command::new("sudo")
            .args(["-n", "true"])
            .stdin(Stdio::null())
            .output()
            .ok()?;
        sudo.status.success().then_some(Privilege::Sudo)
    }

    /// `apt-get`, asking nobody anything, and waiting for another one that is at work.
    fn apt_get(&self, arguments: &[&str]) -> Command {
        let mut command = match self {
            Privilege::Root => Command::new("env"),
            Privilege::Sudo => {
                let mut sudo = Command::new("sudo");
                sudo.args(["-n", "env"]);
                sudo
            }
        };
        command.args([
            "DEBIAN_FRONTEND=noninteractive",
            "apt-get",
            "-o",
            "DPkg::Lock::Timeout=300",
        ]);
        command.args(arguments).stdin(Stdio::null());
        command
    }
}

fn install(packages: &[&str], privilege: &Privilege) -> Result<(), String> {
    println!("installing {} (apt-get)", packages.join(" "));
    quietly(privilege.apt_get(&["update"]))?;
    let mut arguments = vec!["install", "-y", "--no-install-recommends"];
    arguments.extend(packages);
    quietly(privilege.apt_get(&arguments))?;
    println!(
        "installed {}: tests start their own; the system's service, if one was started, is not used",
        packages.join(" ")
    );
    Ok(())
}

/// Runs a command to its end and shows what it said only if it failed.
fn quietly(mut command: Command) -> Result<(), String> {
    let output = command
        .output()
        .map_err(|error| format!("could not run {command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(format!(
        "{}\napt-get ended with {}",
        String::from_utf8_lossy(&said).trim(),
        output.status
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_looked_for_where_their_tests_run() {
        let dovecot = &SERVERS[0];
        for (crates, needed) in [
            (&[][..], true),
            (&["plba-mail", "x"], true),
            (&["plba-contracts"], false),
        ] {
            let crates: Vec<String> = crates.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(is_needed(dovecot, &crates), needed, "{crates:?}");
        }
    }

    #[test]
    fn a_program_is_found_and_an_invented_one_is_not() {
        assert!(is_installed("sh"));
        assert!(!is_installed("a-program-that-nobody-wrote"));
    }

    #[test]
    fn apt_get_asks_nobody_anything() {
        let command = format!("{:?}", Privilege::Sudo.apt_get(&["update"]));
        assert!(
            command.starts_with(r#""sudo" "-n" "env" "DEBIAN_FRONTEND=noninteractive" "apt-get""#),
            "{command}"
        );
    }

    #[test]
    fn a_failing_command_is_quoted() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such package; exit 100"]);
        assert!(quietly(command).is_err_and(|reason| reason.contains("no such package")));
    }
}
