//! Guarding a workbook: what an XLSX file must pass before calamine sees it.
//!
//! calamine inflates without limits and trusts counts written in the file (`uniqueCount` makes it reserve that many
//! strings; a failed allocation aborts the process). So every file of the archive is inflated here first, bounded by
//! the bytes that really come out, and its elements and counts are checked. What sizes the archive declares is ignored.

use std::io::{Cursor, Read};

use zip::ZipArchive;

use super::ReadingLimits;

/// Why a workbook is not read, as the customer is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum WorkbookProblem {
    #[error("it is not a readable .xlsx workbook")]
    NotAWorkbook,
    #[error("it is an old or password-protected Excel file; please send .xlsx without a password, or CSV")]
    OldOrEncrypted,
    #[error("it unpacks to more than we accept")]
    TooLarge,
    #[error("it has more content than we accept")]
    TooMuchContent,
    #[error("it contains another archive")]
    Nested,
    #[error("it holds text in an encoding we do not accept")]
    Encoding,
}

const ZIP_MAGIC: &[u8] = b"PK\x03\x04";
const OLE_MAGIC: &[u8] = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1";
/// Below this the compression ratio doesn't matter.
const RATIO_FREE_BYTES: usize = 1 << 20;
/// Elements of all files together that are neither sheets nor shared strings (styles, themes, relations).
const MAX_OTHER_ELEMENTS: usize = 200_000;
/// Elements that a shared string may have on average: `<si><t></t></si>`.
const ELEMENTS_PER_STRING: usize = 5;

/// What the first bytes say a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    Zip,
    Ole,
    Other,
}

pub(super) fn sniff(bytes: &[u8]) -> Container {
    if bytes.starts_with(ZIP_MAGIC) {
        Container::Zip
    } else if bytes.starts_with(OLE_MAGIC) {
        Container::Ole
    } else {
        Container::Other
    }
}

/// Whether the archive calls itself a workbook. Reads only its directory.
pub(super) fn is_workbook(bytes: &[u8]) -> bool {
    ZipArchive::new(Cursor::new(bytes)).is_ok_and(|archive| archive.index_for_name("xl/workbook.xml").is_some())
}

/// Inflates everything once, within limits, and throws it away.
pub(super) fn guard(bytes: &[u8], limits: &ReadingLimits) -> Result<(), WorkbookProblem> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|_| WorkbookProblem::NotAWorkbook)?;
    if archive.len() > limits.workbook_entries {
        return Err(WorkbookProblem::TooMuchContent);
    }
    let mut total = 0_usize;
    let mut other_elements = 0_usize;
    let mut content = Vec::new();
    for index in 0..archive.len() {
        let entry = archive.by_index(index).map_err(|_| WorkbookProblem::NotAWorkbook)?;
        let name = entry
            .name()
            .map_err(|_| WorkbookProblem::NotAWorkbook)?
            .to_ascii_lowercase();
        content.clear();
        let room = limits.workbook_bytes - total;
        let inflated = entry.take(room as u64 + 1).read_to_end(&mut content);
        inflated.map_err(|_| WorkbookProblem::NotAWorkbook)?;
        total += content.len();
        let ratio_exceeded = total > RATIO_FREE_BYTES && total / bytes.len().max(1) >= limits.workbook_ratio;
        if content.len() > room || ratio_exceeded {
            return Err(WorkbookProblem::TooLarge);
        }
        if sniff(&content) != Container::Other {
            return Err(WorkbookProblem::Nested);
        }
        if name.ends_with(".xml") || name.ends_with(".rels") || looks_like_text(&content) {
            check_xml(&name, &content, limits, &mut other_elements)?;
        }
    }
    Ok(())
}

/// Relations may point to any name, so a file is judged by its beginning too. Pictures and the like are left alone.
fn looks_like_text(content: &[u8]) -> bool {
    let marks: [&[u8]; 3] = [b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf"];
    marks.iter().any(|mark| content.starts_with(mark)) || content.trim_ascii_start().starts_with(b"<")
}

fn check_xml(
    name: &str,
    content: &[u8],
    limits: &ReadingLimits,
    other_elements: &mut usize,
) -> Result<(), WorkbookProblem> {
    // UTF-16 would hide counts and elements from the checks below; no spreadsheet program writes it.
    if content.starts_with(b"\xff\xfe") || content.starts_with(b"\xfe\xff") || content.iter().take(8).any(|b| *b == 0) {
        return Err(WorkbookProblem::Encoding);
    }
    if declared_counts(content).any(|count| count.is_none_or(|count| count > limits.shared_strings)) {
        return Err(WorkbookProblem::TooMuchContent);
    }
    // Sheets are read as a stream and counted by their cells. What lies beside them under another name is not a sheet.
    if name.starts_with("xl/worksheets/sheet") {
        return Ok(());
    }
    let elements = content.iter().filter(|byte| **byte == b'<').count();
    if name.ends_with("sharedstrings.xml") {
        let most = limits.shared_strings.saturating_mul(ELEMENTS_PER_STRING);
        return if elements > most {
            Err(WorkbookProblem::TooMuchContent)
        } else {
            Ok(())
        };
    }
    *other_elements += elements;
    if *other_elements > MAX_OTHER_ELEMENTS {
        Err(WorkbookProblem::TooMuchContent)
    } else {
        Ok(())
    }
}

/// Every `uniqueCount="N"` in `content`; `None` for one that is no reasonable number.
fn declared_counts(content: &[u8]) -> impl Iterator<Item = Option<usize>> {
    const NAME: &[u8] = b"uniqueCount";
    let starts = content
        .windows(NAME.len())
        .enumerate()
        .filter(|(_, window)| *window == NAME);
    starts.map(|(at, _)| {
        let rest = &content[at + NAME.len()..];
        let rest = rest.get(..64).unwrap_or(rest).trim_ascii_start();
        let value = rest.strip_prefix(b"=")?.trim_ascii_start();
        let digits = value.get(1..)?.split(|byte| matches!(byte, b'"' | b'\'')).next()?;
        std::str::from_utf8(digits).ok()?.trim().parse().ok()
    })
}
