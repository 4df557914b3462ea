//! XLSX attachments: cells as a stream, never as a range (one far cell would make a range of 100 GB), into sparse rows.
//! The workbook has passed `workbook::guard` before.

use std::collections::BTreeMap;
use std::io::Cursor;

use calamine::{DataRef, Reader, Xlsx};

use super::ReadingLimits;
use super::draft::{DraftLine, Value};
use super::table::{MAX_COLUMNS, Row, TableReader};
use super::workbook::{WorkbookProblem, guard};

/// Sheets that are looked at.
const MAX_SHEETS: usize = 20;

/// The lines of the first sheet that is an order table; empty when none is.
pub(super) fn lines(
    bytes: &[u8],
    reader: &TableReader<'_>,
    limits: &ReadingLimits,
) -> Result<Vec<DraftLine>, WorkbookProblem> {
    guard(bytes, limits)?;
    let mut workbook: Xlsx<_> = Xlsx::new(Cursor::new(bytes)).map_err(|_| WorkbookProblem::NotAWorkbook)?;
    for sheet in workbook.sheet_names().into_iter().take(MAX_SHEETS) {
        let rows = rows(&mut workbook, &sheet, limits.cells)?;
        let lines = reader.lines(&rows).unwrap_or_default();
        if !lines.is_empty() {
            return Ok(lines);
        }
    }
    Ok(Vec::new())
}

fn rows(workbook: &mut Xlsx<Cursor<&[u8]>>, sheet: &str, cells: usize) -> Result<Vec<Row>, WorkbookProblem> {
    // A chart sheet has no cells.
    let Ok(mut reader) = workbook.worksheet_cells_reader(sheet) else {
        return Ok(Vec::new());
    };
    let mut rows: BTreeMap<u32, BTreeMap<u32, Value>> = BTreeMap::new();
    let mut left = cells;
    while let Some(cell) = reader.next_cell().map_err(|_| WorkbookProblem::NotAWorkbook)? {
        left = left.checked_sub(1).ok_or(WorkbookProblem::TooMuchContent)?;
        let (row, column) = cell.get_position();
        let value = value_of(cell.get_value());
        if !value.is_empty() && (column as usize) < MAX_COLUMNS {
            rows.entry(row).or_default().insert(column, value);
        }
    }
    Ok(rows.into_iter().map(|(row, cells)| dense(row, cells)).collect())
}

fn dense(row: u32, sparse: BTreeMap<u32, Value>) -> Row {
    let width = sparse.last_key_value().map_or(0, |(column, _)| *column as usize + 1);
    let mut cells = vec![Value::default(); width];
    for (column, value) in sparse {
        cells[column as usize] = value;
    }
    Row {
        number: row.saturating_add(1),
        cells,
    }
}

fn value_of(value: &DataRef<'_>) -> Value {
    match value {
        DataRef::Int(number) => Value {
            text: number.to_string(),
            machine: true,
        },
        DataRef::Float(number) if number.is_finite() => Value::number(*number),
        DataRef::String(text) | DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => Value::text(text),
        DataRef::SharedString(text) => Value::text(text),
        DataRef::Bool(flag) => Value::text(if *flag { "TRUE" } else { "FALSE" }),
        // A price in a cell that somebody formatted as a date is still that number.
        DataRef::DateTime(date) => Value::number(date.as_f64()),
        DataRef::Error(error) => Value::text(&error.to_string()),
        DataRef::Float(_) | DataRef::Empty => Value::default(),
    }
}
