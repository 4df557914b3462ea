//! The completion transaction as an effect sees it, and the outcome by which a handler asks for one. The transaction is
//! open on the writer's thread; functions are sent there and run inside it.

use std::sync::mpsc::Sender;

use plba_contracts::BoxError;
use plba_tasks::handler::Outcome;
use plba_tasks::task::NewTask;
use rusqlite::Connection;
use tokio::sync::oneshot;

/// What the writer is asked for while a transaction is open.
pub(super) enum Step {
    /// Run this.
    Run(Box<dyn FnOnce(&Connection) + Send>),
    /// The effect has succeeded, with these follow-ups.
    Done(Vec<NewTask>),
    /// The effect has failed.
    Failed,
}

/// The transaction in which a delivery is completed: an [`Effect`](plba_tasks::queue::Effect) of a queue in SQLite gets
/// this type, erased. What is written in it becomes durable together with the task's completion and its follow-ups, or
/// not at all.
///
/// Nobody else can write meanwhile, so be brief; after `completion` (a setting, 5 s) everything is rolled back.
pub struct SqliteTransaction {
    steps: Sender<Step>,
}

impl SqliteTransaction {
    pub(super) fn new(steps: Sender<Step>) -> Self {
        Self { steps }
    }

    /// Runs a function inside the transaction, on the writer's thread. It may read and write the whole database, but must
    /// leave beginning and committing to the queue. What it wrote is undone if it fails.
    ///
    /// # Errors
    /// Those of the function; it panicked; or the transaction is over, because the effect took too long.
    ///
    /// # Cancel safety
    /// The function may run though nobody waits for it; dropping the whole effect rolls back what it wrote.
    pub async fn run<T, F>(&mut self, work: F) -> Result<T, BoxError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, BoxError> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let step = Step::Run(Box::new(move |connection| {
            drop(answer.send(guarded(connection, work)));
        }));
        let over = || BoxError::from("the completion took too long, and its transaction was rolled back");
        self.steps.send(step).map_err(|_| over())?;
        answered.await.map_err(|_| over())?
    }
}

/// Runs it so that a failure leaves nothing behind.
fn guarded<T>(connection: &Connection, work: impl FnOnce(&Connection) -> Result<T, BoxError>) -> Result<T, BoxError> {
    connection.execute_batch("SAVEPOINT plba_step")?;
    let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(connection)));
    let worked =
        worked.unwrap_or_else(|panic| Err(format!("it panicked: {}", super::panic_message(panic.as_ref())).into()));
    let closing = match &worked {
        Ok(_) => "RELEASE plba_step",
        Err(_) => "ROLLBACK TO plba_step; RELEASE plba_step",
    };
    if connection.is_autocommit() {
        let ended = "it ended the transaction, which is the queue's to end";
        return Err(worked.err().unwrap_or_else(|| ended.into()));
    }
    connection.execute_batch(closing)?;
    worked
}

/// The work is done once `work` has run in the completion transaction: its writes, the task's completion and the
/// follow-ups that it returns become durable in one commit, or not at all. For applications whose data lie in the file in
/// which the queue keeps its tasks; elsewhere the attempt fails and says so.
///
/// ```
/// use plba_sql::sqlite::done_with;
/// use plba_tasks::handler::Outcome;
/// use plba_tasks::task::NewTask;
///
/// fn booked(customer: u32) -> Outcome {
///     done_with(move |database| {
///         database.execute("INSERT INTO invoices (customer) VALUES (?1)", [customer])?;
///         Ok(vec![NewTask::new("replies", "reply.send", customer.to_string())])
///     })
/// }
/// ```
pub fn done_with<F>(work: F) -> Outcome
where
    F: FnOnce(&Connection) -> Result<Vec<NewTask>, BoxError> + Send + 'static,
{
    Outcome::done_with(move |transaction| {
        Box::pin(async move {
            let Some(transaction) = transaction.downcast_mut::<SqliteTransaction>() else {
                return Err(
                    "the queue does not keep its tasks in SQLite, so its transaction can't store the data: keep \
                            tasks and data in one file, or use an outbox"
                        .into(),
                );
            };
            transaction.run(work).await
        })
    })
}
