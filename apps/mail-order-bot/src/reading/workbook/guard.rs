//! Guarding a workbook: what a file must pass before calamine sees it.
//!
//! calamine inflates without limits and trusts counts written in the file (`uniqueCount` makes it reserve that many
//! strings; a failed allocation aborts the process). So every file of the archive is inflated here first, bounded by
//! the bytes that really come out, and its elements and counts are checked. What sizes the archive declares is ignored.
//! An XLS file isn't compressed, so there is little to check; the limits of the child process hold for it.

use std::io::{Cursor, Read};

use zip::ZipArchive;

use super::balance::is_balanced;
use super::{Container, WorkbookProblem, sniff};
use crate::reading::ReadingLimits;

/// What kind of workbook a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Xlsx,
    Ods,
    Xls,
}

const XLSX_PART: &str = "xl/workbook.xml";
const ODS_TYPE: &[u8] = b"application/vnd.oasis.opendocument.spreadsheet";
/// The name of the stream in which Office keeps an encrypted file, in UTF-16 as in the directory of the container.
const ENCRYPTED: &str = "EncryptedPackage";
/// Below this the compression ratio doesn't matter.
const RATIO_FREE_BYTES: usize = 1 << 20;
/// Elements of all files together that are neither sheets nor shared strings (styles, themes, relations).
const MAX_OTHER_ELEMENTS: usize = 200_000;
/// Elements that a shared string may have on average: `<si><t></t></si>`.
const ELEMENTS_PER_STRING: usize = 5;

/// Whether a file calls itself a workbook. Of an archive it reads only the directory.
pub(in crate::reading) fn is_workbook(bytes: &[u8]) -> bool {
    match sniff(bytes) {
        Container::Zip => ZipArchive::new(Cursor::new(bytes)).is_ok_and(|mut archive| kind(&mut archive).is_some()),
        Container::Ole => contains_name(bytes, "Workbook") || contains_name(bytes, "Book"),
        Container::Other => false,
    }
}

/// Checks a workbook within limits and says what it is.
pub(super) fn guard(bytes: &[u8], limits: &ReadingLimits) -> Result<Kind, WorkbookProblem> {
    match sniff(bytes) {
        Container::Zip => guard_archive(bytes, limits),
        Container::Ole if contains_name(bytes, ENCRYPTED) => Err(WorkbookProblem::Encrypted),
        Container::Ole => Ok(Kind::Xls),
        Container::Other => Err(WorkbookProblem::NotAWorkbook),
    }
}

fn kind(archive: &mut ZipArchive<Cursor<&[u8]>>) -> Option<Kind> {
    if archive.index_for_name(XLSX_PART).is_some() {
        return Some(Kind::Xlsx);
    }
    let mut declared = [0_u8; ODS_TYPE.len()];
    archive.by_name("mimetype").ok()?.read_exact(&mut declared).ok()?;
    (declared == ODS_TYPE).then_some(Kind::Ods)
}

fn contains_name(bytes: &[u8], name: &str) -> bool {
    let wanted: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    // An entry of the directory has 128 bytes, begins with its name, and sectors are multiples of 128.
    bytes.chunks(128).any(|entry| entry.starts_with(&wanted))
}

/// Inflates everything once, within limits, and throws it away.
fn guard_archive(bytes: &[u8], limits: &ReadingLimits) -> Result<Kind, WorkbookProblem> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|_| WorkbookProblem::NotAWorkbook)?;
    if archive.len() > limits.workbook_entries {
        return Err(WorkbookProblem::TooManyFiles {
            limit: limits.workbook_entries,
        });
    }
    let kind = kind(&mut archive).ok_or(WorkbookProblem::NotAWorkbook)?;
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
        if content.len() > room {
            let limit = limits.workbook_bytes;
            return Err(WorkbookProblem::TooLarge { limit });
        }
        if total > RATIO_FREE_BYTES && total / bytes.len().max(1) >= limits.workbook_ratio {
            let limit = limits.workbook_ratio;
            return Err(WorkbookProblem::TooDense { limit });
        }
        if sniff(&content) != Container::Other {
            return Err(WorkbookProblem::Nested);
        }
        if name.ends_with(".xml") || name.ends_with(".rels") || looks_like_text(&content) {
            check_xml(&name, &content, limits, &mut other_elements)?;
        }
    }
    Ok(kind)
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
    let too_many_texts = WorkbookProblem::TooManyTexts {
        limit: limits.shared_strings,
    };
    if declared_counts(content).any(|count| count.is_none_or(|count| count > limits.shared_strings)) {
        return Err(too_many_texts);
    }
    if name == "content.xml" && !is_balanced(content) {
        return Err(WorkbookProblem::NotAWorkbook);
    }
    // Sheets are read as a stream and counted by their cells. What lies beside them under another name is not a sheet.
    if name.starts_with("xl/worksheets/sheet") || name == "content.xml" {
        return Ok(());
    }
    let elements = content.iter().filter(|byte| **byte == b'<').count();
    if name.ends_with("sharedstrings.xml") {
        let most = limits.shared_strings.saturating_mul(ELEMENTS_PER_STRING);
        return if elements > most { Err(too_many_texts) } else { Ok(()) };
    }
    *other_elements += elements;
    if *other_elements > MAX_OTHER_ELEMENTS {
        Err(WorkbookProblem::TooManyElements {
            limit: MAX_OTHER_ELEMENTS,
        })
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
