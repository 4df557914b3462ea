//! The tables, in parts that each have a version: leases, tasks, the ledger of sources, configuration. They may lie in an application's
//! own database, so versions are kept in a table beside them and not in `PRAGMA user_version`, which is the application's.
//!
//! All times of tasks and the ledger are microseconds since 1970, those of leases milliseconds. A *tick* is a number from
//! one counter of the database that only grows: it tells tasks apart for good, and says which of two came first.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

/// Tables that are brought up to date together.
#[derive(Clone, Copy)]
pub(super) struct Part {
    name: &'static str,
    /// What takes the tables from each version to the next; never changed once released.
    migrations: &'static [&'static str],
}

pub(super) const LEASES: Part = Part {
    name: "leases",
    migrations: &["
    CREATE TABLE plba_leases (
        name TEXT PRIMARY KEY,
        token INTEGER NOT NULL,     -- of the newest grant; never goes back, so the row stays for good
        holder TEXT,                -- NULL once released
        since INTEGER NOT NULL,     -- milliseconds since 1970, as all times here
        renewed INTEGER NOT NULL,
        deadline INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
"],
};

/// One row is one task in one state, and a move is one update of its row, so that a task is never in two states, nor in
/// none. Rows of one state lie together in `plba_tasks_state`: what is dead costs the living nothing.
pub(super) const TASKS: Part = Part {
    name: "tasks",
    migrations: &["
    CREATE TABLE plba_tick (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        next INTEGER NOT NULL
    ) STRICT;
    INSERT INTO plba_tick (only, next) VALUES (1, 1);

    CREATE TABLE plba_queues (
        number INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        paused INTEGER NOT NULL DEFAULT 0,      -- until when nothing is handed out
        next_token INTEGER NOT NULL DEFAULT 0,  -- of the rate: when the bucket is full again
        ready INTEGER NOT NULL DEFAULT 0,       -- how many tasks are in each state
        delayed INTEGER NOT NULL DEFAULT 0,
        held INTEGER NOT NULL DEFAULT 0,
        leased INTEGER NOT NULL DEFAULT 0,
        dead INTEGER NOT NULL DEFAULT 0,
        bytes INTEGER NOT NULL DEFAULT 0        -- of all but the dead
    ) STRICT;

    CREATE TABLE plba_tasks (
        seq INTEGER PRIMARY KEY,                -- the tick of its publication
        queue INTEGER NOT NULL,
        state INTEGER NOT NULL,                 -- 0 ready, 1 ready but suspect, 2 delayed, 3 held, 4 leased, 5 leased alone, 6 dead
        rank INTEGER NOT NULL,                  -- the order within the state: place, due time, deadline, tick of the death
        place INTEGER NOT NULL,                 -- the tick at which it last became ready
        since INTEGER NOT NULL,                 -- when it came into its state; of a held one, when it may be ready
        grants INTEGER NOT NULL,                -- how often it was leased, which makes each delivery's fence another one
        holder INTEGER NOT NULL,                -- who has it in hand
        priority INTEGER NOT NULL,
        deliveries INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        crashes INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        ordered INTEGER NOT NULL,
        expires INTEGER,
        key TEXT,
        unique_key TEXT,
        entry INTEGER,                          -- its row in the ledger of sources
        reason TEXT,                            -- why it died
        id TEXT NOT NULL,
        envelope BLOB NOT NULL,                 -- all the rest, as JSON
        payload BLOB                            -- NULL for a large one, which lies in plba_payloads: moves rewrite this row
    ) STRICT;
    CREATE UNIQUE INDEX plba_tasks_id ON plba_tasks (queue, id);
    CREATE INDEX plba_tasks_state ON plba_tasks (queue, state, rank);
    CREATE INDEX plba_tasks_key ON plba_tasks (queue, key, ordered, state, rank) WHERE key IS NOT NULL;
    CREATE INDEX plba_tasks_expiry ON plba_tasks (queue, expires) WHERE expires IS NOT NULL AND state < 4;

    CREATE TABLE plba_payloads (
        seq INTEGER PRIMARY KEY,
        payload BLOB NOT NULL
    ) STRICT;

    CREATE TABLE plba_uniques (
        queue INTEGER NOT NULL,
        key TEXT NOT NULL,
        seq INTEGER NOT NULL,                   -- the task that has the key, or had it
        id TEXT NOT NULL,
        until INTEGER,                          -- NULL: until that task is done or dead
        PRIMARY KEY (queue, key)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX plba_uniques_until ON plba_uniques (until) WHERE until IS NOT NULL;

    CREATE TABLE plba_key_rates (
        queue INTEGER NOT NULL,
        key TEXT NOT NULL,
        next_token INTEGER NOT NULL,
        PRIMARY KEY (queue, key)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX plba_key_rates_next ON plba_key_rates (next_token);

    CREATE TABLE plba_consumers (
        number INTEGER PRIMARY KEY AUTOINCREMENT, -- never given again: two may find the same holder gone
        name TEXT NOT NULL UNIQUE,              -- worker (host:pid:epoch)
        presence TEXT                           -- by which others on the machine can tell that the process is gone
    ) STRICT;
"],
};

pub(super) const LEDGER: Part = Part {
    name: "ledger",
    migrations: &["
    CREATE TABLE plba_sources (
        number INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        settled INTEGER NOT NULL DEFAULT 0,     -- how many of its entries are settled
        cursor TEXT
    ) STRICT;

    CREATE TABLE plba_ledger (
        entry INTEGER PRIMARY KEY,
        source INTEGER NOT NULL,
        key TEXT NOT NULL,
        state INTEGER NOT NULL,                 -- 0 open, 1 done, 2 settled, 3 dead
        place INTEGER NOT NULL,                 -- the tick at which it came into its state
        deliveries INTEGER NOT NULL DEFAULT 0,
        attempts INTEGER NOT NULL DEFAULT 0,
        crashes INTEGER NOT NULL DEFAULT 0,
        in_hand INTEGER NOT NULL DEFAULT 0,
        published INTEGER NOT NULL DEFAULT 0,   -- by which opening of the ledger
        tasked INTEGER NOT NULL DEFAULT 0,      -- whether a queue of this database has its task
        queue TEXT,
        kind TEXT,
        history TEXT                            -- JSON
    ) STRICT;
    CREATE UNIQUE INDEX plba_ledger_key ON plba_ledger (source, key);
    CREATE INDEX plba_ledger_state ON plba_ledger (source, state, place);
    CREATE INDEX plba_ledger_pending ON plba_ledger (source, place) WHERE state = 0 AND tasked = 0;
    CREATE INDEX plba_ledger_dead ON plba_ledger (place) WHERE state = 3;
    CREATE INDEX plba_ledger_hand ON plba_ledger (entry) WHERE in_hand = 1;
    CREATE INDEX plba_ledger_buried ON plba_ledger (queue, place) WHERE state = 3 AND tasked = 0;
"],
};

/// Configuration: a row is a value. People write it with plain SQL.
pub(super) const CONFIG: Part = Part {
    name: "config",
    migrations: &["
    CREATE TABLE plba_config (
        key TEXT PRIMARY KEY CHECK (length(CAST(key AS BLOB)) BETWEEN 1 AND 500), -- dotted, as in a file
        value TEXT NOT NULL CHECK (json_valid(value)),
        changed_by TEXT,
        changed_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now')),
        note TEXT                               -- what for
    ) STRICT, WITHOUT ROWID;
    CREATE TRIGGER plba_config_stamp AFTER UPDATE OF key, value, changed_by, note ON plba_config
    WHEN NEW.changed_at IS OLD.changed_at
    BEGIN
        UPDATE plba_config SET changed_at = strftime('%Y-%m-%dT%H:%M:%SZ', 'now') WHERE key = NEW.key;
    END;
"],
};

/// Why the tables could not be brought up to date.
pub(super) enum MigrateError {
    /// A newer program has been here.
    Newer { found: i64, known: i64 },
    /// The database failed.
    Database(rusqlite::Error),
}

impl From<rusqlite::Error> for MigrateError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

/// Brings a part up to date, in one transaction.
pub(super) fn migrate(connection: &mut Connection, part: Part) -> Result<(), MigrateError> {
    let known = part.migrations.len() as i64;
    // Immediate: two processes that open a new database at once take turns.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(
        "CREATE TABLE IF NOT EXISTS plba_schema (part TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    )?;
    let found = version(&transaction, part)?;
    if found > known {
        return Err(MigrateError::Newer { found, known });
    }
    for migration in part.migrations.iter().skip(usize::try_from(found).unwrap_or(0)) {
        transaction.execute_batch(migration)?;
    }
    if found < known {
        transaction.execute(
            "INSERT INTO plba_schema (part, version) VALUES (?1, ?2)
             ON CONFLICT (part) DO UPDATE SET version = excluded.version",
            (part.name, known),
        )?;
    }
    transaction.commit()?;
    Ok(())
}

/// What there is of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing.
    Missing,
    /// The tables of an older program.
    Older,
    /// All.
    Current,
}

/// What there is of a part in a file in which there may be nothing of plba's at all. Only reads.
pub(super) fn state(connection: &Connection, part: Part) -> Result<State, MigrateError> {
    let known = part.migrations.len() as i64;
    let found = if connection.table_exists(None, "plba_schema")? {
        version(connection, part)?
    } else {
        0
    };
    match found {
        0 => Ok(State::Missing),
        found if found < known => Ok(State::Older),
        found if found > known => Err(MigrateError::Newer { found, known }),
        _ => Ok(State::Current),
    }
}

/// Whether a part is in a database that has at least one of them.
pub(super) fn has(connection: &Connection, part: Part) -> Result<bool, rusqlite::Error> {
    Ok(version(connection, part)? > 0)
}

fn version(connection: &Connection, part: Part) -> Result<i64, rusqlite::Error> {
    let sql = "SELECT version FROM plba_schema WHERE part = ?1";
    let found = connection.query_row(sql, [part.name], |row| row.get(0)).optional()?;
    Ok(found.unwrap_or(0))
}
