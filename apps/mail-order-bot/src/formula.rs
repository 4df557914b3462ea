//! Cells of exports that a spreadsheet program would take for formulas, made text (CWE-1236, ASVS 1.2.10). A stranger's words
//! go into such cells, and somebody else opens the file.

use std::borrow::Cow;

/// `cell` such that a spreadsheet program shows it and doesn't calculate it: a quotation mark before what begins like a
/// formula, and no NUL anywhere. Plain numbers such as `-5` and `+3,50` stay what they are.
#[must_use]
pub fn harmless(cell: &str) -> Cow<'_, str> {
    let cell = if cell.contains('\0') {
        Cow::Owned(cell.replace('\0', ""))
    } else {
        Cow::Borrowed(cell)
    };
    // Some programs skip white space and marks that nobody sees, and take the wide forms for the narrow ones.
    let skipped = |c: char| c == ' ' || matches!(c, '\u{a0}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}');
    let first = cell.chars().find(|c| !skipped(*c));
    let begins = first.is_some_and(|c| "=+-@\t\r\n＝＋－＠|%".contains(c));
    if begins && !is_number(&cell) {
        Cow::Owned(format!("'{cell}"))
    } else {
        cell
    }
}

fn is_number(cell: &str) -> bool {
    let digits = cell.strip_prefix(['+', '-']).unwrap_or(cell);
    let separators = digits.chars().filter(|c| matches!(c, '.' | ',')).count();
    digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.ends_with(|c: char| c.is_ascii_digit())
        && separators <= 1
        && digits.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | ','))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_75_cells_that_begin_like_formulas_become_text() {
        for cell in [
            "=1+1",
            "=HYPERLINK(\"http://evil.example\",\"click\")",
            "+1+cmd|' /C calc'!A0",
            "-2+3",
            "@SUM(1;1)",
            "\t=1",
            "\r=1",
            "\n=1",
            " =1+1",
            "\u{feff}=1",
            "＝1+1",
            "-",
            "-1,2,3",
            "|calc",
            "%0a=1",
        ] {
            assert_eq!(harmless(cell), format!("'{cell}"), "{cell:?}");
        }
        assert_eq!(harmless("\0=1"), "'=1");
        for cell in [
            "",
            "ART-001",
            "Tee, grün",
            "-5",
            "+3,50",
            "-12.5",
            "0049",
            "a=b",
            "jane@example.com",
        ] {
            assert_eq!(harmless(cell), cell);
        }
    }
}
