//! The fifty order mails of `tests/mails`, each with what is recognised in it as a text that a person can review. With
//! `UPDATE_SNAPSHOTS=1` in the environment the texts are written anew instead of compared.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::*;
use crate::desk::DeskOptions;
use crate::domain::CustomerProfile;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mails")
}

#[derive(Deserialize)]
struct Customers {
    profiles: Vec<CustomerProfile>,
}

struct Shop {
    catalogue: Catalogue,
    settings: DeskSettings,
}

impl Shop {
    fn open() -> Self {
        let read = |name: &str| fs::read_to_string(folder().join(name)).unwrap();
        let Customers { profiles } = toml::from_str(&read("profiles.toml")).unwrap();
        let options = DeskOptions {
            profiles,
            ..DeskOptions::default()
        };
        Self {
            catalogue: Catalogue::from_csv(read("catalogue.csv").as_bytes(), "catalogue.csv").unwrap(),
            settings: options.validate().unwrap(),
        }
    }

    fn explain(&self, raw: &[u8]) -> Explained {
        explain(raw, &self.catalogue, &self.settings, Timestamp::UNIX_EPOCH).unwrap()
    }
}

fn mails() -> Vec<PathBuf> {
    let entries = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut mails: Vec<PathBuf> = entries
        .filter(|path| path.extension().is_some_and(|extension| extension == "eml"))
        .collect();
    mails.sort();
    mails
}

/// The page without the wording of the reply, which a business may change.
fn snapshot(explained: &Explained) -> String {
    let page = told(&serde_json::to_value(explained).unwrap());
    let lines = page.lines().filter(|line| !line.starts_with("  | "));
    lines.map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Two texts line by line: what only the first has after `-`, what only the second has after `+`.
fn difference(expected: &str, found: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), found.lines().collect());
    // The longest common sequence of lines, from each place on.
    let mut longest = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for at in (0..old.len()).rev() {
        for to in (0..new.len()).rev() {
            longest[at][to] = if old[at] == new[to] {
                longest[at + 1][to + 1] + 1
            } else {
                longest[at + 1][to].max(longest[at][to + 1])
            };
        }
    }
    let (mut at, mut to, mut shown) = (0, 0, String::new());
    while at < old.len() || to < new.len() {
        let (sign, line) = if at < old.len() && to < new.len() && old[at] == new[to] {
            (at, to) = (at + 1, to + 1);
            (' ', new[to - 1])
        } else if to == new.len() || at < old.len() && longest[at + 1][to] >= longest[at][to + 1] {
            at += 1;
            ('-', old[at - 1])
        } else {
            to += 1;
            ('+', new[to - 1])
        };
        shown.push_str(&format!("{sign} {line}\n"));
    }
    shown
}

#[test]
fn fifty_mails_are_understood_as_their_snapshots_say() {
    let shop = Shop::open();
    let rewrite = std::env::var_os("UPDATE_SNAPSHOTS").is_some_and(|value| value == "1");
    let mut different = Vec::new();
    for mail in mails() {
        let found = snapshot(&shop.explain(&fs::read(&mail).unwrap()));
        let place = mail.with_extension("txt");
        let expected = fs::read_to_string(&place).unwrap_or_default();
        if rewrite {
            fs::write(&place, &found).unwrap();
        } else if expected != found {
            let name = place.file_name().unwrap().to_string_lossy().into_owned();
            different.push(format!("{name}\n{}", difference(&expected, &found)));
        }
    }
    assert!(
        different.is_empty(),
        "{} mails are understood in another way; if that is meant, run this test with UPDATE_SNAPSHOTS=1\n\n{}",
        different.len(),
        different.join("\n")
    );
}

#[test]
fn there_are_fifty_mails_and_a_snapshot_of_each() {
    let mails = mails();
    assert_eq!(mails.len(), 50);
    for mail in mails {
        assert!(mail.with_extension("txt").exists(), "{}", mail.display());
    }
}

#[test]
fn a_difference_is_shown_line_by_line() {
    assert_eq!(difference("a\nb\nc\n", "a\nx\nc\nd\n"), "  a\n- b\n+ x\n  c\n+ d\n");
}

#[test]
fn cut_off_anywhere_a_mail_is_read_or_refused_and_never_more_than_it_was() {
    let shop = Shop::open();
    for mail in mails() {
        let raw = fs::read(&mail).unwrap();
        for part in 1..8 {
            let cut = &raw[..raw.len() * part / 8];
            if let Ok(explained) = explain(cut, &shop.catalogue, &shop.settings, Timestamp::UNIX_EPOCH) {
                assert!(
                    explained.lines.len() <= 60,
                    "{} cut to {} bytes",
                    mail.display(),
                    cut.len()
                );
            }
        }
    }
}
