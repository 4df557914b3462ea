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
use crate::attempt::{self, Failure};
use crate::certificate::Certificates;
use crate::directory::TemporaryDirectory;
use crate::process::ServerProcess;
use crate::slot::Slot;
use crate::{CommandError, StartError, command, port, program, wait};

/// How long a start may take. It takes about 0.1 s on an idle machine; recovery and builds beside it cost more.
const START: Duration = Duration::from_secs(60);

/// Ends every session, writes everything and ends.
const FAST_SHUTDOWN: Signal = Signal::INT;

/// Ends at once, without writing anything, and leaves no shared memory behind.
const IMMEDIATE_SHUTDOWN: Signal = Signal::QUIT;

#[derive(Debug)]
pub(super) struct Server {
    // Dropped first: processes end before their directory goes.
    pub(super) slot: Slot,
    programs: Programs,
    account: Account,
    options: PostgresOptions,
    pub(super) port: u16,
    pub(super) certificates: Option<Certificates>,
    /// Databases made for tests.
    pub(super) databases: AtomicU32,
    pub(super) directory: TemporaryDirectory,
}

impl Server {
    pub(super) fn start(options: PostgresOptions) -> Result<Server, StartError> {
        let programs = Programs::find()?;
        let account = Account::for_servers(WHAT)?;
        attempt::repeat(|| {
            let server = Server::prepare(programs.clone(), account.clone(), options.clone())?;
            server.slot.start(|| server.run())?;
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
            slot: Slot::default(),
            programs,
            account,
            options,
            port,
            certificates,
            databases: AtomicU32::new(1),
            directory,
        };
        server.renew()?;
        Ok(server)
    }

    fn data(&self) -> PathBuf {
        self.directory.join(config::DATA)
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
        template::copy_to(&data, &self.programs, &self.account)?;
        let text = config::text(
            self.directory.path(),
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

    pub(super) fn stop(&self) -> Result<(), StartError> {
        self.slot.stop(WHAT, FAST_SHUTDOWN)
    }

    /// A killed server leaves a segment of shared memory behind. The kernel has room for 4096 of them, and only a server
    /// on the same data would remove it.
    pub(super) fn kill(&self) {
        self.slot.kill();
        if let Some(segment) = ready::shared_memory(&self.data()) {
            let mut removal = Command::new("ipcrm");
            removal.args(["-m", &segment.to_string()]);
            self.account.apply(&mut removal);
            // Without the program it stays, which harms nobody soon.
            let _ = program::run(WHAT, &mut removal);
        }
    }

    pub(super) fn run_again(&self) -> Result<(), StartError> {
        self.slot.start(|| self.run()).map_err(|failure| failure.error)
    }

    /// Spawns the process and waits until it serves.
    fn run(&self) -> Result<ServerProcess, Failure> {
        let data = self.data();
        let mut command = Command::new(self.programs.path("postgres"));
        command.arg("-D").arg(&data).current_dir(self.directory.path());
        // What the person at the keyboard has set for their own clients is not for this server.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        let log = self.directory.join(config::LOG);
        let mut process = ServerProcess::spawn(command, &self.account, self.directory.path(), &log, IMMEDIATE_SHUTDOWN)
            .map_err(|error| StartError::io(WHAT, "run it", &error))?;
        let ready = wait::until(START, || match process.exited() {
            Some(status) => Some(Err(format!("it ended with {status}"))),
            None => ready::is_ready(&data, process.pid()).then_some(Ok(())),
        });
        let reason = match ready {
            Some(Ok(())) => return Ok(process),
            Some(Err(reason)) => reason,
            None => format!("it took no connections within {} s", START.as_secs()),
        };
        Err(Failure::of_server(WHAT, reason, &log))
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
            .arg(self.directory.path())
            .env("PGCONNECT_TIMEOUT", "30");
        command::ask("psql", command, arguments)
    }

    /// [`cli`](Self::cli) for one statement outside any test's database.
    pub(super) fn execute(&self, statement: &str) -> Result<String, CommandError> {
        self.cli(DATABASE, &command::owned(["-c", statement]))
    }

    pub(super) fn log(&self) -> String {
        let log = fs::read(self.directory.join(config::LOG)).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }
}
