//! Workbooks (XLSX, ODS, XLS): what they are recognised by, what comes out of them, and where they are parsed. What makes
//! an order of their rows is `table`.
//!
//! | file | noun |
//! |---|---|
//! | `guard` | what an archive must pass before calamine sees it |
//! | `balance` | whether tags close one another |
//! | `cells` | calamine's cells → sheets, within limits |
//! | `parent` | the process that wants a workbook parsed, and starts another one for it |
//! | [`child`] | that other process |
//!
//! A parser of spreadsheets allocates what a file tells it to, and an allocation that fails ends the process: one cell in
//! a far corner made calamine ask for 102 GB. The guard knows such tricks; the child process is for those it doesn't know.

mod balance;
mod cells;
pub mod child;
mod guard;
mod parent;

use std::io;

use serde::{Deserialize, Serialize};

pub(super) use self::guard::is_workbook;
pub use self::parent::WorkbookParser;
use super::draft::Value;
use super::table::{MAX_COLUMNS, Row, Sheet};
use super::{ReadError, ReadingLimits};

/// Why a workbook is not read, as the customer is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkbookProblem {
    /// It is damaged, or no workbook at all.
    #[error("it is not a readable workbook")]
    NotAWorkbook,
    /// It is encrypted.
    #[error("it is protected by a password; please send it without one")]
    Encrypted,
    /// Its files together are larger than allowed.
    #[error("it unpacks to more than we accept, which is {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// It is compressed more than allowed.
    #[error("it unpacks to more than we accept, which is {limit} times its size")]
    TooDense {
        /// The limit of the ratio.
        limit: usize,
    },
    /// It is an archive of too many files.
    #[error("it has more content than we accept: over {limit} files")]
    TooManyFiles {
        /// The limit.
        limit: usize,
    },
    /// Its sheets have too many cells, or too much room between them.
    #[error("it has more content than we accept: over {limit} cells")]
    TooManyCells {
        /// The limit.
        limit: usize,
    },
    /// It has, or claims, too many texts.
    #[error("it has more content than we accept: over {limit} texts")]
    TooManyTexts {
        /// The limit.
        limit: usize,
    },
    /// Its styles, themes or relations are too many.
    #[error("it has more content than we accept: over {limit} elements beside its cells")]
    TooManyElements {
        /// The limit.
        limit: usize,
    },
    /// The text of its cells is too long.
    #[error("it has more content than we accept: over {limit} bytes of text")]
    TooMuchText {
        /// The limit in bytes.
        limit: usize,
    },
    /// An archive inside the archive.
    #[error("it contains another archive")]
    Nested,
    /// XML in UTF-16 or UTF-32.
    #[error("it holds text in an encoding we do not accept")]
    Encoding,
    /// The child process ran out of memory.
    #[error("reading it takes more memory than we give it, which is {limit} bytes")]
    TooMuchMemory {
        /// The limit in bytes.
        limit: usize,
    },
    /// The child process ran out of time.
    #[error("reading it takes longer than we wait, which is {limit} s")]
    TooLong {
        /// The limit in seconds.
        limit: u64,
    },
    /// The parser panicked.
    #[error("it is damaged in a way that our reader cannot handle")]
    Crashed,
}

/// What the first bytes say a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    Zip,
    Ole,
    Other,
}

const ZIP_MAGIC: &[u8] = b"PK\x03\x04";
const OLE_MAGIC: &[u8] = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1";

pub(super) fn sniff(bytes: &[u8]) -> Container {
    if bytes.starts_with(ZIP_MAGIC) {
        Container::Zip
    } else if bytes.starts_with(OLE_MAGIC) {
        Container::Ole
    } else {
        Container::Other
    }
}

/// One sheet on its way out of the child: what is in its filled cells.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct SparseSheet {
    name: String,
    rows: Vec<SparseRow>,
}

/// The filled cells of a row, which counts from 0. Empty rows are left out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct SparseRow {
    row: u32,
    /// Column, text, and whether it is a number; by column.
    cells: Vec<(u16, String, bool)>,
}

/// The sheets of a workbook, in its order, all of them together within the limit of cells.
pub(super) fn sheets(
    bytes: &[u8],
    limits: &ReadingLimits,
    parser: &WorkbookParser,
) -> Result<Result<Vec<Sheet>, WorkbookProblem>, ReadError> {
    let unavailable = |error: io::Error| ReadError::Unavailable {
        problem: error.to_string(),
    };
    let too_many = WorkbookProblem::TooManyCells { limit: limits.cells };
    let mut left = limits.cells;
    let parsed = parser.sheets(bytes, limits).map_err(unavailable)?;
    Ok(parsed.and_then(|sheets| {
        let dense = sheets.into_iter().map(|sheet| densified(sheet, &mut left));
        dense.collect::<Option<Vec<Sheet>>>().ok_or(too_many)
    }))
}

/// A sheet whose rows have their empty cells; `None` when these are too many: a cell far to the right in each of many rows
/// is small in the file and large here.
fn densified(sheet: SparseSheet, left: &mut usize) -> Option<Sheet> {
    let mut rows = Vec::with_capacity(sheet.rows.len());
    for SparseRow { row, cells: mut filled } in sheet.rows {
        filled.retain(|(column, ..)| usize::from(*column) < MAX_COLUMNS);
        let width = filled.iter().map(|(column, ..)| usize::from(*column) + 1).max();
        let width = width.unwrap_or(0);
        *left = left.checked_sub(width)?;
        let mut cells = vec![Value::default(); width];
        for (column, text, machine) in filled {
            cells[usize::from(column)] = Value {
                machine,
                ..Value::text(&text)
            };
        }
        rows.push(Row {
            number: row.saturating_add(1),
            cells,
        });
    }
    Some(Sheet { name: sheet.name, rows })
}
