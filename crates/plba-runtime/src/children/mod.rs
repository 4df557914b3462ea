//! Child processes that belong to a worker's instance: each in a process group of its own, which ends with the instance
//! however that ends. The bookkeeping behind it lives in `registry`; what a stop makes of it is told in the stop report.

mod registry;

use std::io::{self, Error};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use plba_contracts::services::{ErasedService, ServiceError, ServiceKey, ServiceSource};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::unix::pipe;
use tokio::sync::watch;

pub(crate) use self::registry::Registry;
pub use self::registry::{ChildEnd, ChildStop};
use self::registry::{Owner, Status};

/// The most bytes that [`ChildProcess::output`] takes from one stream.
const OUTPUT_BYTES: u64 = 64 * 1024 * 1024;

/// Starts child processes on behalf of one instance of a worker. A service: `services.get::<ChildProcesses>()`, which is
/// another one for each instance.
///
/// Each child leads a process group of its own, to which its own children belong unless they leave it on purpose
/// (`setsid`). The whole group is ended, by SIGTERM and, 1 s later, by SIGKILL,
/// - when the [`ChildProcess`] is dropped, also by a panic;
/// - when the instance is told by force to stop, or has ended in whatever way, whatever became of the `ChildProcess`; it
///   starts no more from then on, wherever this handle has got to;
/// - at the end of the process, then by SIGKILL at once, and named in the stop report.
///
/// A graceful stop leaves it alone: it belongs to what is in hand and is to be finished. What was ended is waited for, so
/// that nobody stays behind, not even as a zombie. A SIGKILL of this process itself ends no child: that takes a service
/// manager that kills the whole control group, as systemd and Kubernetes do.
#[derive(Clone)]
pub struct ChildProcesses {
    registry: Arc<Registry>,
    owner: Owner,
    /// The instance on whose behalf it is, if it is one's.
    host: Option<Weak<dyn Host>>,
}

/// An instance as what starts children for it sees it.
pub(crate) trait Host: Send + Sync {
    /// Its worker's name, its slot and the number of the attempt.
    fn owner(&self) -> (Arc<str>, u32, u64);

    /// Whether it may start children: until it is told by force to stop, or has ended.
    fn may_start(&self) -> bool;

    /// It has asked for this service.
    fn asked_for(&self, key: &ServiceKey);
}

/// A child process and its group. Dropped, it is ended.
pub struct ChildProcess {
    child: Child,
    group: registry::GroupId,
    registry: Arc<Registry>,
    status: watch::Receiver<Option<Status>>,
}

/// What a child process has left.
#[derive(Clone, Debug)]
pub struct ChildOutput {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to its standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error.
    pub stderr: Vec<u8>,
}

impl ChildProcesses {
    /// For who runs outside a process with workers, such as a command or a test; `owner` is what the children are known
    /// by. They end when their [`ChildProcess`] is dropped.
    pub fn detached(owner: &str) -> Self {
        Self::new(Arc::default(), (owner.into(), 0, 1), None)
    }

    pub(crate) fn new(registry: Arc<Registry>, owner: (Arc<str>, u32, u64), host: Option<Weak<dyn Host>>) -> Self {
        let (worker, slot, attempt) = owner;
        let owner = Owner { worker, slot, attempt };
        Self { registry, owner, host }
    }

    fn may_start(&self) -> bool {
        let alive = |host: &Weak<dyn Host>| host.upgrade().is_some_and(|host| host.may_start());
        self.host.as_ref().is_none_or(alive)
    }

    /// Starts the command in a process group of its own. Blocks for as long as a fork takes.
    ///
    /// # Errors
    /// The program can't be started, the system gives no thread to wait for it with, or the instance has been told by
    /// force to stop or has ended.
    pub fn spawn(&self, mut command: Command) -> io::Result<ChildProcess> {
        let program = command.get_program().to_string_lossy().into_owned();
        command.process_group(0);
        let may_start = || self.may_start();
        let spawned = self.registry.spawn(&self.owner, program, may_start, || command.spawn());
        let (child, group, status) = spawned?;
        Ok(ChildProcess {
            child,
            group,
            registry: Arc::clone(&self.registry),
            status,
        })
    }

