//! Which entries this process has published: known to it alone, and gone with it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

/// The keys of entries whose tasks this process has published, by source.
#[derive(Default)]
pub(super) struct Published(Mutex<HashMap<String, HashSet<Arc<str>>>>);

impl Published {
    pub(super) fn add<'a>(&self, source: &str, keys: impl IntoIterator<Item = &'a Arc<str>>) {
        let mut published = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = published.entry(source.to_owned()).or_default();
        own.extend(keys.into_iter().cloned());
    }

    pub(super) fn remove<'a>(&self, source: &str, keys: impl IntoIterator<Item = &'a Arc<str>>) {
        let mut published = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = published.get_mut(source) {
            for key in keys {
                own.remove(key);
            }
        }
    }

    pub(super) fn contains(&self, source: &str, key: &str) -> bool {
        let published = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        published.get(source).is_some_and(|own| own.contains(key))
    }
}
