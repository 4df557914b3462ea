//! Telling the service manager how the process is: the protocol of sd_notify(3), datagrams of `NAME=value` lines to the
//! socket that `NOTIFY_SOCKET` names. What live and healthy mean is decided by those who are asked here.
//!
//! The watchdog is fed from a thread of its own, and only while liveness says yes: when every executor thread is blocked,
//! it starves once `platform.health.stall_limit` is over, and the service manager starts the process anew.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tracing::{info, warn};

use crate::TARGET;

/// How long a full socket is waited for. The service manager reads it all the time.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// How often the status line is looked at where no watchdog asks for more.
const LOOK: Duration = Duration::from_secs(5);

/// What the service manager asks for by the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NotifyEnvironment {
    /// `NOTIFY_SOCKET`: a path, or `@` and a name without a file.
    pub socket: Option<OsString>,
    /// `WATCHDOG_USEC`, where `WATCHDOG_PID` is this process or missing: how long the watchdog may go unfed.
    pub watchdog: Option<Duration>,
}

impl NotifyEnvironment {
    /// That of this process. Child processes inherit the variables; they are not of this platform, and systemd's
    /// `NotifyAccess=main` leaves them unheard.
    pub fn of_process() -> Self {
        let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|span| ours && *span > 0);
        Self {
            socket: std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()),
            watchdog: watchdog.map(Duration::from_micros),
        }
    }
}

/// The service manager, or nobody. Cheap to clone. A message that can't be sent is told on the log, once, and never
/// keeps the process from its work.
#[derive(Clone, Default)]
pub struct ServiceManager {
    line: Option<Arc<Line>>,
}

struct Line {
    socket: UnixDatagram,
    address: SocketAddr,
    watchdog: Option<Duration>,
    told: std::sync::atomic::AtomicBool,
    /// Dropped with the last handle, which ends the thread.
    end: Mutex<Option<SyncSender<()>>>,
}

impl ServiceManager {
    /// Reaches the service manager, if there is one.
    ///
    /// # Errors
    /// The socket's address can't be used.
    pub fn reach(environment: &NotifyEnvironment) -> std::io::Result<Self> {
        let Some(name) = &environment.socket else {
            return Ok(Self::default());
        };
        let address = match name.as_bytes() {
            [b'@', name @ ..] => without_a_file(name)?,
            [b'/', ..] => SocketAddr::from_pathname(Path::new(name))?,
            _ => {
                let message = "NOTIFY_SOCKET is neither a path that begins with / nor a name that begins with @";
                return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, message));
            }
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(SEND_TIMEOUT))?;
        let line = Line {
            socket,
            address,
            watchdog: environment.watchdog,
            told: false.into(),
            end: Mutex::new(None),
        };
        Ok(Self {
            line: Some(Arc::new(line)),
        })
    }

    /// From now on feeds the watchdog at half its interval while `live` says so, and tells what `status` says whenever
    /// that is something else than before.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn watch(
        &self,
        live: impl Fn() -> bool + Send + 'static,
        status: impl Fn() -> String + Send + 'static,
    ) -> std::io::Result<()> {
        let Some(line) = &self.line else { return Ok(()) };
        let (end, ended) = sync_channel(0);
        *line.end.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
        // The thread must not keep alive what its end waits for.
        let weak = Arc::downgrade(line);
        let half = line.watchdog.map(|span| span / 2);
        let thread = std::thread::Builder::new().name("notify".into());
        let tell = move |message: &str| weak.upgrade().map(|line| line.send(message));
        thread.spawn(move || tend(half, &ended, &live, &status, &tell))?;
        if let Some(span) = line.watchdog {
            info!(target: TARGET, "the service manager's watchdog is fed every {:.1?}, while the process is live", span / 2);
        }
        Ok(())
    }

    /// The process is ready, after its start or a reload.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// The configuration is being read again; [`ready`](Self::ready) follows.
    pub fn reloading(&self) {
        // The service manager tells by this time whether the READY=1 that follows belongs to its own request.
        let now = clock_gettime(ClockId::Monotonic);
        let microseconds = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
    }

    /// The process stops.
    pub fn stopping(&self, cause: &str) {
        self.send(&format!("STOPPING=1\nSTATUS=stopping ({})", one_line(cause)));
    }

    fn send(&self, message: &str) {
        if let Some(line) = &self.line {
            line.send(message);
        }
    }
}

