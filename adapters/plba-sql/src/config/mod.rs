//! Configuration in a database: what SQLite and PostgreSQL have in common. A row is a value; what a row may look like, and
//! when there is news, lives here. How each database is read and watched lives beside what else is kept there.
//!
//! # The table
//!
//! `platform.config.database` names it: `sqlite:var/config.db` or `postgres://USER:PASSWORD@HOST/DATABASE`. Its name is
//! `plba_config` in SQLite and `plba.config` in PostgreSQL (`?schema=` puts it elsewhere). Whoever reads the configuration with
//! `?create=on` in the location makes it, empty, if it is missing: do that once, such as by `check --set
//! 'platform.config.database="sqlite:var/config.db?create=on"'`. Without, a table that is missing is an error.
//!
//! | column | type | |
//! |---|---|---|
//! | `key` | text, the primary key | the key as a file and `--set` have it: `mail_order_bot.workers`; parts with other characters than letters, digits, `_` and `-` stand in quotes: `prices."blue hats"`. At most 500 bytes and 32 parts |
//! | `value` | JSON (`jsonb`; in SQLite text that is checked) | what the key is to be; `"…"` round a text. A table may be one row, or a row for each of its keys; where both say something, the row with the longer key does |
//! | `changed_by` | text | who wrote it. PostgreSQL fills it in with the user of the session, unless somebody else is named; SQLite knows no users |
//! | `changed_at` | time | when; kept by the database |
//! | `note` | text | what for; nobody reads it but people |
//!
//! `changed_by`, `changed_at` and `note` are shown with the value wherever its origin is told.
//!
//! ```sql
//! -- PostgreSQL
//! INSERT INTO plba.config (key, value, note) VALUES ('mail_order_bot.workers', '8', 'the autumn sale')
//!     ON CONFLICT (key) DO UPDATE SET value = excluded.value, note = excluded.note;
//! UPDATE plba.config SET value = '"30s"' WHERE key = 'mail_order_bot.poll';
//! DELETE FROM plba.config WHERE key = 'mail_order_bot.workers';
//! -- SQLite
//! INSERT INTO plba_config (key, value, changed_by, note) VALUES ('mail_order_bot.workers', 8, 'alice', 'the autumn sale')
//!     ON CONFLICT (key) DO UPDATE SET value = excluded.value, changed_by = excluded.changed_by, note = excluded.note;
//! ```
//!
//! What is written in one transaction is read as one: write all that belongs together between `BEGIN` and `COMMIT`.
//!
//! # When it is read
//!
//! At start, when a reload is asked for, and when its rows have changed: PostgreSQL tells by `NOTIFY`, and is looked at each
//! 30 s besides, or each `poll` milliseconds (default: 5,000) where it can't tell, as a standby or behind a pooler
//! (`?listen=off`). SQLite is looked at each `poll` milliseconds (default: 1,000). A database that is away is tried again with
//! a growing pause (30 s at most), for as long as it takes; meanwhile the process goes on with what was read last. A table
//! that is gone is an error, and not an empty one; a process that has read it does not make it again, whatever its location says.
//!
//! # Who may read
//!
//! Once the table is there, the process need not be able to write. In PostgreSQL, with the role that owns the table:
//!
//! ```sql
//! GRANT USAGE ON SCHEMA plba TO bot;
//! GRANT SELECT ON plba.config, plba.config_schema TO bot;
//! ```
//!
//! A standby will do as well; of several hosts the first one that takes writes is read, else the first one that answers. In
//! SQLite the right to read the file is enough, as long as the file is in a journal mode other than WAL, which a new one is.
//! Who may write the table may change whatever the configuration says: give that right away as you would a file's.

mod key;
mod layer;
mod news;
mod watch;

use std::time::Duration;

pub(crate) use layer::Row;
pub(crate) use news::News;
pub(crate) use watch::{Eye, Watcher};

/// How many rows a table of configuration may have.
pub const MAXIMUM_ROWS: usize = 10_000;

/// How many bytes one value may take, as JSON text.
pub const MAXIMUM_VALUE: usize = 1 << 20;

/// How many bytes all keys and values may take.
pub const MAXIMUM_BYTES: usize = 4 << 20;

/// How many bytes a key may take.
pub const MAXIMUM_KEY: usize = 500;

/// What a parameter of a location says that is `on` or `off`.
pub(crate) fn on_or_off(value: &str) -> Result<bool, String> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("create is on or off, not \"{value}\"")),
    }
}

/// How long reading may take in all: less than whoever asks waits for it, so that its error is told.
pub(crate) const LIMIT: Duration = Duration::from_secs(8);

/// How many characters of a note, and of a name, are shown.
pub(crate) const SHOWN: usize = 200;
