//! What both sides do with a message: it is parsed, and a row of it stored in an SQLite file, on the disk before it counts.

use std::sync::Mutex;

use mail_parser::MessageParser;
use rusqlite::Connection;
use tempfile::TempDir;

use crate::Result;

/// An SQLite file of orders.
pub(crate) struct Store {
    connection: Mutex<Connection>,
    _directory: TempDir,
}

impl Store {
    pub(crate) fn open() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let connection = Connection::open(directory.path().join("orders.db"))?;
        connection.execute_batch(
            "PRAGMA journal_mode = wal; PRAGMA synchronous = full;
             CREATE TABLE orders (id INTEGER PRIMARY KEY, message_id TEXT, sender TEXT, subject TEXT, body TEXT);",
        )?;
        Ok(Self {
            connection: Mutex::new(connection),
            _directory: directory,
        })
    }

    /// Parses messages and stores them, in one transaction.
    pub(crate) fn keep<'m>(&self, messages: impl IntoIterator<Item = &'m [u8]>) -> Result<()> {
        let mut connection = self.connection.lock().map_err(|_| "a panic while storing")?;
        let transaction = connection.transaction()?;
        {
            let mut insert = transaction
                .prepare_cached("INSERT INTO orders (message_id, sender, subject, body) VALUES (?1, ?2, ?3, ?4)")?;
            for raw in messages {
                let message = MessageParser::default().parse(raw).ok_or("no message")?;
                let sender = message
                    .from()
                    .and_then(|from| from.first())
                    .and_then(|from| from.address());
                insert.execute((message.message_id(), sender, message.subject(), message.body_text(0)))?;
            }
        }
        Ok(transaction.commit()?)
    }
}
