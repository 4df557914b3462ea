//! Exim 4, a mail server that takes every mail and delivers it into one Maildir: SMTP with STARTTLS, SMTP over TLS, and a
//! login. Its configuration is in `config`.

mod config;

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;

use crate::account::Account;
use crate::attempt;
use crate::blocking::blocking;
use crate::certificate::Certificates;
use crate::directory::TemporaryDirectory;
use crate::served::{Ground, Served, Traits};
use crate::{NotRun, StartError, port, program};

const WHAT: &str = "Exim";
const MISSING: NotRun = NotRun {
    what: WHAT,
    install: "apt-get install exim4-daemon-light",
};

/// Any user name works, with this password.
const USER: &str = "bot";
const PASSWORD: &str = "secret";

/// For connecting and for the greeting.
const PATIENCE: Duration = Duration::from_secs(2);

/// A running Exim on 127.0.0.1. Each start has its own directory, ports and certificate authority.
///
/// Mails to the local parts `refused` and `deferred` are refused for good and for now. Dropping it kills its processes and
/// removes its directory.
#[derive(Debug)]
pub struct Exim {
    server: Arc<Server>,
}

#[derive(Debug)]
struct Server {
    // Dropped first: processes end before anything else goes.
    ground: Ground,
    program: PathBuf,
    certificates: Certificates,
    smtp: u16,
    smtps: u16,
}

impl Exim {
    /// Starts a server and waits until it greets.
    ///
    /// # Errors
    ///
    /// [`StartError::NotRun`] when Exim isn't installed; [`StartError::Failed`], with the server's log, otherwise.
    ///
    /// # Cancel safety
    ///
    /// A dropped start ends in the background, and what it started ends with it. Real time is used throughout.
    pub async fn start() -> Result<Exim, StartError> {
        let program = program::find("exim4").ok_or(MISSING)?;
        let server = blocking(move || start(&program)).await?;
        Ok(Exim {
            server: Arc::new(server),
        })
    }

    /// The port for plain connections, which may become encrypted by STARTTLS, on 127.0.0.1.
    pub fn smtp_port(&self) -> u16 {
        self.server.smtp
    }

    /// The port for TLS connections, on 127.0.0.1; the certificate names `localhost` and 127.0.0.1.
    pub fn smtps_port(&self) -> u16 {
        self.server.smtps
    }

    /// The PEM file of the private certificate authority that clients have to trust.
    pub fn ca_path(&self) -> &Path {
        &self.server.certificates.authority
    }

    /// A user who may log in; nobody has to.
    pub fn user(&self) -> &str {
        USER
    }

    /// The password of every user.
    pub fn password(&self) -> &str {
        PASSWORD
    }

    /// A file, readable by its owner only, whose first line is the password.
    pub fn password_path(&self) -> PathBuf {
        self.server.ground.directory.join(config::PASSWORD_FILE)
    }

    /// The mails that were delivered, in no particular order. A mail that was just taken may need a moment.
    ///
    /// # Errors
    ///
    /// When the Maildir can't be read.
    pub fn delivered(&self) -> io::Result<Vec<Vec<u8>>> {
        let new = self.server.ground.directory.join(config::MAIL).join("new");
        match fs::read_dir(new) {
            Ok(entries) => entries.map(|entry| fs::read(entry?.path())).collect(),
            // Nothing was ever delivered.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// How many mails were taken and are not delivered yet.
    pub fn queued(&self) -> usize {
        let input = self.server.ground.directory.join("spool").join("input");
        let entries = fs::read_dir(input).into_iter().flatten().flatten();
        // Each has a file for its header and one for its data.
        entries
            .filter(|entry| entry.file_name().to_string_lossy().ends_with("-H"))
            .count()
    }

    /// Kills the server with all its connections. Mails and ports stay; [`restart`](Self::restart) brings it back.
    pub async fn stop(&self) {
        let server = Arc::clone(&self.server);
        blocking(move || server.kill()).await;
    }

    /// Kills the server and starts it again on the same ports, with the same mails and certificates.
    ///
    /// # Errors
    ///
    /// [`StartError::Failed`] when it doesn't come up; the server is then stopped.
    pub async fn restart(&self) -> Result<(), StartError> {
        let server = Arc::clone(&self.server);
        blocking(move || {
            // Ended before the next one starts: both want the ports.
            server.kill();
            server.run_again()
        })
        .await
    }
}

fn start(program: &Path) -> Result<Server, StartError> {
    let account = Account::for_servers(WHAT)?;
    attempt::repeat(|| {
        let server = prepare(program, account.clone())?;
        server.run_first()?;
        Ok(server)
    })
}

/// Everything but the process: directory, certificates, ports, configuration.
fn prepare(program: &Path, account: Account) -> Result<Server, StartError> {
    let failed = |doing: &'static str| move |error: io::Error| StartError::io(WHAT, doing, &error);
    let directory = TemporaryDirectory::create("exim", &account).map_err(failed("make a directory"))?;
    let certificates = Certificates::create(directory.path(), &account)?;
    let [smtp, smtps] = port::free_ports().map_err(failed("find ports"))?;
    let text = config::text(directory.path(), &account, &certificates, smtp, smtps);
    fs::write(directory.join(config::FILE), text).map_err(failed("write its configuration"))?;
    let spool = directory.join("spool");
    let made = fs::DirBuilder::new().mode(0o700).create(&spool);
    made.and_then(|()| account.own(&spool))
        .map_err(failed("make its spool"))?;
    write_password(&directory.join(config::PASSWORD_FILE)).map_err(failed("write the password's file"))?;
    Ok(Server {
        ground: Ground::new(account, directory),
        program: program.to_owned(),
        certificates,
        smtp,
        smtps,
    })
}

/// Not handed to the server's account: clients read it.
fn write_password(path: &Path) -> io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    writeln!(file, "{PASSWORD}")
}

impl Served for Server {
    const TRAITS: Traits = Traits {
        what: WHAT,
        // It takes about 50 ms on an idle machine; builds beside it cost more.
        start: Duration::from_secs(20),
        late: "it did not greet",
        clean_end: Signal::TERM,
        farewell: Signal::KILL,
        log: config::LOG,
    };

    fn ground(&self) -> &Ground {
        &self.ground
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        // In the foreground; what a killed delivery left is tried again after a second.
        command
            .arg("-C")
            .arg(self.ground.directory.join(config::FILE))
            .args(["-bdf", "-q1s"]);
        command
    }

    fn serves(&self, _: u32) -> bool {
        greets(self.smtp).unwrap_or(false)
    }
}

/// Whether a connection is greeted (RFC 5321, section 3.1).
fn greets(port: u16) -> io::Result<bool> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream.try_clone()?).read_line(&mut line)?;
    stream.write_all(b"QUIT\r\n")?;
    Ok(line.starts_with("220 "))
}
