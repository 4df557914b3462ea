//! The HTML body: its tables as rows, and all its text as lines. A tokenizer, no tree: linear in the
//! input, bounded in cells and nesting. Tables inside `<blockquote>` are somebody else's mail and left out.

use html5gum::{DefaultEmitter, HtmlString, StartTag, Token, Tokenizer};

use super::draft::Value;
use super::headings::ANSWER_HEADING;
use super::table::{MAX_COLUMNS, Row};

/// Deepest nesting of tables; mails that are laid out with tables reach about ten.
const MAX_TABLE_DEPTH: usize = 64;

/// Elements that are closed by an end tag of their own, so that what they hide has an end.
const HIDING: [&[u8]; 9] = [
    b"div", b"span", b"section", b"table", b"ul", b"ol", b"center", b"font", b"b",
];

/// What an HTML body holds.
#[derive(Debug, Default)]
pub(super) struct HtmlContent {
    /// The tables in the order in which they end, inner ones first.
    pub(super) tables: Vec<HtmlTable>,
    /// The text, each cell of a table on lines of its own: mails are laid out with tables.
    pub(super) text: String,
    /// Whether a limit cut something off.
    pub(super) truncated: bool,
}

/// A table and where it stands.
#[derive(Debug, Default)]
pub(super) struct HtmlTable {
    pub(super) rows: Vec<Row>,
    /// Where it begins in the text, in bytes.
    pub(super) at: usize,
}

#[derive(Default)]
struct OpenTable {
    rows: Vec<Row>,
    cells: Vec<Value>,
    cell: Option<String>,
    /// Columns that the open cell spans beyond its first.
    extra_columns: usize,
    /// Where the text of the table begins in the text of the page.
    text_start: usize,
}

struct HtmlReader {
    content: HtmlContent,
    open: Vec<OpenTable>,
    /// Tables opened beyond the depth limit, which are passed over.
    too_deep: usize,
    quotes: usize,
    /// Whether quotes are read: a mail that forwards another one may quote it.
    with_quotes: bool,
    silent: usize,
    /// The element that its page hides and that is open, and how many of its kind are open in it.
    hidden: Option<(HtmlString, usize)>,
    cells_left: usize,
}

/// Reads at most `cells` cells; `with_quotes` takes what is quoted for a part of the mail.
pub(super) fn read(html: &str, cells: usize, with_quotes: bool) -> HtmlContent {
    let mut emitter = DefaultEmitter::default();
    emitter.naively_switch_states(true);
    let mut reader = HtmlReader {
        content: HtmlContent::default(),
        open: Vec::new(),
        too_deep: 0,
        quotes: 0,
        with_quotes,
        silent: 0,
        hidden: None,
        cells_left: cells,
    };
    for token in Tokenizer::new_with_emitter(html, emitter) {
        let Ok(token) = token;
        match token {
            Token::StartTag(tag) => reader.start(&tag),
            Token::EndTag(tag) => reader.end(&tag.name),
            Token::String(text) => reader.text(&String::from_utf8_lossy(&text)),
            _ => {}
        }
    }
    while !reader.open.is_empty() {
        reader.close_table();
    }
    reader.content
}

impl HtmlReader {
    fn start(&mut self, tag: &StartTag<()>) {
        if self.is_hidden(tag) {
            return;
        }
        match tag.name.as_slice() {
            b"table" if self.open.len() < MAX_TABLE_DEPTH => {
                let text_start = self.content.text.len();
                self.open.push(OpenTable {
                    text_start,
                    ..OpenTable::default()
                });
            }
            b"table" => {
                self.too_deep += 1;
                self.content.truncated = true;
            }
            b"tr" => self.close_row(),
            b"td" | b"th" => self.open_cell(tag),
            b"blockquote" if self.with_quotes => self.line_break(),
            b"blockquote" => self.quotes += 1,
            b"style" | b"script" | b"title" | b"template" if !tag.self_closing => self.silent += 1,
            b"br" | b"p" | b"div" | b"li" | b"h1" | b"h2" | b"h3" => self.line_break(),
            _ => {}
        }
    }

