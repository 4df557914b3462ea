//! The service manager's side of a process: what it is told, and that its watchdog starves when nothing moves any more.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::application::{Home, PATIENCE, drop_work, example};

/// The service manager's end of the socket.
struct Listener(UnixDatagram);

impl Listener {
    fn bind(home: &Home) -> (Self, String) {
        let path = home.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        (Self(socket), path.to_str().unwrap().to_owned())
    }

    fn hear(&self) -> String {
        let mut message = [0; 4096];
        let length = self.0.recv(&mut message).unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    }

    /// What is heard up to the first message that begins so, that one included.
    fn hear_until(&self, begins: &str) -> Vec<String> {
        let mut heard = Vec::new();
        loop {
            heard.push(self.hear());
            if heard.last().is_some_and(|last| last.starts_with(begins)) {
                return heard;
            }
        }
    }
}

#[test]
fn it_is_told_of_readiness_reloads_and_the_stop_and_its_watchdog_is_fed() {
    let home = example("pulse", "notify", &[]);
    let (listener, socket) = Listener::bind(&home);
    let watchdog = Duration::from_secs(1).as_micros().to_string();
    let mut app = home.start_in(&[], &[("NOTIFY_SOCKET", &socket), ("WATCHDOG_USEC", &watchdog)]);
    listener.hear_until("READY=1");
    listener.hear_until("WATCHDOG=1");
    listener.hear_until("STATUS=ready, all well");
    app.signal(Signal::HUP);
    let reload = listener.hear_until("RELOADING=1").pop().unwrap();
    assert!(reload.contains("\nMONOTONIC_USEC="), "{reload}");
    let after = listener.hear_until("READY=1");
    assert!(
        after.iter().all(|message| !message.starts_with("STOPPING")),
        "{after:?}"
    );
    listener.hear_until("WATCHDOG=1");
    app.signal(Signal::TERM);
    let stopping = listener.hear_until("STOPPING=1").pop().unwrap();
    assert_eq!(stopping, "STOPPING=1\nSTATUS=stopping (SIGTERM)");
    assert_eq!(app.end().code(), Some(0), "{}", app.log());
}

#[test]
fn its_watchdog_starves_when_every_thread_of_the_workers_is_blocked() {
    let home = example(
        "faults",
        "starves",
        &[
            "platform.health.stall_limit=1s",
            "faults.workers=256",
            "platform.stop_budget=1s",
        ],
    );
    let names: Vec<String> = (0..256).map(|number| format!("blocks.{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (listener, socket) = Listener::bind(&home);
    let mut app = home.start_in(&[], &[("NOTIFY_SOCKET", &socket), ("WATCHDOG_USEC", "200000")]);
    listener.hear_until("WATCHDOG=1");
    drop_work(&home, &names);
    app.wait("not live", |app| (app.probe("/livez") == Some(503)).then_some(()));
    // Fed on time, it is never silent for ten times the watchdog's interval.
    let silence = Duration::from_secs(2);
    let (limit, mut fed) = (Instant::now() + PATIENCE, Instant::now());
    let mut message = [0; 4096];
    while let Some(left) = silence.checked_sub(fed.elapsed()).filter(|left| !left.is_zero()) {
        listener.0.set_read_timeout(Some(left)).unwrap();
        match listener.0.recv(&mut message) {
            Ok(length) if &message[..length] == b"WATCHDOG=1" => fed = Instant::now(),
            _ => {}
        }
        assert!(Instant::now() < limit, "it is fed though nothing moves");
    }
    assert_eq!(app.probe("/livez"), Some(503), "the control plane answers meanwhile");
    app.signal(Signal::KILL);
    app.end();
}
