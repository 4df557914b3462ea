//! A workbook's cells, as calamine reads them → sheets with what is in their filled cells, within limits. Runs in the
//! child process. XLSX is read as a stream of cells, never as a range (one far cell would make a range of 100 GB); the
//! other two formats calamine reads only as a whole.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use calamine::{Data, Ods, Reader, Xls, Xlsx};

use super::guard::{self, Kind};
use super::{SparseRow, SparseSheet, WorkbookProblem};
use crate::reading::ReadingLimits;
use crate::reading::draft::Value;
use crate::reading::table::MAX_COLUMNS;

/// Sheets that are looked at.
const MAX_SHEETS: usize = 20;

/// The sheets of a workbook, in its order. A panic of a parser is a problem of the workbook.
pub(super) fn sheets(bytes: &[u8], limits: &ReadingLimits) -> Result<Vec<SparseSheet>, WorkbookProblem> {
    catch_unwind(AssertUnwindSafe(|| read(bytes, limits))).unwrap_or(Err(WorkbookProblem::Crashed))
}

fn read(bytes: &[u8], limits: &ReadingLimits) -> Result<Vec<SparseSheet>, WorkbookProblem> {
    let kind = guard::guard(bytes, limits)?;
    let mut budget = Budget::new(limits);
    match kind {
        Kind::Xlsx => {
            let workbook = Xlsx::new(Cursor::new(bytes)).map_err(|_| WorkbookProblem::NotAWorkbook)?;
            streamed(workbook, &mut budget)
        }
        Kind::Ods => {
            let workbook = Ods::new(Cursor::new(bytes)).map_err(|_| WorkbookProblem::NotAWorkbook)?;
            whole(workbook, &mut budget)
        }
        Kind::Xls => {
            let workbook = Xls::new(Cursor::new(bytes)).map_err(|error| match error {
                calamine::XlsError::Password => WorkbookProblem::Encrypted,
                _ => WorkbookProblem::NotAWorkbook,
            })?;
            whole(workbook, &mut budget)
        }
    }
}

type Bytes<'b> = Cursor<&'b [u8]>;

fn streamed(mut workbook: Xlsx<Bytes<'_>>, budget: &mut Budget<'_>) -> Result<Vec<SparseSheet>, WorkbookProblem> {
    let mut sheets = Vec::new();
    for name in workbook.sheet_names().into_iter().take(MAX_SHEETS) {
        let mut sheet = SheetBuilder::default();
        // A chart sheet has no cells.
        if let Ok(mut reader) = workbook.worksheet_cells_reader(&name) {
            while let Some(cell) = reader.next_cell().map_err(|_| WorkbookProblem::NotAWorkbook)? {
                let (row, column) = cell.get_position();
                sheet.add(row, column, &Data::from(cell.get_value().clone()), budget)?;
            }
        }
        sheets.push(sheet.build(name));
    }
    Ok(sheets)
}

fn whole<'b, R: Reader<Bytes<'b>>>(
    mut workbook: R,
    budget: &mut Budget<'_>,
) -> Result<Vec<SparseSheet>, WorkbookProblem> {
    let mut sheets = Vec::new();
    for name in workbook.sheet_names().into_iter().take(MAX_SHEETS) {
        let mut sheet = SheetBuilder::default();
        let range = workbook
            .worksheet_range(&name)
            .map_err(|_| WorkbookProblem::NotAWorkbook)?;
        let (top, left) = range.start().unwrap_or_default();
        for (row, column, value) in range.used_cells() {
            let place = |offset: u32, at| offset.saturating_add(u32::try_from(at).unwrap_or(u32::MAX));
            sheet.add(place(top, row), place(left, column), value, budget)?;
        }
        sheets.push(sheet.build(name));
    }
    Ok(sheets)
}

/// What is left of the limits that hold for all sheets together.
struct Budget<'l> {
    limits: &'l ReadingLimits,
    cells: usize,
    text: usize,
}

impl<'l> Budget<'l> {
    fn new(limits: &'l ReadingLimits) -> Self {
        Self {
            limits,
            cells: limits.cells,
            text: limits.text_bytes,
        }
    }
}

#[derive(Default)]
struct SheetBuilder(BTreeMap<u32, BTreeMap<u16, Value>>);

impl SheetBuilder {
    fn add(&mut self, row: u32, column: u32, data: &Data, budget: &mut Budget<'_>) -> Result<(), WorkbookProblem> {
        let limits = budget.limits;
        budget.cells = budget
            .cells
            .checked_sub(1)
            .ok_or(WorkbookProblem::TooManyCells { limit: limits.cells })?;
        let value = value_of(data);
        let column = u16::try_from(column).ok().filter(|at| usize::from(*at) < MAX_COLUMNS);
        if let (false, Some(column)) = (value.is_empty(), column) {
            budget.text = budget
                .text
                .checked_sub(value.text.len())
                .ok_or(WorkbookProblem::TooMuchText {
                    limit: limits.text_bytes,
                })?;
            self.0.entry(row).or_default().insert(column, value);
        }
        Ok(())
    }

    fn build(self, name: String) -> SparseSheet {
        let cell = |(column, value): (u16, Value)| (column, value.text, value.machine);
        let row = |(row, cells): (u32, BTreeMap<u16, Value>)| SparseRow {
            row,
            cells: cells.into_iter().map(cell).collect(),
        };
        SparseSheet {
            name: name.chars().take(100).collect(),
            rows: self.0.into_iter().map(row).collect(),
        }
    }
}

fn value_of(value: &Data) -> Value {
    match value {
        Data::Int(number) => Value {
            text: number.to_string(),
            machine: true,
        },
        Data::Float(number) if number.is_finite() => Value::number(*number),
        Data::String(text) | Data::DateTimeIso(text) | Data::DurationIso(text) => Value::text(text),
        Data::Bool(flag) => Value::text(if *flag { "TRUE" } else { "FALSE" }),
        Data::DateTime(date) => date_of(*date),
        Data::Error(error) => Value::text(&error.to_string()),
        _ => Value::default(),
    }
}

/// A cell that is shown as a date. A small number in it is a price or quantity that somebody formatted wrongly; anything
/// after 1908 is a date, which must not be taken for a quantity.
fn date_of(date: calamine::ExcelDateTime) -> Value {
    const LAST_NUMBER: f64 = 3_000.0;
    if date.as_f64() < LAST_NUMBER {
        return Value::number(date.as_f64());
    }
    let (year, month, day, ..) = date.to_ymd_hms_milli();
    Value::text(&format!("{year:04}-{month:02}-{day:02}"))
}