    /// Whether the tag belongs to what nobody sees: texts for previews, and what somebody hides. Cells and rows of tables are
    /// left alone, since what they hide would move the columns.
    fn is_hidden(&mut self, tag: &StartTag<()>) -> bool {
        if let Some((hiding, inside)) = &mut self.hidden {
            *inside += usize::from(*hiding == tag.name && !tag.self_closing);
            return true;
        }
        let may_hide = HIDING.contains(&tag.name.as_slice()) && !tag.self_closing;
        if may_hide && hides(tag) {
            self.hidden = Some((tag.name.clone(), 0));
            // Text before and behind it are not one word.
            self.content.text.push(' ');
        }
        self.hidden.is_some()
    }

    fn end(&mut self, name: &HtmlString) {
        if let Some((hiding, inside)) = &mut self.hidden {
            match (hiding == name, *inside) {
                (true, 0) => self.hidden = None,
                (true, _) => *inside -= 1,
                (false, _) => {}
            }
            return;
        }
        match name.as_slice() {
            b"table" if self.too_deep > 0 => self.too_deep -= 1,
            b"table" => self.close_table(),
            b"tr" => self.close_row(),
            b"td" | b"th" => self.close_cell(),
            b"blockquote" => self.quotes = self.quotes.saturating_sub(1),
            b"style" | b"script" | b"title" | b"template" => self.silent = self.silent.saturating_sub(1),
            b"p" | b"div" | b"li" | b"h1" | b"h2" | b"h3" => self.line_break(),
            _ => {}
        }
    }

    fn text(&mut self, text: &str) {
        if self.silent > 0 || self.quotes > 0 || self.too_deep > 0 || self.hidden.is_some() {
            return;
        }
        if let Some(OpenTable { cell: Some(cell), .. }) = self.open.last_mut()
            && cell.len() < 4 * super::text::MAX_LINE_CHARS
        {
            cell.push_str(text);
        }
        let mut pieces = text.split(['\n', '\r']);
        self.content.text.push_str(pieces.next().unwrap_or_default());
        for piece in pieces {
            self.content.text.push(' ');
            self.content.text.push_str(piece.trim_start());
        }
    }

    fn line_break(&mut self) {
        if let Some(OpenTable { cell: Some(cell), .. }) = self.open.last_mut() {
            cell.push(' ');
        }
        self.content.text.push('\n');
    }

    fn open_cell(&mut self, tag: &StartTag<()>) {
        self.close_cell();
        self.content.text.push('\n');
        let span = tag.attributes.get(b"colspan".as_slice());
        let span = span
            .and_then(|value| String::from_utf8_lossy(value).trim().parse::<usize>().ok())
            .unwrap_or(1);
        if self.cells_left == 0 {
            self.content.truncated = true;
            return;
        }
        if let (Some(table), 0) = (self.open.last_mut(), self.too_deep) {
            self.cells_left -= 1;
            table.cell = Some(String::new());
            table.extra_columns = span.clamp(1, MAX_COLUMNS) - 1;
        }
    }

    fn close_cell(&mut self) {
        let Some(table) = self.open.last_mut() else { return };
        let Some(text) = table.cell.take() else { return };
        if table.cells.len() < MAX_COLUMNS {
            let text: Vec<&str> = text.split_whitespace().collect();
            table.cells.push(Value::text(&text.join(" ")));
            let width = (table.cells.len() + table.extra_columns).min(MAX_COLUMNS);
            table.cells.resize(width, Value::default());
        }
    }

    fn close_row(&mut self) {
        self.close_cell();
        if let Some(table) = self.open.last_mut()
            && !table.cells.is_empty()
        {
            let number = u32::try_from(table.rows.len() + 1).unwrap_or(u32::MAX);
            table.rows.push(Row {
                number,
                cells: std::mem::take(&mut table.cells),
            });
        }
    }

