//! What a connection has prepared: statements that come again are parsed and planned once. What comes once is not
//! prepared, so that it needs one round trip.

use std::collections::HashMap;

use futures_util::future::join;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row, Statement};

use super::pool::Value;

/// A connection remembers no more statements than this; a program has about thirty.
const MOST: usize = 64;

/// The statements of one connection.
#[derive(Default)]
pub(super) struct Prepared(HashMap<Box<str>, State>);

enum State {
    /// It came once.
    Known,
    /// It can't be prepared, or the call that did so was dropped.
    Plain,
    Ready(Statement),
}

impl Prepared {
    /// Carries out one statement in one round trip. What comes for the second time is prepared on the way.
    pub(super) async fn query(
        &mut self,
        client: &Client,
        statement: &str,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, Error> {
        match self.0.get_mut(statement) {
            Some(State::Ready(prepared)) => {
                let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|(value, _)| *value).collect();
                client.query(&*prepared, &values).await
            }
            Some(state @ State::Known) => {
                // Should this call be dropped, the server keeps a statement that nobody can name: once, not again and again.
                *state = State::Plain;
                let types: Vec<Type> = values.iter().map(|(_, kind)| kind.clone()).collect();
                let preparing = client.prepare_typed(statement, &types);
                let (prepared, rows) = join(preparing, client.query_typed(statement, values)).await;
                if let Ok(prepared) = prepared {
                    *state = State::Ready(prepared);
                }
                rows
            }
            Some(State::Plain) => client.query_typed(statement, values).await,
            None => {
                // What has no values is a command, such as COMMIT, and has no plan.
                if self.0.len() < MOST && !values.is_empty() {
                    self.0.insert(statement.into(), State::Known);
                }
                client.query_typed(statement, values).await
            }
        }
    }
}
