//! The transaction of a completion, as effects get it: what they write and the end of their task are one commit.

use std::any::Any;

use plba_contracts::BoxError;
use plba_contracts::services::BoxFuture;
use plba_tasks::handler::Outcome;
use plba_tasks::task::NewTask;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Row};

use super::fault::{Fault, Kind};
use super::pool::{Loan, Value};

/// An open transaction on the connection that completes the task: what [`Effect`](plba_tasks::queue::Effect)s of a
/// PostgreSQL queue get, erased. Use [`done_with`] to have it by its type.
///
/// It is committed with the end of the task after the effect has returned `Ok`, and rolled back otherwise. Keep it short:
/// it holds a row, and one connection of the handlers'. Don't commit or roll it back by a statement.
pub struct PostgresTransaction {
    loan: Loan,
    open: bool,
}

impl PostgresTransaction {
    pub(super) async fn begin(loan: Loan) -> Result<Self, Fault> {
        let mut transaction = Self { loan, open: true };
        transaction.statement("BEGIN", &[]).await?;
        Ok(transaction)
    }

    /// One of our own statements, with its deadline and its classified faults.
    pub(super) async fn statement(&mut self, text: &str, values: &[Value<'_>]) -> Result<Vec<Row>, Fault> {
        self.loan.query(text, values).await
    }

    /// Makes everything durable. For transactions that the application has begun; the one of an effect is its queue's.
    ///
    /// # Errors
    /// Whether it was committed is unknown if the connection was lost meanwhile.
    pub async fn commit(self) -> Result<(), BoxError> {
        Ok(self.committed().await?)
    }

    pub(super) async fn committed(mut self) -> Result<(), Fault> {
        self.statement("COMMIT", &[]).await?;
        self.open = false;
        Ok(())
    }

    /// The rows that a statement gives, in one round trip and within the location's deadline: the types of its values are
    /// told with them, and the statement stays prepared where sessions are ours.
    ///
    /// # Errors
    /// As [`query`](Self::query); [`is_passing`](super::is_passing) tells those that may pass.
    ///
    /// # Cancel safety
    /// As [`query`](Self::query).
    pub async fn query_typed(
        &mut self,
        statement: &str,
        values: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, BoxError> {
        Ok(self.statement(statement, values).await?)
    }

    pub(super) async fn roll_back(mut self) {
        self.open = self.statement("ROLLBACK", &[]).await.is_err();
    }

    /// The rows that a statement gives; `$1` and so on are the values.
    ///
    /// # Errors
    /// The server's or the connection's. After one, the transaction takes no further statements; let the effect fail with
    /// it. A deadlock or a failed serialization is not held against the handler: its task comes again.
    ///
    /// # Cancel safety
    /// A dropped call leaves the statement under way; let the effect fail then.
    pub async fn query(&mut self, statement: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, BoxError> {
        Ok(self.loan.client()?.query(statement, values).await?)
    }

    /// The one row that a statement gives, if it gives one.
    ///
    /// # Errors
    /// As [`query`](Self::query), and when there are several.
    ///
    /// # Cancel safety
    /// As [`query`](Self::query).
    pub async fn query_opt(
        &mut self,
        statement: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Row>, BoxError> {
        Ok(self.loan.client()?.query_opt(statement, values).await?)
    }

    /// The one row that a statement gives.
    ///
    /// # Errors
    /// As [`query`](Self::query), and when there is none, or are several.
    ///
    /// # Cancel safety
    /// As [`query`](Self::query).
    pub async fn query_one(&mut self, statement: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Row, BoxError> {
        Ok(self.loan.client()?.query_one(statement, values).await?)
    }

    /// How many rows a statement changed.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    ///
    /// # Cancel safety
    /// As [`query`](Self::query).
    pub async fn execute(&mut self, statement: &str, values: &[&(dyn ToSql + Sync)]) -> Result<u64, BoxError> {
        Ok(self.loan.client()?.execute(statement, values).await?)
    }

    /// Several statements without values, divided by semicolons.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    ///
    /// # Cancel safety
    /// As [`query`](Self::query).
    pub async fn batch_execute(&mut self, statements: &str) -> Result<(), BoxError> {
        let client = self.loan.client()?;
        let done: Result<(), Error> = client.batch_execute(statements).await;
        Ok(done?)
    }
}

impl Drop for PostgresTransaction {
    fn drop(&mut self) {
        // Nobody may get this connection with somebody else's transaction on it: closing it rolls back.
        if self.open {
            self.loan.give_up();
        }
    }
}

/// The transaction that an effect got, by its type.
///
/// # Errors
/// The queue does not keep its tasks in PostgreSQL.
pub fn transaction(erased: &mut (dyn Any + Send)) -> Result<&mut PostgresTransaction, BoxError> {
    let fault = || {
        Fault::new(
            Kind::Statement,
            "this effect needs a queue in the PostgreSQL database that it writes to; set the queue's location to postgres:",
        )
    };
    erased.downcast_mut().ok_or_else(|| fault().into())
}

/// Done, once `effect` has run in the completion's transaction: what it writes, the end of the task and all follow-ups are
/// one commit. What it returns are more follow-ups.
///
/// ```
/// use plba_sql::postgres::done_with;
///
/// let total = 17_i32;
/// let outcome = done_with(move |transaction| Box::pin(async move {
///     transaction.execute("INSERT INTO invoices (total) VALUES ($1)", &[&total]).await?;
///     Ok(Vec::new())
/// }));
/// # drop(outcome);
/// ```
pub fn done_with<F>(effect: F) -> Outcome
where
    F: for<'a> FnOnce(&'a mut PostgresTransaction) -> BoxFuture<'a, Result<Vec<NewTask>, BoxError>> + Send + 'static,
{
    Outcome::done_with(move |erased| match transaction(erased) {
        Ok(transaction) => effect(transaction),
        Err(error) => Box::pin(std::future::ready(Err(error))),
    })
}
