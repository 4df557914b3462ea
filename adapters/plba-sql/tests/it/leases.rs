//! Leases in SQLite against the suite for leases, and the fence against a stale holder.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use plba_contracts::lease::{FencingToken, Lease};
use plba_sql::rusqlite::{Connection, TransactionBehavior};
use plba_sql::{FenceError, OpenError, SqliteLease, check_fence};
use plba_testkit::clock::ManualClock;
use plba_testkit::conformance::lease::{LeaseUnderTest, Opening};
use plba_testkit::conformance::{Time, lease};
use plba_testkit::directory::Directory;
use plba_testkit::runtime;

const TTL: Duration = Duration::from_secs(30);

fn open(path: &Path, clock: &Arc<ManualClock>) -> SqliteLease {
    SqliteLease::open(path, Arc::clone(clock) as _).unwrap()
}

async fn under_test() -> LeaseUnderTest {
    let (directory, clock) = (Directory::new(), Arc::new(ManualClock::new()));
    let (path, at) = (directory.path().join("leases.db"), Arc::clone(&clock));
    let opening = move || {
        let store: Arc<dyn Lease> = Arc::new(open(&path, &at));
        Box::pin(async { store }) as Opening
    };
    LeaseUnderTest {
        clock,
        open: Box::new(opening),
        keep: Box::new(directory),
    }
}

#[test]
fn leases_in_sqlite_keep_the_promises_of_leases() {
    lease::lease(Time::Real, under_test);
}

/// A database with a table of writes, and who writes there.
struct Place {
    _directory: Directory,
    path: PathBuf,
    clock: Arc<ManualClock>,
}

impl Place {
    fn new() -> Self {
        let directory = Directory::new();
        let path = directory.path().join("data.db");
        let place = Self {
            _directory: directory,
            path,
            clock: Arc::new(ManualClock::new()),
        };
        place
            .connect()
            .execute_batch("CREATE TABLE writes (token INTEGER)")
            .unwrap();
        place
    }

    fn connect(&self) -> Connection {
        let connection = Connection::open(&self.path).unwrap();
        connection.busy_timeout(Duration::ZERO).unwrap();
        connection
    }

    /// Writes under a token, if the fence lets it.
    fn write(&self, token: FencingToken) -> Result<(), FenceError> {
        let mut connection = self.connect();
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .unwrap();
        check_fence(&transaction, "invoices", token)?;
        transaction
            .execute("INSERT INTO writes VALUES (?1)", [token.0 as i64])
            .unwrap();
        transaction.commit().unwrap();
        Ok(())
    }

    fn written(&self) -> Vec<i64> {
        let connection = self.connect();
        let mut read = connection.prepare("SELECT token FROM writes ORDER BY rowid").unwrap();
        let rows = read.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }
}

async fn take(store: &SqliteLease) -> FencingToken {
    store.acquire("invoices", "a", TTL).await.unwrap().unwrap().token
}

#[test]
fn a_stale_holders_write_is_refused_and_leaves_nothing() {
    let place = Place::new();
    let store = open(&place.path, &place.clock);
    runtime::real(async {
        assert!(matches!(place.write(FencingToken(1)), Err(FenceError::Unknown { .. })));
        let first = take(&store).await;
        place.write(first).unwrap();
        place.clock.advance(TTL);
        place.write(first).unwrap(); // past its deadline, but nobody has taken over
        let second = take(&store).await;
        let refused = place.write(first).unwrap_err();
        assert!(
            matches!(refused, FenceError::Stale { newest, .. } if newest == second),
            "{refused}"
        );
        place.write(second).unwrap();
        store.release("invoices", second).await.unwrap();
        assert!(matches!(place.write(second), Err(FenceError::Stale { .. })));
        assert!(matches!(
            place.write(FencingToken(u64::MAX)),
            Err(FenceError::Stale { .. })
        ));
    });
    assert_eq!(place.written(), [1, 1, 2]);
}

#[test]
fn a_take_over_between_the_check_and_the_write_fails_the_write() {
    let place = Place::new();
    let store = open(&place.path, &place.clock);
    runtime::real(async {
        let first = take(&store).await;
        let mut connection = place.connect();
        let transaction = connection.transaction().unwrap();
        check_fence(&transaction, "invoices", first).unwrap();
        place.clock.advance(TTL);
        take(&store).await;
        let write = transaction.execute("INSERT INTO writes VALUES (1)", []);
        assert!(write.is_err(), "{write:?}");
    });
    assert_eq!(place.written(), [0_i64; 0]);
}

#[test]
fn a_database_of_a_newer_program_is_left_alone() {
    let place = Place::new();
    drop(open(&place.path, &place.clock));
    place
        .connect()
        .execute_batch("UPDATE plba_schema SET version = 7")
        .unwrap();
    let refused = SqliteLease::open(&place.path, Arc::clone(&place.clock) as _)
        .err()
        .unwrap();
    assert!(
        matches!(refused, OpenError::Newer { found: 7, known: 1, .. }),
        "{refused}"
    );
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let refused = SqliteLease::open(Path::new("/nonexistent/leases.db"), Arc::new(ManualClock::new()));
    let text = refused.err().unwrap().to_string();
    assert!(
        text.contains("/nonexistent/leases.db") && text.contains("writable"),
        "{text}"
    );
}

#[test]
fn a_locked_database_is_an_error_that_may_pass() {
    let place = Place::new();
    let store = open(&place.path, &place.clock);
    runtime::real(async {
        let mut connection = place.connect();
        let locked = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .unwrap();
        let asked = store.acquire("invoices", "a", TTL).await;
        assert!(
            matches!(asked, Err(plba_contracts::lease::LeaseError::Unavailable { .. })),
            "{asked:?}"
        );
        drop(locked);
        take(&store).await;
    });
}
