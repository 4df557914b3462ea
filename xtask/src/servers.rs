//! The servers that tests need: which they are, whether they are here, and how to get them. Tests start them
//! themselves, through `plba-testservers`.

use std::env;
use std::fs;
use std::path::PathBuf;
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

const SERVERS: &[Server] = &[
    Server {
        name: "Dovecot",
        program: "dovecot",
        package: "dovecot-imapd",
        needed_by: &["plba-testservers", "plba-mail", "mail-order-bot"],
    },
    Server {
        name: "Exim",
        program: "exim4",
        package: "exim4-daemon-light",
        needed_by: &["plba-testservers", "plba-mail", "mail-order-bot"],
    },
    Server {
        name: "Redis",
        program: "redis-server",
        package: "redis-server",
        needed_by: &["plba-testservers", "plba-redis", "plba", "mail-order-bot"],
    },
    Server {
        name: "PostgreSQL",
        program: "postgres",
        package: "postgresql",
        needed_by: &["plba-testservers", "plba-sql", "plba", "mail-order-bot"],
    },
];

/// Where Debian keeps PostgreSQL's programs, below a directory for each version.
const POSTGRES_VERSIONS: &str = "/usr/lib/postgresql";

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
    let versions = fs::read_dir(POSTGRES_VERSIONS).into_iter().flatten().flatten();
    env::split_paths(&path)
        .chain(SERVER_DIRECTORIES.iter().map(PathBuf::from))
        .chain(versions.map(|version| version.path().join("bin")))
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
        let mut command = self.command("env");
        command.args([
            "DEBIAN_FRONTEND=noninteractive",
            "apt-get",
            "-o",
            "DPkg::Lock::Timeout=300",
        ]);
        command.args(arguments).stdin(Stdio::null());
        command
    }

    fn command(&self, program: &str) -> Command {
        match self {
            Privilege::Root => Command::new(program),
            Privilege::Sudo => {
                let mut sudo = Command::new("sudo");
                sudo.args(["-n", program]);
                sudo
            }
        }
    }
}

/// Installs without starting anything: tests start their own servers, and the system's would only hold ports and memory.
/// A `policy-rc.d` is how Debian is told so; one that is there already is left as it is, and ours goes again. PostgreSQL's
/// package would also make databases of its own, unless it finds this setting.
const INSTALL: &str = r#"
set -e
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
fi
settings=/etc/postgresql-common
case " $* " in *" postgresql "*)
  if [ ! -e "$settings/createcluster.conf" ]; then
    mkdir -p "$settings"
    echo 'create_main_cluster = false' >"$settings/createcluster.conf"
  fi ;;
esac
DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold \
  install -y --no-install-recommends "$@"
"#;

fn install(packages: &[&str], privilege: &Privilege) -> Result<(), String> {
    println!("installing {} (apt-get)", packages.join(" "));
    quietly(privilege.apt_get(&["update"]))?;
    let mut installation = privilege.command("sh");
    installation
        .args(["-c", INSTALL, "install"])
        .args(packages)
        .stdin(Stdio::null());
    quietly(installation)?;
    println!(
        "installed {}: tests start their own, no service was started",
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
        for (crates, needed) in [
            (&[][..], &["Dovecot", "Exim", "Redis", "PostgreSQL"][..]),
            (&["plba-mail", "x"], &["Dovecot", "Exim"]),
            (&["plba-sql", "plba-redis"], &["Redis", "PostgreSQL"]),
            (&["plba-contracts"], &[]),
        ] {
            let crates: Vec<String> = crates.iter().map(|name| (*name).to_owned()).collect();
            let found = SERVERS.iter().filter(|server| is_needed(server, &crates));
            let found: Vec<&str> = found.map(|server| server.name).collect();
            assert_eq!(found, needed, "{crates:?}");
        }
    }

    #[test]
    fn the_script_that_installs_is_one_that_a_shell_reads() {
        let checked = Command::new("sh").args(["-n", "-c", INSTALL]).status();
        assert!(checked.is_ok_and(|status| status.success()));
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