/// The address of an abstract socket, which only Linux has.
#[cfg(target_os = "linux")]
fn without_a_file(name: &[u8]) -> std::io::Result<SocketAddr> {
    <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn without_a_file(_: &[u8]) -> std::io::Result<SocketAddr> {
    Err(std::io::ErrorKind::Unsupported.into())
}

impl Line {
    fn send(&self, message: &str) {
        use std::sync::atomic::Ordering;
        if let Err(error) = self.socket.send_to_addr(message.as_bytes(), &self.address)
            && !self.told.swap(true, Ordering::Relaxed)
        {
            warn!(target: TARGET, %error, "the service manager can't be told how the process is");
        }
    }
}

/// Feeds and tells until the other side of `ended` is dropped.
fn tend(
    half: Option<Duration>,
    ended: &Receiver<()>,
    live: &dyn Fn() -> bool,
    status: &dyn Fn() -> String,
    tell: &dyn Fn(&str) -> Option<()>,
) {
    let pause = half.map_or(LOOK, |half| half.min(LOOK)).max(Duration::from_millis(1));
    let mut told = String::new();
    let mut since_look = LOOK;
    loop {
        // A pause is never longer than half the interval, so each may feed.
        if half.is_some() && live() && tell("WATCHDOG=1").is_none() {
            return;
        }
        // Sentences that count seconds are new at every look.
        if since_look >= LOOK {
            since_look = Duration::ZERO;
            let now = one_line(&status());
            if now != told && tell(&format!("STATUS={now}")).is_none() {
                return;
            }
            told = now;
        }
        if ended.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        since_look += pause;
    }
}

/// A line break would begin another field.
fn one_line(text: &str) -> String {
    text.replace(|char: char| char.is_control(), " ")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// A service manager's end of the socket, with and without a file.
    fn listeners() -> Vec<(UnixDatagram, OsString)> {
        let unique = format!("plba-notify-{}-{:x}", std::process::id(), fastrand::u64(..));
        let path = std::env::temp_dir().join(&unique);
        let file = UnixDatagram::bind(&path).unwrap();
        let name = without_a_file(unique.as_bytes()).unwrap();
        let nameless = UnixDatagram::bind_addr(&name).unwrap();
        let listeners = vec![(file, path.into_os_string()), (nameless, format!("@{unique}").into())];
        for (listener, _) in &listeners {
            listener.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        }
        listeners
    }

    fn heard(listener: &UnixDatagram) -> String {
        let mut message = [0; 1024];
        let length = listener.recv(&mut message).unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    }

    fn reach(socket: &OsString, watchdog: Option<Duration>) -> ServiceManager {
        let socket = Some(socket.clone());
        ServiceManager::reach(&NotifyEnvironment { socket, watchdog }).unwrap()
    }

    #[test]
    fn each_step_is_one_datagram() {
        for (listener, socket) in listeners() {
            let manager = reach(&socket, None);
            manager.ready();
            assert_eq!(heard(&listener), "READY=1");
            manager.reloading();
            let reloading = heard(&listener);
            let (first, second) = reloading.split_once('\n').unwrap();
            let time = second.strip_prefix("MONOTONIC_USEC=").unwrap().parse::<u64>();
            assert!(first == "RELOADING=1" && time.is_ok_and(|time| time > 0), "{reloading}");
            manager.stopping("SIGTERM\nREADY=1");
            assert_eq!(heard(&listener), "STOPPING=1\nSTATUS=stopping (SIGTERM READY=1)");
            let _ = std::fs::remove_file(socket);
        }
    }

    #[test]
    fn the_watchdog_starves_while_the_process_is_not_live() {
        let (listener, socket) = listeners().remove(0);
        let manager = reach(&socket, Some(Duration::from_millis(20)));
        let live = Arc::new(AtomicBool::new(false));
        let (looked, looks) = std::sync::mpsc::channel();
        let is_live = Arc::clone(&live);
        let look = move || {
            let _ = looked.send(());
            is_live.load(Ordering::SeqCst)
        };
        manager.watch(look, || "well".into()).unwrap();
        assert_eq!(heard(&listener), "STATUS=well");
        for _ in 0..5 {
            looks.recv().unwrap();
        }
        listener.set_nonblocking(true).unwrap();
        assert!(listener.recv(&mut [0; 16]).is_err(), "fed though not live");
        listener.set_nonblocking(false).unwrap();
        live.store(true, Ordering::SeqCst);
        assert_eq!(heard(&listener), "WATCHDOG=1");
        std::fs::remove_file(socket).unwrap();
    }

    #[test]
    fn without_a_service_manager_nothing_is_told_and_a_lost_one_is_no_failure() {
        let nobody = ServiceManager::reach(&NotifyEnvironment::default()).unwrap();
        nobody.ready();
        nobody.watch(|| true, String::new).unwrap();
        let gone = std::env::temp_dir().join("plba-notify-nobody-listens");
        reach(&gone.into_os_string(), None).ready();
        let socket = Some("vsock:2:1234".into());
        assert!(ServiceManager::reach(&NotifyEnvironment { socket, watchdog: None }).is_err());
    }
}
