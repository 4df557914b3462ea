//! Exim 4, a mail server that takes every mail and delivers it into one Maildir: SMTP with STARTTLS, SMTP over TLS, and a
//! login. Its configuration is in `config`.

mod config;

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;

use crate::account::Account;
use crate::attempt;
use crate::blocking::blocking;
use crate::post::{Post, post};
use crate::served::{Ground, Served, Traits};
use crate::{NotRun, StartError, program};

const WHAT: &str = "Exim";
const MISSING: NotRun = NotRun {
    what: WHAT,
    install: "apt-get install exim4-daemon-light",
};

/// Who logs in where any will do; nobody has to.
const USER: &str = "bot";

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
    post: Post,
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
        self.server.post.plain
    }

    /// The port for TLS connections, on 127.0.0.1; the certificate names `localhost` and 127.0.0.1.
    pub fn smtps_port(&self) -> u16 {
        self.server.post.tls
    }

    /// The Maildir that every mail is delivered into.
    pub fn maildir(&self) -> PathBuf {
        self.server.post.ground.directory.join(config::MAIL)
    }

    /// The mails that were delivered, in no particular order. A mail that was just taken may need a moment.
    ///
    /// # Errors
    ///
    /// When the Maildir can't be read.
    pub fn delivered(&self) -> io::Result<Vec<Vec<u8>>> {
        let new = self.maildir().join("new");
        match fs::read_dir(new) {
            Ok(entries) => entries.map(|entry| fs::read(entry?.path())).collect(),
            // Nothing was ever delivered.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// How many mails were taken and are not delivered yet.
    pub fn queued(&self) -> usize {
        let input = self.server.post.ground.directory.join("spool").join("input");
        let entries = fs::read_dir(input).into_iter().flatten().flatten();
        // Each has a file for its header and one for its data.
        entries
            .filter(|entry| entry.file_name().to_string_lossy().ends_with("-H"))
            .count()
    }
}

post!(Exim, USER);

fn start(program: &Path) -> Result<Server, StartError> {
    let account = Account::for_servers(WHAT)?;
    attempt::repeat(|| {
        let server = prepare(program, account.clone())?;
        server.run_first()?;
        Ok(server)
    })
}

/// Everything but the process.
fn prepare(program: &Path, account: Account) -> Result<Server, StartError> {
    let failed = |doing: &'static str| move |error: io::Error| StartError::io(WHAT, doing, &error);
    let post = Post::prepare(WHAT, "exim", program, account)?;
    let Ground { directory, account, .. } = &post.ground;
    fs::write(directory.join(config::FILE), config::text(&post)).map_err(failed("write its configuration"))?;
    let spool = directory.join("spool");
    let made = fs::DirBuilder::new().mode(0o700).create(&spool);
    made.and_then(|()| account.own(&spool))
        .map_err(failed("make its spool"))?;
    Ok(Server { post })
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
        &self.post.ground
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.post.program);
        // In the foreground; what a killed delivery left is tried again after a second.
        command
            .arg("-C")
            .arg(self.post.ground.directory.join(config::FILE))
            .args(["-bdf", "-q1s"]);
        command
    }

    fn serves(&self, _: u32) -> bool {
        greets(self.post.plain).unwrap_or(false)
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
