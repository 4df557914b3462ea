//! How much of a message is read before it is refused.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Bounds on everything a sender controls. The defaults fit any order a person would write and keep a hostile message
/// below about 150 MB of memory and a few seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ReadingLimits {
    /// Bytes of the whole message. Default 20 MiB.
    pub message_bytes: usize,
    /// Bytes of all headers, those of parts included. Default 256 KiB.
    pub header_bytes: usize,
    /// Header fields, those of parts included. Default 1,000.
    pub headers: usize,
    /// MIME parts. Default 1,000.
    pub parts: usize,
    /// Levels of nested multiparts. Default 64.
    pub depth: usize,
    /// Order lines of one message. Default 2,000.
    pub lines: usize,
    /// Cells of one table or sheet. Default 200,000.
    pub cells: usize,
    /// Bytes of text, HTML or CSV that are searched for lines, per part. Default 4 MiB.
    pub text_bytes: usize,
    /// Files inside a workbook. Default 1,000.
    pub workbook_entries: usize,
    /// Bytes of a workbook after inflating, all its files together. Default 16 MiB.
    pub workbook_bytes: usize,
    /// How many times larger than its compressed form a workbook may become, once past 1 MiB. Default 200.
    pub workbook_ratio: usize,
    /// Shared strings of a workbook. Default 100,000.
    pub shared_strings: usize,
    /// Bytes of address space of the process that parses a workbook, its program included. Default 512 MiB.
    pub workbook_memory: usize,
    /// Seconds of processor time that parsing a workbook may take; on the clock twice as many. Default 10.
    pub workbook_seconds: u64,
}

impl Default for ReadingLimits {
    fn default() -> Self {
        Self {
            message_bytes: 20 << 20,
            header_bytes: 256 << 10,
            headers: 1000,
            parts: 1000,
            depth: 64,
            lines: 2000,
            cells: 200_000,
            text_bytes: 4 << 20,
            workbook_entries: 1000,
            workbook_bytes: 16 << 20,
            workbook_ratio: 200,
            shared_strings: 100_000,
            workbook_memory: 512 << 20,
            workbook_seconds: 10,
        }
    }
}
