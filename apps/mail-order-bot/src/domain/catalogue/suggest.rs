//! Which article may be meant by a reference that names none. An index that is built once; a question costs a number of
//! look-ups that depends on the length of the reference, never on the size of the catalogue.

use std::collections::HashMap;

use super::Article;

/// Longest reference that is looked for, in characters; the number of look-ups grows with it.
const MAX_LENGTH: usize = 40;
/// Words of a reference that are looked for.
const MAX_WORDS: usize = 8;
/// A word that more articles have says too little to be the first filter.
const MAX_POSTINGS: usize = 2_000;

#[derive(Debug, Clone, Default)]
pub(super) struct Suggestions {
    /// Articles by their folded number; `None` where several share it.
    by_folded_number: HashMap<String, Option<u32>>,
    /// Articles by their folded name.
    by_folded_name: HashMap<String, Option<u32>>,
    /// Articles by each word of their name.
    by_word: HashMap<String, Vec<u32>>,
}

impl Suggestions {
    pub(super) fn new(articles: &[Article]) -> Self {
        let mut index = Self::default();
        for (at, article) in (0_u32..).zip(articles) {
            let only = |map: &mut HashMap<String, Option<u32>>, key: String| {
                map.entry(key).and_modify(|known| *known = None).or_insert(Some(at));
            };
            only(&mut index.by_folded_number, folded(&article.number));
            only(&mut index.by_folded_name, folded(&article.name));
            let mut words: Vec<String> = words(&article.name).collect();
            words.sort_unstable();
            words.dedup();
            for word in words {
                index.by_word.entry(word).or_default().push(at);
            }
        }
        index
    }

    /// The position of the article that may be meant.
    pub(super) fn near(&self, reference: &str) -> Option<usize> {
        let key = folded(reference);
        let length = key.chars().count();
        if !(2..=MAX_LENGTH).contains(&length) {
            return None;
        }
        let alike = self
            .by_folded_number
            .get(&key)
            .or_else(|| self.by_folded_name.get(&key));
        let found = alike
            .copied()
            .flatten()
            .or_else(|| self.with_words(reference))
            .or_else(|| self.one_edit_away(&key));
        found.map(|at| at as usize)
    }

    /// The only article that one changed, missing, additional or swapped character leads to. Numbers that differ in the last
    /// digit alone are neighbours, not misprints: of these there are usually several, and then none is suggested.
    fn one_edit_away(&self, key: &str) -> Option<u32> {
        let characters: Vec<char> = key.chars().collect();
        if characters.len() < 4 {
            return None;
        }
        let mut found: Option<u32> = None;
        for variant in variants(&characters) {
            let near = self
                .by_folded_number
                .get(&variant)
                .or_else(|| self.by_folded_name.get(&variant));
            match (near.copied().flatten(), found) {
                (Some(at), None) => found = Some(at),
                (Some(at), Some(other)) if at != other => return None,
                _ => {}
            }
        }
        found
    }

    /// The only article whose name has all the words of `reference`.
    fn with_words(&self, reference: &str) -> Option<u32> {
        let words: Vec<String> = words(reference).take(MAX_WORDS + 1).collect();
        if words.is_empty() || words.len() > MAX_WORDS {
            return None;
        }
        let lists: Option<Vec<&Vec<u32>>> = words.iter().map(|word| self.by_word.get(word)).collect();
        let mut lists = lists?;
        lists.sort_unstable_by_key(|list| list.len());
        let (shortest, others) = lists.split_first()?;
        if shortest.len() > MAX_POSTINGS {
            return None;
        }
        let mut fitting = shortest
            .iter()
            .filter(|at| others.iter().all(|list| list.binary_search(at).is_ok()));
        let only = *fitting.next()?;
        fitting.next().is_none().then_some(only)
    }
}

/// Upper case, letters and digits only, with those made one that are taken for each other.
fn folded(reference: &str) -> String {
    let alike = |c: char| match c {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    reference
        .chars()
        .filter(|c| c.is_alphanumeric())
        .take(MAX_LENGTH + 1)
        .flat_map(char::to_uppercase)
        .map(alike)
        .collect()
}

/// The words of a name that say something.
fn words(name: &str) -> impl Iterator<Item = String> {
    name.split(|c: char| !c.is_alphanumeric())
        .filter(|word| word.chars().count() > 1)
        .map(str::to_lowercase)
}

fn variants(key: &[char]) -> impl Iterator<Item = String> {
    let letters = || ('A'..='Z').chain('0'..='9');
    let swapped = (0..key.len() - 1).map(|at| {
        let mut variant = key.to_vec();
        variant.swap(at, at + 1);
        variant
    });
    let dropped = (0..key.len()).map(|at| [&key[..at], &key[at + 1..]].concat());
    let changed = (0..key.len())
        .flat_map(move |at| letters().map(move |letter| [&key[..at], &[letter], &key[at + 1..]].concat()));
    let added =
        (0..=key.len()).flat_map(move |at| letters().map(move |letter| [&key[..at], &[letter], &key[at..]].concat()));
    swapped
        .chain(dropped)
        .chain(changed)
        .chain(added)
        .map(String::from_iter)
}

#[cfg(test)]
mod tests {
    use crate::domain::Catalogue;

    #[test]
    fn what_was_probably_meant_is_suggested_and_nothing_else() {
        let csv = "article,name,price\nART-001,Green tea 100 g,4.50\nART-002,Black tea 100 g,3.90\nTEAPOT-7,Tea pot 1 l,24.90\n\
                   00123,Paper filters,2.10\n";
        let catalogue = Catalogue::from_csv(csv.as_bytes(), "c.csv").unwrap();
        let near = |reference: &str| {
            catalogue
                .suggest(reference, None)
                .map(|article| article.number.as_str())
        };
        assert_eq!(near("art 001"), Some("ART-001"));
        assert_eq!(near("ART-O01"), Some("ART-001"), "the letter for the digit");
        assert_eq!(near("TEAPOT-77"), Some("TEAPOT-7"));
        assert_eq!(near("TEPAOT-7"), Some("TEAPOT-7"));
        assert_eq!(near("TEAPO7"), Some("TEAPOT-7"));
        assert_eq!(near("green tea"), Some("ART-001"));
        assert_eq!(near("filters"), Some("00123"));
        assert_eq!(near("tea"), None, "three have it");
        assert_eq!(near("ART-009"), None, "two are as near");
        assert_eq!(near("coffee"), None);
        assert_eq!(near(&"x".repeat(100_000)), None);
        let named = catalogue
            .suggest("4711", Some("black tea 100 g"))
            .map(|article| article.number.as_str());
        assert_eq!(named, Some("ART-002"));
    }
}
