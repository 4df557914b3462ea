//! The fence: what a database asks before it takes a write from somebody who acts under a lease.

use plba_contracts::lease::FencingToken;
use rusqlite::{OptionalExtension, Transaction};

/// Why a write is refused.
#[derive(Debug, thiserror::Error)]
pub enum FenceError {
    /// The lease has been given to somebody else since, or was released: roll back, and act no more under this token.
    #[error("lease \"{name}\": token {token} is not in force any more (the newest is {newest}); the write is refused")]
    Stale {
        /// Which lease.
        name: String,
        /// The writer's token.
        token: FencingToken,
        /// The newest token that was given.
        newest: FencingToken,
    },
    /// Nobody ever took this lease in this database: leases and data must share one.
    #[error("lease \"{name}\" is not kept in this database; open the leases where the data is")]
    Unknown {
        /// Which lease.
        name: String,
    },
    /// The database failed.
    #[error("the fence of lease \"{name}\" could not be read: {source}")]
    Database {
        /// Which lease.
        name: String,
        /// Why.
        source: rusqlite::Error,
    },
}

/// Refuses a write under a token that is not the newest of its lease; call it in the transaction that writes, in the
/// database that keeps the leases.
///
/// No clock is asked: a holder whose grant has run out may still write while nobody has taken over, because it disturbs
/// nobody. Any kind of transaction will do: what reads the token before it writes either keeps a take-over waiting until
/// its commit, or fails as busy because the take-over came between.
///
/// # Errors
/// [`FenceError`]; roll the transaction back.
///
/// ```
/// # use plba_contracts::lease::FencingToken;
/// use plba_sql::{check_fence, rusqlite::{Connection, TransactionBehavior}};
///
/// fn book(connection: &mut Connection, token: FencingToken) -> Result<(), Box<dyn std::error::Error>> {
///     let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
///     check_fence(&transaction, "monthly-invoices", token)?;
///     transaction.execute("INSERT INTO invoices (customer) VALUES (17)", [])?;
///     transaction.commit()?;
///     Ok(())
/// }
/// ```
pub fn check_fence(transaction: &Transaction<'_>, name: &str, token: FencingToken) -> Result<(), FenceError> {
    let found = transaction
        .prepare_cached("SELECT token, holder IS NOT NULL FROM plba_leases WHERE name = ?1")
        .and_then(|mut read| {
            read.query_row([name], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?)))
                .optional()
        });
    let name = name.to_owned();
    match found {
        Err(source) => Err(FenceError::Database { name, source }),
        Ok(None) => Err(FenceError::Unknown { name }),
        Ok(Some((newest, held))) => match u64::try_from(newest) {
            Ok(newest) if newest == token.0 && held => Ok(()),
            newest => Err(FenceError::Stale {
                name,
                token,
                newest: FencingToken(newest.unwrap_or(0)),
            }),
        },
    }
}
