//! Dovecot 2.3 with Maildir mailboxes, plain and TLS. Its configuration is in `config`, what lies on disk in `mailbox`,
//! the first LOGIN in `ready`.

mod config;
mod mailbox;
mod ready;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use rustix::process::Signal;

use crate::account::Account;
use crate::attempt::{self, Failure};
use crate::blocking::blocking;
use crate::post::{PASSWORD, Post, post};
use crate::served::{Ground, Served, Traits};
use crate::{NotRun, StartError, program};

pub use mailbox::StoredMessage;

const WHAT: &str = "Dovecot";
const MISSING: NotRun = NotRun {
    what: WHAT,
    install: "apt-get install dovecot-imapd",
};

/// The mailbox that tests use when any will do. Any other user name works as well.
const USER: &str = "orders";

/// A running Dovecot on 127.0.0.1. Each start has its own directory, ports and certificate authority.
///
/// Dropping it kills its processes and removes its directory. All methods may be called from several tasks.
#[derive(Debug)]
pub struct Dovecot {
    server: Arc<Server>,
}

#[derive(Debug)]
struct Server {
    post: Post,
    delivered: AtomicU64,
}

impl Dovecot {
    /// Starts a server and waits until a LOGIN succeeds.
    ///
    /// # Errors
    ///
    /// [`StartError::NotRun`] when Dovecot isn't installed; [`StartError::Failed`], with the server's log, otherwise.
    ///
    /// # Cancel safety
    ///
    /// A dropped start ends in the background, and what it started ends with it. Real time is used throughout, so a
    /// paused tokio clock neither hastens nor fails a start.
    pub async fn start() -> Result<Dovecot, StartError> {
        let program = program::find("dovecot").ok_or(MISSING)?;
        let server = blocking(move || start(&program)).await?;
        Ok(Dovecot {
            server: Arc::new(server),
        })
    }

    /// The port for plain connections, on 127.0.0.1.
    pub fn imap_port(&self) -> u16 {
        self.server.post.plain
    }

    /// The port for TLS connections, on 127.0.0.1; the certificate names `localhost` and 127.0.0.1.
    pub fn imaps_port(&self) -> u16 {
        self.server.post.tls
    }

    /// The user's Maildir on disk. Other folders than the inbox lie inside, named `.Folder` in modified UTF-7.
    pub fn maildir(&self, user: &str) -> PathBuf {
        self.server.post.ground.directory.join("mail").join(user)
    }

    /// Puts a message into the user's inbox the way a delivery agent does: written to `tmp/`, renamed to `new/`.
    /// Messages get their UIDs in the order of delivery. A mailbox other than the default one is made when it isn't there yet.
    ///
    /// # Errors
    ///
    /// When the file can't be written.
    pub fn deliver(&self, user: &str, raw: &[u8]) -> io::Result<()> {
        mailbox::deliver(
            &self.maildir(user),
            &self.server.post.ground.account,
            &self.server.delivered,
            raw,
        )
    }

    /// [`deliver`](Self::deliver)s each message, in order.
    ///
    /// # Errors
    ///
    /// When a file can't be written; earlier messages are then already delivered.
    pub fn deliver_many<M: AsRef<[u8]>>(&self, user: &str, messages: impl IntoIterator<Item = M>) -> io::Result<()> {
        messages
            .into_iter()
            .try_for_each(|raw| self.deliver(user, raw.as_ref()))
    }

    /// The user's inbox as it lies on disk, in the order of delivery: flags without asking the server.
    ///
    /// # Errors
    ///
    /// When the mailbox can't be read. A mailbox that doesn't exist is empty.
    pub fn messages(&self, user: &str) -> io::Result<Vec<StoredMessage>> {
        mailbox::messages(&self.maildir(user))
    }

    /// Kills the processes that serve logged-in clients and says how many they were: their connections close without a
    /// BYE, and the server takes new ones.
    pub fn kill_sessions(&self) -> usize {
        self.server.post.ground.slot.kill_members("imap")
    }

    /// Ends all sessions and makes the user's inbox forget its UIDs: it gets another UIDVALIDITY, and UIDs count from 1
    /// again. Messages and their flags stay.
    ///
    /// # Errors
    ///
    /// When the files can't be removed.
    pub fn reset_uidvalidity(&self, user: &str) -> io::Result<()> {
        self.kill_sessions();
        mailbox::forget_uids(&self.maildir(user))
    }
}

post!(Dovecot, USER);

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
    let post = Post::prepare(WHAT, "dovecot", program, account)?;
    let Ground { directory, account, .. } = &post.ground;
    fs::write(directory.join(config::FILE), config::text(&post)).map_err(failed("write its configuration"))?;
    mailbox::create(&directory.join("mail").join(USER), account).map_err(failed("make a mailbox"))?;
    Ok(Server {
        post,
        delivered: AtomicU64::new(0),
    })
}

impl Served for Server {
    const TRAITS: Traits = Traits {
        what: WHAT,
        // It takes about 0.1 s on an idle machine; builds beside it cost more.
        start: Duration::from_secs(20),
        late: "no LOGIN succeeded",
        clean_end: Signal::TERM,
        farewell: Signal::KILL,
        log: config::LOG,
    };

    fn ground(&self) -> &Ground {
        &self.post.ground
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.post.program);
        command
            .arg("-F")
            .arg("-c")
            .arg(self.post.ground.directory.join(config::FILE));
        command
    }

    fn serves(&self, _: u32) -> bool {
        ready::logs_in(self.post.plain, PASSWORD)
    }

    fn run_first(&self) -> Result<(), Failure> {
        self.post
            .ground
            .slot
            .start(|| self.run())
            .map_err(|failure| self.with_version(failure))
    }
}

impl Server {
    /// Says what may be wrong with a version that nobody has tried.
    fn with_version(&self, mut failure: Failure) -> Failure {
        if let StartError::Failed { reason, .. } = &mut failure.error
            && let Ok(version) = program::run(WHAT, Command::new(&self.post.program).arg("--version"))
            && !version.starts_with("2.3.")
        {
            reason.push_str(&format!(
                "; this is version {}, and only 2.3 is known to work",
                version.trim()
            ));
        }
        failure
    }
}
