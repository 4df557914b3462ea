//! The port between what the store does and the database that it does it in: one statement at a time inside an open
//! transaction. SQL is written once, in what SQLite and PostgreSQL have in common; what they don't is filled in here.
//!
//! In a statement, values are `$1`, `$2` … and each table's name has `~` before it: `SELECT id FROM ~orders WHERE id = $1`.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use super::StoreError;

/// The answer of a session.
pub(crate) type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// An open transaction, whoever has begun it and will commit it.
pub(crate) trait Session {
    /// The rows that a statement gives.
    ///
    /// # Errors
    /// Of the database; the transaction is to be rolled back.
    fn query<'a>(&'a mut self, statement: &'a str, values: &'a [Value<'a>]) -> Answer<'a, Vec<Row>>;

    /// Waits until nobody else in another transaction holds one of these names, and holds them to the end of this one.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    fn hold<'a>(&'a mut self, names: &'a [&'a str]) -> Answer<'a, ()>;
}

/// A value of a statement.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    Int(Option<i64>),
    Text(Option<&'a str>),
    Bytes(Option<&'a [u8]>),
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Self::Int(Some(value))
    }
}

impl From<Option<i64>> for Value<'_> {
    fn from(value: Option<i64>) -> Self {
        Self::Int(value)
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(value: &'a str) -> Self {
        Self::Text(Some(value))
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(value: &'a String) -> Self {
        Self::Text(Some(value))
    }
}

impl<'a> From<Option<&'a str>> for Value<'a> {
    fn from(value: Option<&'a str>) -> Self {
        Self::Text(value)
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(value: &'a [u8]) -> Self {
        Self::Bytes(Some(value))
    }
}

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    Null,
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// A row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row(pub(super) Vec<Cell>);

impl Row {
    pub(super) fn int(&self, column: usize) -> Result<i64, StoreError> {
        self.maybe_int(column)?
            .ok_or_else(|| wrong(column, "a number", &Cell::Null))
    }

    pub(super) fn maybe_int(&self, column: usize) -> Result<Option<i64>, StoreError> {
        match self.cell(column) {
            Cell::Null => Ok(None),
            Cell::Int(value) => Ok(Some(*value)),
            other => Err(wrong(column, "a number", other)),
        }
    }

    pub(super) fn text(&self, column: usize) -> Result<String, StoreError> {
        self.maybe_text(column)?
            .ok_or_else(|| wrong(column, "text", &Cell::Null))
    }

    pub(super) fn maybe_text(&self, column: usize) -> Result<Option<String>, StoreError> {
        match self.cell(column) {
            Cell::Null => Ok(None),
            Cell::Text(value) => Ok(Some(value.clone())),
            other => Err(wrong(column, "text", other)),
        }
    }

    pub(super) fn bytes(&self, column: usize) -> Result<Vec<u8>, StoreError> {
        match self.cell(column) {
            Cell::Bytes(value) => Ok(value.clone()),
            other => Err(wrong(column, "bytes", other)),
        }
    }

    fn cell(&self, column: usize) -> &Cell {
        self.0.get(column).unwrap_or(&Cell::Null)
    }
}

fn wrong(column: usize, wanted: &str, found: &Cell) -> StoreError {
    let found = match found {
        Cell::Null => "nothing",
        Cell::Int(_) => "a number",
        Cell::Text(_) => "text",
        Cell::Bytes(_) => "bytes",
    };
    StoreError::Damaged {
        what: format!("column {} of a row", column + 1),
        problem: format!("{wanted} was expected, and {found} is there"),
    }
}

/// The number in the first column of the first row; 0 without one.
pub(super) fn number(rows: &[Row]) -> Result<i64, StoreError> {
    Ok(rows
        .first()
        .map(|row| row.maybe_int(0))
        .transpose()?
        .flatten()
        .unwrap_or(0))
}

/// What a session of SQLite, which never waits, comes to.
pub(super) fn at_once<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(StoreError::Setting(
            "work on an SQLite store waited for something else than SQLite".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_of_another_kind_is_damage_and_no_panic() {
        let row = Row(vec![Cell::Text("x".to_owned()), Cell::Null]);
        assert!(matches!(row.int(0), Err(StoreError::Damaged { .. })));
        assert!(matches!(row.text(1), Err(StoreError::Damaged { .. })));
        assert_eq!((row.maybe_int(1).unwrap(), row.maybe_text(7).unwrap()), (None, None));
    }
}
