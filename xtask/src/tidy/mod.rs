//! `cargo xtask tidy`: the rules of the house that no compiler checks. This file runs the rules and prints what they
//! found; `tree` reads the checkout, `source` tells code from comments, and each group of rules has a file of its own.

mod contracts;
mod edges;
mod failures;
mod files;
mod house;
mod names;
mod source;
mod tree;

use std::fmt;

use crate::{Outcome, Stop};
use tree::Tree;

/// One rule: a function from the checkout to everything that is wrong with it.
struct Rule {
    name: &'static str,
    check: fn(&Tree) -> Vec<Fault>,
}

const RULES: &[Rule] = &[
    Rule {
        name: "edges",
        check: edges::edges,
    },
    Rule {
        name: "no-executor",
        check: contracts::no_executor,
    },
    Rule {
        name: "no-type-parameters",
        check: contracts::no_type_parameters,
    },
    Rule {
        name: "no-products",
        check: names::no_products,
    },
    Rule {
        name: "features",
        check: house::features,
    },
    Rule {
        name: "versions",
        check: house::versions,
    },
    Rule {
        name: "default-members",
        check: house::default_members,
    },
    Rule {
        name: "benches",
        check: house::benches,
    },
    Rule {
        name: "lock-file",
        check: house::lock_file,
    },
    Rule {
        name: "code-map",
        check: house::code_map,
    },
    Rule {
        name: "failures",
        check: failures::failures,
    },
    Rule {
        name: "head",
        check: files::head,
    },
    Rule {
        name: "length",
        check: files::length,
    },
    Rule {
        name: "unfinished",
        check: files::unfinished,
    },
    Rule {
        name: "whitespace",
        check: files::whitespace,
    },
];

/// Something wrong at a place, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Fault {
    file: String,
    /// Counts from 1.
    line: usize,
    message: String,
    /// Worth a look, but no reason to stop.
    advice: bool,
}

impl Fault {
    fn new(file: &str, line: usize, message: impl fmt::Display) -> Fault {
        Fault {
            file: file.to_owned(),
            line,
            message: message.to_string(),
            advice: false,
        }
    }
}

pub(crate) fn run() -> Outcome {
    let tree = Tree::read()?;
    let (advice, faults): (Vec<_>, Vec<_>) = check(&tree).into_iter().partition(|(_, fault)| fault.advice);
    for (
        rule,
        Fault {
            file, line, message, ..
        },
    ) in &faults
    {
        eprintln!("{file}:{line}: {rule}: {message}");
    }
    for (
        rule,
        Fault {
            file, line, message, ..
        },
    ) in &advice
    {
        println!("{file}:{line}: {rule} (advice): {message}");
    }
    if faults.is_empty() {
        println!(
            "tidy: {} files, {} rules, nothing wrong",
            tree.files().count(),
            RULES.len()
        );
        Ok(())
    } else {
        Err(Stop::Failed(format!(
            "tidy: {} things to put right: see above",
            faults.len()
        )))
    }
}

/// Writes the names of tests into the catalogue of failures.
pub(crate) fn write_failures() -> Outcome {
    let tree = Tree::read()?;
    let text = failures::rewritten(&tree).ok_or_else(|| Stop::Failed(format!("there is no {}", failures::FILE)))?;
    let path = crate::cargo::root().join(failures::FILE);
    std::fs::write(&path, text).map_err(|error| Stop::Failed(format!("could not write {}: {error}", path.display())))
}

/// Everything that any rule finds, in the order of places.
fn check(tree: &Tree) -> Vec<(&'static str, Fault)> {
    let mut found: Vec<(&'static str, Fault)> = RULES
        .iter()
        .flat_map(|rule| (rule.check)(tree).into_iter().map(|fault| (rule.name, fault)))
        .collect();
    found.sort_by(|(_, one), (_, other)| one.cmp(other));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_wrong_is_reported_at_once_in_the_order_of_places() {
        let tree = Tree::of(&[
            ("xtask/src/b.rs", "fn b() {}\t\n"),
            ("xtask/src/a.rs", "//! A.\n\nfn a() { todo!() }\n"),
        ]);
        let found = check(&tree);
        let places: Vec<(&str, usize, &str)> = found
            .iter()
            .map(|(rule, fault)| (fault.file.as_str(), fault.line, *rule))
            .collect();
        let of_sources: Vec<_> = places.into_iter().filter(|(file, ..)| file.ends_with(".rs")).collect();
        let expected = [
            ("xtask/src/a.rs", 3, "unfinished"),
            ("xtask/src/b.rs", 1, "head"),
            ("xtask/src/b.rs", 1, "whitespace"),
            ("xtask/src/b.rs", 1, "whitespace"),
        ];
        let mut sorted = of_sources.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, expected);
    }

    #[test]
    fn rules_have_names_of_their_own() {
        let mut names: Vec<&str> = RULES.iter().map(|rule| rule.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), RULES.len());
    }
}
