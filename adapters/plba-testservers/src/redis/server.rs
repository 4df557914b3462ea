//! One process of Redis, whatever its role: files, ports, start and end. Blocking.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use rustix::process::Signal;

use super::config::{self, Ports, Role};
use super::{RedisOptions, ready};
use crate::account::Account;
use crate::attempt::{self, Failure};
use crate::certificate::Certificates;
use crate::directory::TemporaryDirectory;
use crate::process::ServerProcess;
use crate::slot::Slot;
use crate::{CommandError, NotRun, StartError, command, port, program, wait};

pub(super) const WHAT: &str = "Redis";
const MISSING: NotRun = NotRun {
    what: WHAT,
    install: "apt-get install redis-server",
};

/// How long a start may take. It takes about 10 ms on an idle machine; loading data and builds beside it cost more.
const START: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Server {
    // Dropped first: processes end before their directory goes.
    pub(super) slot: Slot,
    program: PathBuf,
    cli: PathBuf,
    account: Account,
    options: RedisOptions,
    role: Role,
    pub(super) ports: Ports,
    pub(super) certificates: Option<Certificates>,
    /// Numbered databases handed out; 0 is for everybody.
    pub(super) databases: AtomicU32,
    directory: TemporaryDirectory,
}

impl Server {
    pub(super) fn start(options: RedisOptions, role: Role) -> Result<Server, StartError> {
        let find = |name: &str| program::find(name).ok_or(MISSING);
        let (program, cli) = (find("redis-server")?, find("redis-cli")?);
        let account = Account::for_servers(WHAT)?;
        attempt::repeat(|| {
            let server = Server::prepare(program.clone(), cli.clone(), account.clone(), options.clone(), role)?;
            server.slot.start(|| server.run())?;
            Ok(server)
        })
    }

    /// Everything but the process: directory, certificates, ports, configuration.
    fn prepare(
        program: PathBuf,
        cli: PathBuf,
        account: Account,
        options: RedisOptions,
        role: Role,
    ) -> Result<Server, StartError> {
        let failed = |doing: &'static str| move |error: io::Error| StartError::io(WHAT, doing, &error);
        let directory = if options.in_memory {
            TemporaryDirectory::create_in_memory("redis", &account)
        } else {
            TemporaryDirectory::create("redis", &account)
        }
        .map_err(failed("make a directory"))?;
        let certificates = options
            .tls
            .then(|| Certificates::create(directory.path(), &account))
            .transpose()?;
        let [plain, tls] = port::free_ports().map_err(failed("find ports"))?;
        let ports = Ports { plain, tls };
        let text = config::text(directory.path(), &options, role, ports, certificates.as_ref());
        let file = directory.join(config::FILE);
        // Sentinels, and primaries that become replicas, write into it themselves.
        fs::write(&file, text)
            .and_then(|()| account.own(&file))
            .map_err(failed("write its configuration"))?;
        let server = Server {
            slot: Slot::default(),
            program,
            cli,
            account,
            options,
            role,
            ports,
            certificates,
            databases: AtomicU32::new(1),
            directory,
        };
        server.empty()?;
        Ok(server)
    }

    /// Makes the directory of the data an empty one.
    pub(super) fn empty(&self) -> Result<(), StartError> {
        let data = self.directory.join(config::DATA);
        let emptied = match fs::remove_dir_all(&data) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => DirBuilder::new()
                .mode(0o700)
                .create(&data)
                .and_then(|()| self.account.own(&data)),
        };
        emptied.map_err(|error| StartError::io(WHAT, "empty its directory", &error))
    }

    pub(super) fn stop(&self) -> Result<(), StartError> {
        self.slot.stop(WHAT, Signal::TERM)
    }

    pub(super) fn run_again(&self) -> Result<(), StartError> {
        self.slot.start(|| self.run()).map_err(|failure| failure.error)
    }

    /// Spawns the process and waits until it serves.
    fn run(&self) -> Result<ServerProcess, Failure> {
        let mut command = Command::new(&self.program);
        command
            .arg(self.directory.join(config::FILE))
            .current_dir(self.directory.path());
        if let Role::SentinelOf(_) = self.role {
            command.arg("--sentinel");
        }
        let log = self.directory.join(config::LOG);
        let mut process = ServerProcess::spawn(command, &self.account, self.directory.path(), &log, Signal::KILL)
            .map_err(|error| StartError::io(WHAT, "run it", &error))?;
        let password = self.password();
        let ready = wait::until(START, || match process.exited() {
            Some(status) => Some(Err(format!("it ended with {status}"))),
            None => ready::answers(self.ports.plain, password).then_some(Ok(())),
        });
        let reason = match ready {
            Some(Ok(())) => return Ok(process),
            Some(Err(reason)) => reason,
            None => format!("no PING was answered within {} s", START.as_secs()),
        };
        Err(Failure::of_server(WHAT, reason, &log))
    }

    /// A sentinel has none.
    fn password(&self) -> Option<&str> {
        match self.role {
            Role::SentinelOf(_) => None,
            _ => self.options.password.as_deref(),
        }
    }

    pub(super) fn url(&self, database: u32) -> String {
        let Ports { plain, .. } = self.ports;
        format!("redis://{}127.0.0.1:{plain}/{database}", self.user_information())
    }

    pub(super) fn tls_url(&self) -> Option<String> {
        let Ports { tls, .. } = self.ports;
        self.certificates
            .as_ref()
            .map(|_| format!("rediss://{}localhost:{tls}/0", self.user_information()))
    }

    fn user_information(&self) -> String {
        self.password()
            .map(|password| format!(":{password}@"))
            .unwrap_or_default()
    }

    pub(super) fn cli(&self, database: u32, arguments: &[String]) -> Result<String, CommandError> {
        let mut command = Command::new(&self.cli);
        command.args(["-e", "-h", "127.0.0.1", "-p", &self.ports.plain.to_string()]);
        if database != 0 {
            command.args(["-n", &database.to_string()]);
        }
        command.env_remove("REDISCLI_AUTH");
        if let Some(password) = self.password() {
            command.env("REDISCLI_AUTH", password);
        }
        command::ask("redis-cli", command, arguments)
    }

    pub(super) fn log(&self) -> String {
        let log = fs::read(self.directory.join(config::LOG)).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }
}