    /// Runs the command to its end without input and gives what it writes, of each stream at most 64 MiB: beyond that
    /// it finds the pipe closed.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn), or its output can't be read.
    ///
    /// # Cancel safety
    /// When dropped, the child is ended.
    pub async fn output(&self, mut command: Command) -> io::Result<ChildOutput> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        self.spawn(command)?.output().await
    }
}

impl ChildProcess {
    /// Its process id, which is that of its group too.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its standard input, if it was piped and not taken before.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Its standard output, if it was piped and not taken before.
    ///
    /// # Errors
    /// There is no executor here, or the pipe can't be used with it.
    pub fn take_stdout(&mut self) -> io::Result<Option<pipe::Receiver>> {
        self.child
            .stdout
            .take()
            .map(|stream| receiver(stream.into()))
            .transpose()
    }

    /// Its standard error, if it was piped and not taken before.
    ///
    /// # Errors
    /// As [`take_stdout`](Self::take_stdout).
    pub fn take_stderr(&mut self) -> io::Result<Option<pipe::Receiver>> {
        self.child
            .stderr
            .take()
            .map(|stream| receiver(stream.into()))
            .transpose()
    }

    /// Waits for the end of the child itself. Those that it has left behind in its group are ended when this is dropped.
    ///
    /// # Errors
    /// Somebody else has waited for it, so that its status is lost.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        let told = self.status.wait_for(Option::is_some).await.map(|status| *status);
        match told {
            Ok(Some(Status::Ended(status))) => Ok(status),
            _ => Err(Error::other(
                "the child's exit status is lost: somebody else has waited for it",
            )),
        }
    }

    /// Closes its input, waits for its end and gives what it writes, within the limits of [`ChildProcesses::output`].
    ///
    /// # Errors
    /// As [`wait`](Self::wait), or its output can't be read.
    ///
    /// # Cancel safety
    /// When dropped, the child is ended.
    pub async fn output(mut self) -> io::Result<ChildOutput> {
        drop(self.take_stdin());
        let (stdout, stderr) = (self.take_stdout()?, self.take_stderr()?);
        let (stdout, stderr) = tokio::try_join!(read(stdout), read(stderr))?;
        let status = self.wait().await?;
        Ok(ChildOutput { status, stdout, stderr })
    }

    /// Begins to end the whole group, by SIGTERM and, 1 s later, by SIGKILL; returns at once.
    pub fn end(&self) {
        self.registry.end(self.group);
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        self.registry.end(self.group);
    }
}

fn receiver(pipe: OwnedFd) -> io::Result<pipe::Receiver> {
    pipe::Receiver::from_owned_fd(pipe)
}

async fn read(stream: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut read = Vec::new();
    if let Some(stream) = stream {
        stream.take(OUTPUT_BYTES).read_to_end(&mut read).await?;
    }
    Ok(read)
}

/// The services of one instance: its own [`ChildProcesses`] before all others. Made small, because each instance has one.
pub(crate) struct InstanceServices {
    pub(crate) others: Arc<dyn ServiceSource>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) host: Weak<dyn Host>,
}

#[async_trait]
impl ServiceSource for InstanceServices {
    async fn resolve(&self, key: &ServiceKey, path: &[ServiceKey]) -> Result<ErasedService, ServiceError> {
        let host = self.host.upgrade();
        if *key != ServiceKey::of::<ChildProcesses>() {
            if let Some(host) = host {
                host.asked_for(key);
            }
            return self.others.resolve(key, path).await;
        }
        let Some(host) = host else {
            return Err(ServiceError::Failed {
                key: key.clone(),
                source: "the instance of the worker that asks for it has ended".into(),
            });
        };
        let registry = Arc::clone(&self.registry);
        let own = ChildProcesses::new(registry, host.owner(), Some(Weak::clone(&self.host)));
        Ok(Arc::new(Arc::new(own)))
    }
}

#[cfg(test)]
mod tests;
