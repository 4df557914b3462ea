//! The catalogue of failures and the tests that make each of them happen: a test says in its name which one it is about
//! (`failure_19_after_a_kill_…`), `FAILURES.md` says what it is and names all its tests. The rule keeps the two in step, and
//! [`rewritten`] writes the names anew.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::Fault;
use super::tree::Tree;

pub(super) const FILE: &str = "FAILURES.md";

/// Those that must have a test: the failures of servers and files on which tasks and logs are kept, and of configuration.
const TESTED: [RangeInclusive<u32>; 2] = [19..=42, 53..=58];

/// A place in the house, and the tests there, by name.
type Places = BTreeMap<&'static str, BTreeSet<String>>;

/// The table names each failure, and all of its tests.
pub(super) fn failures(tree: &Tree) -> Vec<Fault> {
    // What is no checkout of this house has no catalogue.
    let Some(file) = tree.file(FILE) else {
        return Vec::new();
    };
    let tests = tests(tree);
    let mut faults: Vec<Fault> = TESTED
        .into_iter()
        .flatten()
        .filter(|number| !tests.contains_key(number))
        .map(|number| {
            let message = format!("failure {number} has no test: write one named `failure_{number}_…`");
            Fault::new(FILE, line_of(&file.text, number), message)
        })
        .collect();
    for (number, places) in &tests {
        match row(&file.text, *number) {
            None => {
                let names: Vec<&String> = places.values().flatten().collect();
                let message = format!("the table lacks failure {number}, of which these tests are: {names:?}");
                faults.push(Fault::new(FILE, 1, message));
            }
            Some((line, text)) if with_names(text, places).as_deref() != Some(text) => {
                let message = format!("the tests of failure {number} are others: run `cargo xtask failures`");
                faults.push(Fault::new(FILE, line, message));
            }
            Some(_) => {}
        }
    }
    faults
}

/// The catalogue with the names of all tests as they are.
pub(super) fn rewritten(tree: &Tree) -> Option<String> {
    let tests = tests(tree);
    let lines = tree.file(FILE)?.text.lines().map(|line| {
        let places = number_of(line).and_then(|number| tests.get(&number));
        let named = places.and_then(|places| with_names(line, places));
        named.unwrap_or_else(|| line.to_owned()) + "\n"
    });
    Some(lines.collect())
}

/// The tests of each failure.
fn tests(tree: &Tree) -> BTreeMap<u32, Places> {
    let mut found: BTreeMap<u32, Places> = BTreeMap::new();
    for (path, source) in tree.sources() {
        let mut is_test = false;
        for line in source.bare.lines().map(str::trim) {
            if line.starts_with("#[") {
                is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
                continue;
            }
            let function = line.trim_start_matches("async ").strip_prefix("fn ");
            if let Some(name) = function.and_then(|rest| rest.split('(').next())
                && is_test
            {
                for number in numbers(name) {
                    let places = found.entry(number).or_default();
                    places.entry(place(path)).or_default().insert(name.to_owned());
                }
            }
            is_test &= line.is_empty();
        }
    }
    found
}

/// The failures that a test is about: `failure_19_…`, or `failures_1_and_38_…`.
fn numbers(name: &str) -> Vec<u32> {
    let rest = name.strip_prefix("failures_").or_else(|| name.strip_prefix("failure_"));
    let parts = rest.unwrap_or_default().split('_').filter(|part| *part != "and");
    parts.map_while(|part| part.parse().ok()).collect()
}

/// Whom a test is about, as people call it.
fn place(path: &str) -> &'static str {
    const PLACES: [(&str, &str); 10] = [
        ("/postgres/", "PostgreSQL"),
        ("/sqlite/", "SQLite"),
        ("adapters/plba-redis/", "Redis"),
        ("adapters/plba-mail/", "mail"),
        ("adapters/plba-http/", "HTTP"),
        ("apps/mail-order-bot/", "the bot"),
        ("crates/plba-runtime/", "runtime"),
        ("crates/plba/", "processes"),
        ("crates/plba-tasks/", "tasks"),
        ("crates/plba-testkit/", "tasks"),
    ];
    let found = PLACES.iter().find(|(part, _)| path.contains(part));
    found.map_or("elsewhere", |(_, place)| place)
}

/// The number that a line of the table begins with.
fn number_of(line: &str) -> Option<u32> {
    line.strip_prefix("| ")?.split(' ').next()?.parse().ok()
}

/// The line of a failure, counted from 1, and its text.
fn row(text: &str, number: u32) -> Option<(usize, &str)> {
    let mut lines = text.lines().enumerate();
    let found = lines.find(|(_, line)| number_of(line) == Some(number));
    found.map(|(at, line)| (at + 1, line))
}

fn line_of(text: &str, number: u32) -> usize {
    row(text, number).map_or(1, |(line, _)| line)
}

/// A line with its last cell made of these names; nothing for what is no line of the table.
fn with_names(line: &str, places: &Places) -> Option<String> {
    let mut cells = line.split(" | ");
    let (number, what) = (cells.next()?, cells.next()?);
    let of_place = |(place, names): (&&str, &BTreeSet<String>)| {
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        format!("{place}: {}", names.join(", "))
    };
    let names: Vec<String> = places.iter().map(of_place).collect();
    Some(format!("{number} | {what} | {} |", names.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REDIS: &str = "//! X.\n#[test]\nfn failure_19_after_a_kill() {}\nfn failure_20_helper() {}\n";
    const SQLITE: &str = "//! X.\n#[test]\n#[ignore]\nfn failures_19_and_21_together() {}\n";

    fn tree(table: &str) -> Tree {
        Tree::of(&[
            (FILE, table),
            ("adapters/plba-redis/tests/it/failures.rs", REDIS),
            ("adapters/plba-sql/tests/it/sqlite/faults.rs", SQLITE),
        ])
    }

    fn messages(table: &str) -> Vec<String> {
        failures(&tree(table)).into_iter().map(|fault| fault.message).collect()
    }

    #[test]
    fn a_failure_without_a_test_is_named_and_a_helper_is_no_test() {
        let found = messages("");
        assert!(
            found
                .iter()
                .any(|message| message.starts_with("failure 20 has no test")),
            "{found:?}"
        );
        assert!(
            !found
                .iter()
                .any(|message| message.starts_with("failure 19 has no test")),
            "{found:?}"
        );
        assert!(
            found.iter().any(|message| message.contains("lacks failure 21")),
            "{found:?}"
        );
    }

    #[test]
    fn the_names_are_written_anew_and_then_nothing_is_wrong_with_them() {
        let table = "# T\n\n| 19 | restarts | Redis: `gone` |\n| 21 | no memory | |\n";
        let stale = messages(table);
        assert_eq!(
            stale.iter().filter(|message| message.contains("are others")).count(),
            2,
            "{stale:?}"
        );
        let written = rewritten(&tree(table)).unwrap();
        let first = "| 19 | restarts | Redis: `failure_19_after_a_kill`; SQLite: `failures_19_and_21_together` |";
        assert_eq!(written.lines().nth(2), Some(first));
        let left = messages(&written);
        assert!(left.iter().all(|message| message.contains("has no test")), "{left:?}");
    }
}
