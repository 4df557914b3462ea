//! What a definition was made from, as a stamp: by it a reload tells a service or worker that would be the same again from
//! one that has to be made anew. Comparing two sets of definitions is the runtime's business.

use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::sync::LazyLock;

use serde::Serialize;
use serde_json::Value;

use crate::secret::told_apart;

/// What a definition was made from, as a stamp of 128 bits.
///
/// Factories are closures, and two closures can't be compared. So whoever registers a service or worker says what its factory
/// holds, and two definitions that say the same are taken for the same. One that says nothing is never the same as another,
/// and is made anew whenever its module is.
///
/// The stamp tells secrets apart without keeping them, and means nothing outside its process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MadeFrom {
    stamp: [u64; 2],
    told: Told,
}

/// Whether somebody said what a definition was made from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Told {
    #[default]
    Nothing,
    Everything,
    /// Something was said that can't be compared.
    Unclear,
}

impl MadeFrom {
    /// It was made from this too, and from nothing that is not said. A value that can't be written as JSON can't be compared
    /// either: then nothing is ever the same as this.
    pub fn value(&mut self, value: &(impl Serialize + ?Sized)) {
        match told_apart(|| serde_json::to_value(value)) {
            Ok(value) => {
                self.mix(|hasher| feed(&value, hasher));
                if self.told == Told::Nothing {
                    self.told = Told::Everything;
                }
            }
            Err(_) => self.unclear(),
        }
    }

    /// A builder was given this besides: it counts, but leaves open whether all is said.
    pub fn detail(&mut self, detail: impl Hash) {
        self.mix(|hasher| detail.hash(hasher));
    }

    /// It was made from something that can't be compared: nothing is ever the same as this.
    pub fn unclear(&mut self) {
        self.told = Told::Unclear;
    }

    /// Whether both say what they were made from, and it is the same.
    pub fn is_same(&self, other: &Self) -> bool {
        self.told == Told::Everything && self == other
    }

    fn mix(&mut self, feed: impl Fn(&mut DefaultHasher)) {
        // The keys are this process's own, so a stamp tells nothing of a secret to whoever reads it elsewhere.
        static KEYS: LazyLock<[RandomState; 2]> = LazyLock::new(Default::default);
        for (stamp, keys) in self.stamp.iter_mut().zip(&*KEYS) {
            let mut hasher = keys.build_hasher();
            hasher.write_u64(*stamp);
            feed(&mut hasher);
            *stamp = hasher.finish();
        }
    }
}

/// Tables are fed by the order of their keys: that of a hash map differs from one to the next.
fn feed(value: &Value, hasher: &mut DefaultHasher) {
    match value {
        Value::Null => hasher.write_u8(0),
        Value::Bool(truth) => hasher.write_u8(1 + u8::from(*truth)),
        Value::Number(number) => (3_u8, number).hash(hasher),
        Value::String(text) => (4_u8, text).hash(hasher),
        Value::Array(items) => {
            (5_u8, items.len()).hash(hasher);
            items.iter().for_each(|item| feed(item, hasher));
        }
        Value::Object(table) => {
            (6_u8, table.len()).hash(hasher);
            let mut entries: Vec<_> = table.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            for (key, value) in entries {
                key.hash(hasher);
                feed(value, hasher);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::secret::Secret;

    fn made(value: &impl Serialize) -> MadeFrom {
        let mut made = MadeFrom::default();
        made.value(value);
        made
    }

    #[test]
    fn what_says_nothing_is_the_same_as_nothing() {
        assert!(!MadeFrom::default().is_same(&MadeFrom::default()));
        let mut detailed = MadeFrom::default();
        detailed.detail("interval");
        assert!(!detailed.is_same(&detailed.clone()));
        let unwritable = HashMap::from([((1, 2), 3)]);
        assert!(!made(&unwritable).is_same(&made(&unwritable)));
        let mut unclear = made(&1);
        unclear.unclear();
        unclear.value(&2);
        assert!(!unclear.is_same(&unclear.clone()));
    }

    #[test]
    fn the_same_values_and_details_are_the_same_and_others_are_not() {
        let table: HashMap<String, u32> = (0..50).map(|number| (format!("key{number}"), number)).collect();
        let again: HashMap<String, u32> = (0..50).rev().map(|number| (format!("key{number}"), number)).collect();
        assert!(
            made(&table).is_same(&made(&again)),
            "the order of a hash map is no difference"
        );
        let values = [
            made(&("a", "bc")),
            made(&("ab", "c")),
            made(&["a", "bc"].concat()),
            made(&(1.5, None::<u8>)),
            made(&(1.5, Some(0))),
            made(&Vec::<u8>::new()),
            made(&false),
        ];
        for (one, value) in values.iter().enumerate() {
            let same: Vec<_> = values.iter().map(|other| value.is_same(other)).collect();
            assert_eq!(same.iter().position(|same| *same), Some(one));
        }
        let (mut more, plain) = (made(&1), made(&1));
        more.detail("timeout");
        assert!(!more.is_same(&plain));
    }

    #[test]
    fn secrets_are_told_apart_and_still_not_told() {
        #[derive(Serialize)]
        struct Account {
            password: Secret,
        }
        let account = |password: &str| Account {
            password: Secret::from(password),
        };
        assert!(made(&account("one")).is_same(&made(&account("one"))));
        assert!(!made(&account("one")).is_same(&made(&account("two"))));
        assert_eq!(serde_json::to_string(&account("one")).unwrap(), r#"{"password":"***"}"#);
    }
}
