//! One process of Redis, whatever its role: files, ports, start and end. Blocking.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use super::config::{self, Ports, Role};
use super::{RedisOptions, ready};
use crate::account::Account;
use crate::attempt;
use crate::certificate::{self, Certificates, Validity};
use crate::directory::TemporaryDirectory;
use crate::served::{Ground, Served, Traits};
use crate::{CommandError, NotRun, StartError, command, port, program};

pub(super) const WHAT: &str = "Redis";
const MISSING: NotRun = NotRun {
    what: WHAT,
    install: "apt-get install redis-server",
};

#[derive(Debug)]
pub(super) struct Server {
    // Dropped first: processes end before anything else goes.
    pub(super) ground: Ground,
    program: PathBuf,
    cli: PathBuf,
    options: RedisOptions,
    role: Role,
    pub(super) ports: Ports,
    pub(super) certificates: Option<Certificates>,
    /// Numbered databases handed out; 0 is for everybody.
    pub(super) databases: AtomicU32,
    /// Certificates shown besides the first one.
    shown: AtomicU32,
}

impl Server {
    pub(super) fn start(options: RedisOptions, role: Role) -> Result<Server, StartError> {
        let find = |name: &str| program::find(name).ok_or(MISSING);
        let (program, cli) = (find("redis-server")?, find("redis-cli")?);
        let account = Account::for_servers(WHAT)?;
        attempt::repeat(|| {
            let server = Server::prepare(program.clone(), cli.clone(), account.clone(), options.clone(), role)?;
            server.run_first()?;
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
            ground: Ground::new(account, directory),
            program,
            cli,
            options,
            role,
            ports,
            certificates,
            databases: AtomicU32::new(1),
            shown: AtomicU32::new(0),
        };
        server.renew()?;
        Ok(server)
    }

    /// Makes the data those of a new server: none.
    pub(super) fn renew(&self) -> Result<(), StartError> {
        let data = self.ground.directory.join(config::DATA);
        let emptied = match fs::remove_dir_all(&data) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => DirBuilder::new()
                .mode(0o700)
                .create(&data)
                .and_then(|()| self.ground.account.own(&data)),
        };
        emptied.map_err(|error| StartError::io(WHAT, "empty its directory", &error))
    }

    /// Makes a certificate and lets the server read it: from another file, because it reads the same one only once.
    pub(super) fn show_certificate(&self, validity: Validity) -> Result<(), StartError> {
        let certificates = certificate::of(WHAT, self.certificates.as_ref())?;
        let number = self.shown.fetch_add(1, Ordering::Relaxed);
        let file = self.ground.directory.join(&format!("server-{number}.pem"));
        certificates.sign_again(validity, &file, &self.ground.account)?;
        let order = ["CONFIG", "SET", "tls-cert-file"].map(str::to_owned);
        let order: Vec<String> = order.into_iter().chain([file.display().to_string()]).collect();
        let answer = self.cli(0, &order);
        answer
            .map(drop)
            .map_err(|error| StartError::failed(WHAT, error.to_string()))
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
}

impl Served for Server {
    const TRAITS: Traits = Traits {
        what: WHAT,
        // It takes about 10 ms on an idle machine; loading data and builds beside it cost more.
        start: Duration::from_secs(30),
        late: "no PING was answered",
        clean_end: Signal::TERM,
        farewell: Signal::KILL,
        log: config::LOG,
    };

    fn ground(&self) -> &Ground {
        &self.ground
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(self.ground.directory.join(config::FILE));
        if let Role::SentinelOf(_) = self.role {
            command.arg("--sentinel");
        }
        command
    }

    fn serves(&self, _: u32) -> bool {
        ready::answers(self.ports.plain, self.password())
    }
}
