//! Lists that are nearly always empty, or of one: there are very many of them, and a vector would take three times the
//! space, or a place of its own.

use std::ops::{Deref, DerefMut};

/// A list that is nearly always empty.
#[derive(Clone, Debug)]
pub(crate) struct Few<T>(
    #[expect(
        clippy::box_collection,
        reason = "a vector takes three times the space while it is empty"
    )]
    Option<Box<Vec<T>>>,
);

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> From<Vec<T>> for Few<T> {
    fn from(list: Vec<T>) -> Self {
        Self((!list.is_empty()).then(|| Box::new(list)))
    }
}

impl<T> Few<T> {
    pub(crate) fn push(&mut self, value: T) {
        self.0.get_or_insert_default().push(value);
    }

    pub(crate) fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        if let Some(list) = &mut self.0 {
            list.retain(keep);
        }
        self.0.take_if(|list| list.is_empty());
    }

    pub(crate) fn into_vec(self) -> Vec<T> {
        self.0.map_or_else(Vec::new, |list| *list)
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.0.as_deref().map_or(&[], |list| list)
    }
}

impl<T> DerefMut for Few<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.0.as_deref_mut().map_or(&mut [], |list| list)
    }
}

/// A list that grows and is nearly always of one.
#[derive(Debug)]
pub(crate) struct OneOrMore<T> {
    first: Option<T>,
    more: Few<T>,
}

impl<T> Default for OneOrMore<T> {
    fn default() -> Self {
        Self {
            first: None,
            more: Few::default(),
        }
    }
}

impl<T> OneOrMore<T> {
    pub(crate) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.len()
    }

    pub(crate) fn push(&mut self, value: T) {
        match self.first {
            None => self.first = Some(value),
            Some(_) => self.more.push(value),
        }
    }

    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        match index.checked_sub(1) {
            None => self.first.as_ref(),
            Some(index) => self.more.get(index),
        }
    }

    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        match index.checked_sub(1) {
            None => self.first.as_mut(),
            Some(index) => self.more.get_mut(index),
        }
    }

    /// The one at this place; those that are missing up to there are made.
    pub(crate) fn get_or_push(&mut self, index: usize, make: impl Fn() -> T) -> &mut T {
        let first = self.first.get_or_insert_with(&make);
        match index.checked_sub(1) {
            None => first,
            Some(index) => {
                let more = self.more.0.get_or_insert_default();
                let missing = (index + 1).saturating_sub(more.len());
                more.extend(std::iter::repeat_with(make).take(missing));
                &mut more[index]
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.first.iter().chain(self.more.iter())
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.first.iter_mut().chain(self.more.iter_mut())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_lists() {
        let mut list = OneOrMore::default();
        for number in 0..5 {
            assert_eq!((list.len(), list.get(number)), (number, None));
            list.push(number);
        }
        list.iter_mut().for_each(|number| *number *= 2);
        assert_eq!(list.iter().copied().collect::<Vec<_>>(), [0, 2, 4, 6, 8]);
        assert_eq!(list.get_mut(4), Some(&mut 8));
        let mut few = Few::default();
        assert_eq!((few.len(), size_of_val(&few)), (0, size_of::<usize>()));
        [3, 4, 5].into_iter().for_each(|number| few.push(number));
        few.retain(|number| *number > 4);
        assert_eq!(few[..], [5]);
        few.retain(|_| false);
        assert!(few.0.is_none() && few.into_vec().is_empty());
    }
}
