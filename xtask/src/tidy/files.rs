//! Rules that look at one file at a time: its head, its length, its blanks, and whether it is finished.

use super::Fault;
use super::tree::Tree;

/// From here a file deserves a second look.
const LONG: usize = 400;

/// Beyond this a file is split.
const TOO_LONG: usize = 600;

/// Where files are somebody else's words, kept as they are: sample messages and broken configurations.
const SAMPLES: [&str; 4] = ["samples", "fixtures", "testdata", "corpus"];

/// Every Rust file begins by saying what lives in it and what does not.
pub(super) fn head(tree: &Tree) -> Vec<Fault> {
    let says = |text: &str| {
        text.lines()
            .next()
            .is_some_and(|line| line.starts_with("//!") && line.len() > 4)
    };
    let rust = tree.files().filter(|(path, _)| path.ends_with(".rs"));
    rust.filter(|(_, file)| !says(&file.text))
        .map(|(path, _)| Fault::new(path, 1, "begin the file with `//!`: what lives here and what does not"))
        .collect()
}

/// Files stay short.
pub(super) fn length(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (path, file) in tree.files().filter(|(path, _)| path.ends_with(".rs")) {
        let lines = file.text.lines().count();
        if lines > TOO_LONG {
            let message = format!("{lines} lines, at most {TOO_LONG}: split it, one noun a file");
            faults.push(Fault::new(path, lines, message));
        } else if lines > LONG {
            let message = format!("{lines} lines, a second look is due from {LONG}: is it one noun?");
            faults.push(Fault {
                advice: true,
                ..Fault::new(path, lines, message)
            });
        }
    }
    faults
}

/// Nothing is left for later in code or comments.
pub(super) fn unfinished(tree: &Tree) -> Vec<Fault> {
    const MACROS: [&str; 2] = ["todo!", "unimplemented!"];
    const MARKS: [&str; 3] = ["TODO", "FIXME", "XXX"];
    let mut faults = Vec::new();
    for (path, source) in tree.sources() {
        for (at, (bare, spoken)) in source.bare.lines().zip(source.spoken.lines()).enumerate() {
            let found = MACROS.iter().find(|name| contains_word(bare, name));
            if let Some(mark) = found.or_else(|| MARKS.iter().find(|mark| contains_word(spoken, mark))) {
                faults.push(Fault::new(
                    path,
                    at + 1,
                    format!("`{mark}`: finish it, or open an issue and say nothing here"),
                ));
            }
        }
    }
    for (path, file) in tree
        .files()
        .filter(|(path, file)| file.source.is_none() && is_code(path))
    {
        for (at, line) in file.text.lines().enumerate() {
            if let Some(mark) = MARKS.iter().find(|mark| contains_word(line, mark)) {
                faults.push(Fault::new(
                    path,
                    at + 1,
                    format!("`{mark}`: finish it, or open an issue and say nothing here"),
                ));
            }
        }
    }
    faults
}

/// No tabs, no blanks at the ends of lines, one newline at the end of the file.
pub(super) fn whitespace(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    let kept = |path: &str| path.split('/').any(|part| SAMPLES.contains(&part)) || path.starts_with("LICENSE");
    for (path, file) in tree.files().filter(|(path, _)| !kept(path)) {
        for (at, line) in file.text.split('\n').enumerate() {
            if line.contains('\t') {
                faults.push(Fault::new(
                    path,
                    at + 1,
                    "a tab: indent with spaces; in a string write `\\t`",
                ));
            }
            if line.ends_with([' ', '\t', '\r']) {
                faults.push(Fault::new(path, at + 1, "blanks at the end of the line: remove them"));
            }
        }
        let lines = file.text.lines().count().max(1);
        if !file.text.is_empty() && !file.text.ends_with('\n') {
            faults.push(Fault::new(path, lines, "no newline at the end of the file: add one"));
        } else if file.text.ends_with("\n\n") {
            faults.push(Fault::new(
                path,
                lines,
                "empty lines at the end of the file: remove them",
            ));
        }
    }
    faults
}

fn is_code(path: &str) -> bool {
    [
        ".toml", ".sh", ".js", ".css", ".html", ".sql", ".yml", ".yaml", ".ci/run",
    ]
    .iter()
    .any(|end| path.ends_with(end))
}

/// Whether the line contains the word, not as a part of a longer one.
fn contains_word(line: &str, word: &str) -> bool {
    let named = |letter: char| letter.is_alphanumeric() || letter == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back().is_some_and(named);
        let after = line[at + word.len()..].chars().next().is_some_and(named);
        !before && !after
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Check = fn(&Tree) -> Vec<Fault>;

    /// The lines at which a rule finds a fault in one file.
    fn check(rule: Check, path: &str, text: &str, expected: &[usize]) {
        let found: Vec<usize> = rule(&Tree::of(&[(path, text)]))
            .iter()
            .map(|fault| fault.line)
            .collect();
        assert_eq!(found, expected, "{path}: {text:?}");
    }

    #[test]
    fn a_file_says_what_lives_in_it() {
        check(head, "a.rs", "//! Ports.\n", &[]);
        check(head, "a.rs", "fn f() {}\n", &[1]);
        check(head, "a.rs", "\n//! Ports.\n", &[1]);
        check(head, "a.rs", "//!\n", &[1]);
        check(head, "a.rs", "", &[1]);
        check(head, "a.md", "text", &[]);
    }

    #[test]
    fn long_files_get_advice_and_very_long_ones_are_refused() {
        for (lines, faults, advice) in [(400, 0, false), (401, 1, true), (600, 1, true), (601, 1, false)] {
            let found = length(&Tree::of(&[("a.rs", &"x\n".repeat(lines))]));
            assert_eq!(found.len(), faults, "{lines}");
            assert!(found.iter().all(|fault| fault.advice == advice), "{lines}");
        }
    }

    #[test]
    fn nothing_is_left_for_later() {
        check(
            unfinished,
            "a.rs",
            "//! A.\nfn f() { todo!() }\n// FIXME: later\n",
            &[2, 3],
        );
        check(unfinished, "a.rs", "fn f() { unimplemented!(\"x\") }", &[1]);
        check(unfinished, "a.rs", "let TODOS = \"TODO todo!\"; my_todo!();", &[]);
        check(unfinished, "a.toml", "a = 1 # TODO", &[1]);
        check(unfinished, ".ci/run", "# FIXME", &[1]);
        check(unfinished, "a.md", "TODO", &[]);
    }

    #[test]
    fn blanks_are_where_they_belong() {
        check(whitespace, "a.rs", "a\n b\n", &[]);
        check(whitespace, "a.rs", "\ta\nb \n", &[1, 2]);
        check(whitespace, "a.md", "a\r\n", &[1]);
        check(whitespace, "a.toml", "a\nb", &[2]);
        check(whitespace, "a.toml", "a\n\n", &[2]);
        check(whitespace, "a.toml", "", &[]);
        check(whitespace, "apps/bot/samples/a.json", "\ta \n\n", &[]);
    }
}
