//! One open connection, and the arguments of a call on it.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisResult, Value, cmd};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::failure::Failure;
use crate::reply;
use crate::script::Script;

/// An open connection. It closes when it is dropped.
pub(super) struct Live {
    connection: MultiplexedConnection,
    driver: JoinHandle<()>,
}

impl Live {
    pub(super) fn new(connection: MultiplexedConnection, driver: JoinHandle<()>) -> Self {
        Self { connection, driver }
    }

    pub(super) fn is_open(&self) -> bool {
        !self.driver.is_finished()
    }

    pub(super) fn close(&self) {
        self.driver.abort();
    }

    /// Sends a command and waits for its answer. A connection whose answer did not come in time must not be used again.
    pub(super) async fn ask(&self, command: &Cmd, limit: Duration) -> Result<Value, Failure> {
        let mut connection = self.connection.clone();
        answered(limit, connection.send_packed_command(command)).await
    }

    /// Sends the commands of a transaction, and waits for the answer to all of it.
    pub(super) async fn transact(&self, transaction: &Pipeline, limit: Duration) -> Result<Value, Failure> {
        let mut connection = self.connection.clone();
        // MULTI and each command are answered first.
        let asked = connection.send_packed_commands(transaction, transaction.len() + 1, 1);
        answered(limit, async { Ok(asked.await?.pop().unwrap_or(Value::Nil)) }).await
    }

    /// Gives the server a script; gives its digest.
    pub(super) async fn load(&self, script: Script, limit: Duration) -> Result<String, Failure> {
        let answer = self.ask(cmd("SCRIPT").arg("LOAD").arg(script.source()), limit).await?;
        reply::text(answer).ok_or_else(|| Failure::answer("SCRIPT LOAD"))
    }
}

async fn answered(limit: Duration, asked: impl Future<Output = RedisResult<Value>>) -> Result<Value, Failure> {
    match timeout(limit, asked).await {
        Ok(Ok(Value::ServerError(error))) => Err(redis::RedisError::from(error).into()),
        Ok(answer) => answer.map_err(Into::into),
        Err(_) => Err(Failure::broken(format!(
            "Redis did not answer within {limit:?}; the connection is given up, whether it was done is unknown"
        ))),
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// How many digits a number has that is said later: enough for any.
const LATER: usize = 20;

/// The arguments of a script, one after the other in one buffer.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    data: Vec<u8>,
    ends: Vec<usize>,
}

impl Arguments {
    pub(crate) fn push(&mut self, argument: impl AsRef<[u8]>) -> &mut Self {
        self.data.extend_from_slice(argument.as_ref());
        self.ends.push(self.data.len());
        self
    }

    pub(crate) fn number(&mut self, number: impl std::fmt::Display) -> &mut Self {
        use std::io::Write;
        // Writing to memory can't fail.
        let _ = write!(self.data, "{number}");
        self.ends.push(self.data.len());
        self
    }

    /// Adds an argument whose number is not known yet; gives where it is.
    pub(crate) fn later(&mut self) -> usize {
        let place = self.data.len();
        self.push([b'0'; LATER]);
        place
    }

    /// Says the number that was left open.
    pub(crate) fn say(&mut self, place: usize, number: usize) {
        let digits = format!("{number:0LATER$}");
        self.data[place..place + LATER].copy_from_slice(digits.as_bytes());
    }

    /// What the next argument is written to, behind all that is there; [`close`](Self::close) is its end.
    pub(crate) fn writer(&mut self) -> &mut Vec<u8> {
        &mut self.data
    }

    pub(crate) fn close(&mut self) {
        self.ends.push(self.data.len());
    }

    pub(super) fn evalsha<K: AsRef<str>>(&self, digest: &str, keys: &[K]) -> Cmd {
        let size = self.data.len() + keys.iter().map(|key| key.as_ref().len()).sum::<usize>() + 64;
        let mut command = Cmd::with_capacity(3 + keys.len() + self.ends.len(), size);
        command.arg("EVALSHA").arg(digest).arg(keys.len());
        for key in keys {
            command.arg(key.as_ref());
        }
        for argument in self.iter() {
            command.arg(argument);
        }
        command
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The arguments, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.data[start..*end])
    }
}
