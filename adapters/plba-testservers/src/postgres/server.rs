//! One PostgreSQL server: files, port, start and end. Blocking.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use rustix::process::Signal;

use super::programs::Programs;
use super::{DATABASE, PASSWORD, PostgresOptions, USER, WHAT, config, ready, template};
use crate::account::Account;
use crate::attempt;
use crate::certificate::{self, Certificates, Validity};
use crate::directory::TemporaryDirectory;
use crate::served::{Ground, Served, Traits};
use crate::{CommandError, StartError, command, port, program};

/// Ends every session, writes everything and ends.
const FAST_SHUTDOWN: Signal = Signal::INT;

/// Ends at once, without writing anything, and leaves no shared memory behind.
const IMMEDIATE_SHUTDOWN: Signal = Signal::QUIT;

#[derive(Debug)]
pub(super) struct Server {
    // Dropped first: processes end before anything else goes.
    pub(super) ground: Ground,
    programs: Programs,
    options: PostgresOptions,
    pub(super) port: u16,
    pub(super) certificates: Option<Certificates>,
    /// Databases made for tests.
    pub(super) databases: AtomicU32,
}

impl Server {
    pub(super) fn start(options: PostgresOptions) -> Result<Server, StartError> {
        let programs = Programs::find()?;
        let account = Account::for_servers(WHAT)?;
        attempt::repeat(|| {
            let server = Server::prepare(programs.clone(), account.clone(), options.clone())?;
            server.run_first()?;
            Ok(server)
        })
    }

    /// Everything but the process: directory, certificates, port, data.
    fn prepare(programs: Programs, account: Account, options: PostgresOptions) -> Result<Server, StartError> {
        let failed = |doing: &'static str| move |error: io::Error| StartError::io(WHAT, doing, &error);
        let directory = if options.in_memory {
            TemporaryDirectory::create_in_memory("postgres", &account)
        } else {
            TemporaryDirectory::create("postgres", &account)
        }
        .map_err(failed("make a directory"))?;
        let certificates = options
            .tls
            .then(|| Certificates::create(directory.path(), &account))
            .transpose()?;
        let [port] = port::free_ports().map_err(failed("find a port"))?;
        let server = Server {
            ground: Ground::new(account, directory),
            programs,
            options,
            port,
            certificates,
            databases: AtomicU32::new(1),
        };
        server.renew()?;
        Ok(server)
    }

    fn data(&self) -> PathBuf {
        self.ground.directory.join(config::DATA)
    }

    /// Makes the data those of a new server.
    pub(super) fn renew(&self) -> Result<(), StartError> {
        let data = self.data();
        match fs::remove_dir_all(&data) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StartError::io(WHAT, "remove its data", &error));
            }
            _ => {}
        }
        template::copy_to(&data, &self.programs, &self.ground.account)?;
        let text = config::text(
            self.ground.directory.path(),
            &self.options,
            self.port,
            self.certificates.as_ref(),
        );
        File::options()
            .append(true)
            .open(data.join(config::FILE))
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .and_then(|()| fs::write(data.join(config::ACCESS_FILE), config::access(&self.options)))
            .map_err(|error| StartError::io(WHAT, "write its configuration", &error))
    }

    /// Makes a certificate and lets the server read it.
    pub(super) fn show_certificate(&self, validity: Validity) -> Result<(), StartError> {
        let certificates = certificate::of(WHAT, self.certificates.as_ref())?;
        certificates.sign_again(validity, &certificates.server, &self.ground.account)?;
        let answer = self.execute("SELECT pg_reload_conf()");
        answer
            .map(drop)
            .map_err(|error| StartError::failed(WHAT, error.to_string()))
    }

    pub(super) fn url(&self, database: &str) -> String {
        format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{}/{database}", self.port)
    }

    /// Runs `psql` over the socket: rows as lines, columns separated by `|`, no headings.
    pub(super) fn cli(&self, database: &str, arguments: &[String]) -> Result<String, CommandError> {
        let mut command = Command::new(self.programs.path("psql"));
        command
            .args([
                "-X",
                "-q",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-U",
                USER,
                "-d",
                database,
            ])
            .args(["-p", &self.port.to_string()])
            .arg("-h")
            .arg(self.ground.directory.path())
            .env("PGCONNECT_TIMEOUT", "30");
        command::ask("psql", command, arguments)
    }

    /// [`cli`](Self::cli) for one statement outside any test's database.
    pub(super) fn execute(&self, statement: &str) -> Result<String, CommandError> {
        self.cli(DATABASE, &command::owned(["-c", statement]))
    }
}

impl Served for Server {
    const TRAITS: Traits = Traits {
        what: WHAT,
        // It takes about 0.1 s on an idle machine; recovery and builds beside it cost more.
        start: Duration::from_secs(60),
        late: "it took no connections",
        clean_end: FAST_SHUTDOWN,
        farewell: IMMEDIATE_SHUTDOWN,
        log: config::LOG,
    };

    fn ground(&self) -> &Ground {
        &self.ground
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.programs.path("postgres"));
        command.arg("-D").arg(self.data());
        // What the person at the keyboard has set for their own clients is not for this server.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        command
    }

    fn serves(&self, pid: u32) -> bool {
        ready::is_ready(&self.data(), pid)
    }

    /// A killed server leaves a segment of shared memory behind. The kernel has room for 4096 of them, and only a server
    /// on the same data would remove it.
    fn kill(&self) {
        self.ground.slot.kill();
        if let Some(segment) = ready::shared_memory(&self.data()) {
            let mut removal = Command::new("ipcrm");
            removal.args(["-m", &segment.to_string()]);
            self.ground.account.apply(&mut removal);
            // Without the program it stays, which harms nobody soon.
            let _ = program::run(WHAT, &mut removal);
        }
    }
}
