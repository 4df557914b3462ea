//! What every server that is run here does alike: its process is run until it serves, ended and started again, and its log
//! is read. What a server's process is, and how it is known to serve, is said by the server. Blocking, but for the methods
//! that `lifecycle!` gives to servers whose data outlive their process.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::account::Account;
use crate::attempt::Failure;
use crate::directory::TemporaryDirectory;
use crate::process::ServerProcess;
use crate::slot::Slot;
use crate::{StartError, wait};

/// What is told of a server to run it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Traits {
    /// The server, as people call it.
    pub(crate) what: &'static str,
    /// How long a start may take.
    pub(crate) start: Duration,
    /// What did not happen within that time: a half sentence.
    pub(crate) late: &'static str,
    /// What asks for a clean end.
    pub(crate) clean_end: Signal,
    /// What it is told before it is killed because nobody needs it any more.
    pub(crate) farewell: Signal,
    /// The log's name within the directory.
    pub(crate) log: &'static str,
}

/// What every server stands on.
#[derive(Debug)]
pub(crate) struct Ground {
    // Dropped first: processes end before their directory goes.
    pub(crate) slot: Slot,
    /// Under whose account it runs.
    pub(crate) account: Account,
    /// Where its files are, and where it runs.
    pub(crate) directory: TemporaryDirectory,
}

impl Ground {
    /// A directory in which nothing runs yet.
    pub(crate) fn new(account: Account, directory: TemporaryDirectory) -> Ground {
        Ground {
            slot: Slot::default(),
            account,
            directory,
        }
    }
}

/// A server whose one process is run in a directory of its own.
pub(crate) trait Served {
    /// What is told of all servers of this kind.
    const TRAITS: Traits;

    /// Where it is run.
    fn ground(&self) -> &Ground;

    /// What is run.
    fn command(&self) -> Command;

    /// Whether the process with this id serves.
    fn serves(&self, pid: u32) -> bool;

    /// Kills it with all its children, and waits until they are gone.
    fn kill(&self) {
        self.ground().slot.kill();
    }

    /// Spawns the process and waits until it serves.
    fn run(&self) -> Result<ServerProcess, Failure> {
        let Traits { what, start, late, .. } = Self::TRAITS;
        let Ground { account, directory, .. } = self.ground();
        let mut command = self.command();
        command.current_dir(directory.path());
        let log = self.log_file();
        let mut process = ServerProcess::spawn(command, account, directory.path(), &log, Self::TRAITS.farewell)
            .map_err(|error| StartError::io(what, "run it", &error))?;
        let ready = wait::until(start, || match process.exited() {
            Some(status) => Some(Err(format!("it ended with {status}"))),
            None => self.serves(process.pid()).then_some(Ok(())),
        });
        let reason = match ready {
            Some(Ok(())) => return Ok(process),
            Some(Err(reason)) => reason,
            None => format!("{late} within {} s", start.as_secs()),
        };
        Err(Failure::of_server(what, reason, &log))
    }

    /// Runs it for the first time, on these ports.
    fn run_first(&self) -> Result<(), Failure> {
        self.ground().slot.start(|| self.run())
    }

    /// Runs it again, unless it runs.
    fn run_again(&self) -> Result<(), StartError> {
        self.run_first().map_err(|failure| failure.error)
    }

    /// Asks for a clean end and waits for it.
    fn stop(&self) -> Result<(), StartError> {
        self.ground().slot.stop(Self::TRAITS.what, Self::TRAITS.clean_end)
    }

    fn log_file(&self) -> PathBuf {
        self.ground().directory.join(Self::TRAITS.log)
    }

    /// What it has written to its log.
    fn log(&self) -> String {
        let log = fs::read(self.log_file()).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }
}

/// The public methods by which a server is ended in each way and started again: for a type with a field `server`, an `Arc`
/// of something that is [`Served`] and can `renew` its data.
macro_rules! lifecycle {
    ($server:ty) => {
        impl $server {
            /// Asks the server to end and waits for it: it writes what it has to write, and rolls back what is open.
            ///
            /// # Errors
            ///
            /// When it has to be killed after 30 seconds.
            pub async fn stop(&self) -> Result<(), StartError> {
                let server = Arc::clone(&self.server);
                blocking(move || server.stop()).await
            }

            /// Kills all of the server's processes with SIGKILL, and waits until they are gone.
            pub async fn kill(&self) {
                let server = Arc::clone(&self.server);
                blocking(move || server.kill()).await;
            }

            /// Starts a server that has ended, on the same port, with the same data; it recovers first if it was killed.
            /// Does nothing while it runs.
            ///
            /// # Errors
            ///
            /// [`StartError::Failed`] when it doesn't come up.
            pub async fn start_again(&self) -> Result<(), StartError> {
                let server = Arc::clone(&self.server);
                blocking(move || server.run_again()).await
            }

            /// [`stop`](Self::stop)s the server and starts it again.
            ///
            /// # Errors
            ///
            /// Those of both.
            pub async fn restart(&self) -> Result<(), StartError> {
                let server = Arc::clone(&self.server);
                blocking(move || {
                    server.stop()?;
                    server.run_again()
                })
                .await
            }

            /// Kills the server, replaces its data by those of a new one and starts it again: as if its disk had been
            /// replaced. Databases made for tests are gone, a replica copies its primary anew, and a cluster's node knows
            /// the others no more.
            ///
            /// # Errors
            ///
            /// [`StartError::Failed`] when it doesn't come up.
            pub async fn wipe(&self) -> Result<(), StartError> {
                let server = Arc::clone(&self.server);
                blocking(move || {
                    server.kill();
                    server.renew()?;
                    server.run_again()
                })
                .await
            }

            /// Stops all of the server's processes where they are (SIGSTOP): connections stay open, and nothing is
            /// answered.
            pub fn pause(&self) {
                self.server.ground.slot.pause();
            }

            /// Lets a paused server go on (SIGCONT).
            pub fn resume(&self) {
                self.server.ground.slot.resume();
            }

            /// Whether the server runs, paused or not.
            pub fn is_running(&self) -> bool {
                self.server.ground.slot.is_running()
            }

            /// The id of the server's main process, if it runs: for what no method here does.
            pub fn pid(&self) -> Option<u32> {
                self.server.ground.slot.pid()
            }

            /// What the server has written to its log.
            pub fn log(&self) -> String {
                self.server.log()
            }

            /// The PEM file of the private certificate authority that clients have to trust, if TLS was asked for. The
            /// certificate names `localhost` and 127.0.0.1.
            pub fn ca_path(&self) -> Option<&Path> {
                let certificates = self.server.certificates.as_ref();
                certificates.map(|certificates| certificates.authority.as_path())
            }

            /// From now on the server shows another certificate to whoever connects, one that is or is not valid any more.
            ///
            /// # Errors
            ///
            /// When TLS was not asked for, or the server can't be reached.
            pub async fn show_certificate(&self, validity: Validity) -> Result<(), StartError> {
                let server = Arc::clone(&self.server);
                blocking(move || server.show_certificate(validity)).await
            }
        }
    };
}

pub(crate) use lifecycle;
