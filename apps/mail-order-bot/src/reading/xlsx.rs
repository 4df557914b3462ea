//! XLSX attachments: cells as a stream, never as a range (one far cell would make a range of 100 GB), into sparse rows.
//! The workbook has passed `workbook::guard` before.

use std::collections::BTreeMap;
use std::io::Cursor;

use calamine::{DataRef, Reader, Xlsx};

use super::ReadingLimits;
use super::draft::Value;
use super::table::{MAX_COLUMNS, Row, Sheet};
use super::workbook::{WorkbookProblem, guard};

/// Sheets that are looked at.
const MAX_SHEETS: usize = 20;

/// The first twenty sheets, all of them together within the limit of cells.
pub(super) fn sheets(bytes: &[u8], limits: &ReadingLimits) -> Result<Vec<Sheet>, WorkbookProblem> {
    guard(bytes, limits)?;
    let mut workbook: Xlsx<_> = Xlsx::new(Cursor::new(bytes)).map_err(|_| WorkbookProblem::NotAWorkbook)?;
    let mut left = limits.cells;
    let mut sheets = Vec::new();
    for name in workbook.sheet_names().into_iter().take(MAX_SHEETS) {
        let rows = rows(&mut workbook, &name, &mut left)?;
        sheets.push(Sheet { name, rows });
    }
    Ok(sheets)
}

fn rows(workbook: &mut Xlsx<Cursor<&[u8]>>, sheet: &str, left: &mut usize) -> Result<Vec<Row>, WorkbookProblem> {
    // A chart sheet has no cells.
    let Ok(mut reader) = workbook.worksheet_cells_reader(sheet) else {
        return Ok(Vec::new());
    };
    let mut rows: BTreeMap<u32, BTreeMap<u32, Value>> = BTreeMap::new();
    while let Some(cell) = reader.next_cell().map_err(|_| WorkbookProblem::NotAWorkbook)? {
        *left = left.checked_sub(1).ok_or(WorkbookProblem::TooMuchContent)?;
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
        DataRef::DateTime(date) => date_of(*date),
        DataRef::Error(error) => Value::text(&error.to_string()),
        DataRef::Float(_) | DataRef::Empty => Value::default(),
    }
}

/// A cell that is shown as a date. A small number in it is a price or quantity that somebody formatted wrongly; anything
/// after 1908 is a date, which must not be taken for a quantity.
pub(super) fn date_of(date: calamine::ExcelDateTime) -> Value {
    const LAST_NUMBER: f64 = 3_000.0;
    if date.as_f64() < LAST_NUMBER {
        return Value::number(date.as_f64());
    }
    let (year, month, day, ..) = date.to_ymd_hms_milli();
    Value::text(&format!("{year:04}-{month:02}-{day:02}"))
}