    fn close_table(&mut self) {
        self.close_row();
        self.content.text.push('\n');
        let Some(table) = self.open.pop() else { return };
        let answer = |cell: &Value| cell.text.eq_ignore_ascii_case(ANSWER_HEADING);
        if table
            .rows
            .first()
            .is_some_and(|headings| headings.cells.iter().any(answer))
        {
            // An answer of ours, quoted back: neither its rows nor its text are an order.
            self.content.text.truncate(table.text_start);
            return;
        }
        if self.quotes == 0 && !table.rows.is_empty() {
            self.content.tables.push(HtmlTable {
                rows: table.rows,
                at: table.text_start,
            });
        }
    }
}

/// Whether the page says that this element is not shown.
fn hides(tag: &StartTag<()>) -> bool {
    if tag.attributes.contains_key(b"hidden".as_slice()) {
        return true;
    }
    let Some(style) = tag.attributes.get(b"style".as_slice()) else {
        return false;
    };
    let style: String = String::from_utf8_lossy(style)
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_ascii_lowercase())
        .collect();
    style.contains("display:none") || style.contains("visibility:hidden")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(rows: &[Row]) -> Vec<Vec<&str>> {
        rows.iter()
            .map(|row| row.cells.iter().map(|cell| cell.text.as_str()).collect())
            .collect()
    }

    #[test]
    fn tables_are_read_however_they_are_closed() {
        let html =
            "<p>Hello</p><table><tr><th>Article<th>Qty</tr><tr><td>A&amp;B&nbsp;1</td><td><b>2</b> <br>pcs</table>bye";
        let content = read(html, 100, false);
        assert_eq!(
            texts(&content.tables[0].rows),
            [vec!["Article", "Qty"], vec!["A&B 1", "2 pcs"]]
        );
        assert!(content.text.contains("Hello") && content.text.contains("bye"));
    }

    #[test]
    fn inner_tables_are_tables_and_quoted_ones_are_not() {
        let html = "<table><tr><td>layout<table><tr><td colspan=2>x<td>y</table></table>\
                    <blockquote><table><tr><td>old</table></blockquote><style>td{}</style>";
        let content = read(html, 100, false);
        assert_eq!(content.tables.len(), 2);
        assert_eq!(texts(&content.tables[0].rows), [vec!["x", "", "y"]]);
        assert_eq!(read(html, 100, true).tables.len(), 3);
        assert!(!content.text.contains("td{}"));
    }

    #[test]
    fn what_a_page_hides_is_not_read() {
        let html = "<div style='DISPLAY: none !important'>9 x A-1<div>9 x A-2</div><table><tr><td>9</table></div>\
                    2 x A-3<span hidden>9 x A-4</span><br/><span style=color:red>3 x A-5</span>\
                    <table style=\"visibility:hidden\"><tr><td>9 x A-6</table>1 x A-7";
        let content = read(html, 100, false);
        let lines: Vec<&str> = content
            .text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        assert_eq!(lines, ["2 x A-3", "3 x A-5 1 x A-7"]);
        assert!(content.tables.is_empty());
    }

    #[test]
    fn text_in_a_layout_table_keeps_its_lines() {
        let content = read(
            "<table><tr><td>Hello<br>2 x A-1\n @ 3<p>1 x A-2</td><td>x</td></table>bye",
            100,
            false,
        );
        let lines: Vec<&str> = content.text.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(lines, ["Hello", "2 x A-1 @ 3", "1 x A-2", "x", "bye"]);
    }

    #[test]
    fn cells_and_nesting_are_bounded() {
        let content = read(&format!("<table><tr>{}", "<td>1".repeat(1000)), 10, false);
        assert!(content.truncated);
        assert_eq!(content.tables[0].rows[0].cells.len(), 10);
        let content = read(&"<table><tr><td>".repeat(100_000), 1_000_000, false);
        assert!(content.truncated);
        assert!(content.tables.len() <= MAX_TABLE_DEPTH);
        let content = read(&"<div>".repeat(500_000), 10, false);
        assert!(content.tables.is_empty());
    }
}
