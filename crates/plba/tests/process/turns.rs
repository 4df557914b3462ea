//! A singleton in real processes that share an SQLite file: one is killed, one is paused, one is stopped, and at no time do
//! two write.

use std::path::Path;
use std::time::{Duration, Instant};

use plba::sql::rusqlite::{Connection, TransactionBehavior};
use rustix::process::Signal;

use crate::application::{Application, Home, example};

/// As the example has it.
const TTL: Duration = Duration::from_secs(2);

fn start(home: &Home, state: &str) -> Application {
    home.start(&["--set", &format!("platform.state_dir={state}")])
}

fn took_over(app: &Application) -> usize {
    app.log().matches("took over lease").count()
}

/// Waits until this process has taken over once more than before; gives how long that took.
fn wait_for_turn(app: &mut Application, before: usize) -> Duration {
    let began = Instant::now();
    app.wait("its turn", |app| (took_over(app) > before).then_some(()));
    began.elapsed()
}

/// The tokens of all that was written, in order.
fn tokens(path: &Path) -> Vec<i64> {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(5)).unwrap();
    // The table comes with the first write.
    let Ok(mut read) = connection.prepare("SELECT token FROM turns ORDER BY rowid") else {
        return Vec::new();
    };
    let rows = read.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

fn wait_for_writes(app: &mut Application, path: &Path, token: i64) {
    app.wait("writes", |_| tokens(path).contains(&token).then_some(()));
}

/// Pauses a process, but not in the middle of a write: it would keep the file locked, and nobody could take over.
fn pause_between_writes(app: &Application, path: &Path) {
    let mut connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_millis(200)).unwrap();
    loop {
        app.signal(Signal::STOP);
        if connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .is_ok()
        {
            return;
        }
        app.signal(Signal::CONT);
    }
}

#[test]
fn one_process_acts_and_the_next_takes_over_when_it_is_killed_paused_or_stopped() {
    let home = example("turns", "turns", &[]);
    let database = home.join("turns.db");
    let mut first = start(&home, "a");
    wait_for_turn(&mut first, 0);
    wait_for_writes(&mut first, &database, 1);
    let mut second = start(&home, "b");
    second.wait_for_line("ready");

    first.signal(Signal::KILL);
    let took = wait_for_turn(&mut second, 0);
    assert!(took <= TTL + Duration::from_secs(5), "{took:?} after the kill");
    wait_for_writes(&mut second, &database, 2);

    let mut third = start(&home, "c");
    third.wait_for_line("ready");
    pause_between_writes(&second, &database);
    let took = wait_for_turn(&mut third, 0);
    assert!(took <= TTL + Duration::from_secs(5), "{took:?} after the pause");
    wait_for_writes(&mut third, &database, 3);
    second.signal(Signal::CONT);
    second.wait_for_line("lost lease");

    assert_eq!(third.stop(), Some(0), "{}", third.log());
    let took = wait_for_turn(&mut second, 1);
    assert!(took <= TTL, "{took:?} after the stop");
    wait_for_writes(&mut second, &database, 4);
    assert_eq!(second.stop(), Some(0), "{}", second.log());

    let written = tokens(&database);
    assert!(
        written.is_sorted(),
        "an older holder wrote after a newer one: {written:?}"
    );
}
