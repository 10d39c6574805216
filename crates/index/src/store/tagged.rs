use std::collections::BTreeMap;
use std::ops::Bound;

use batoff_types::Tag;
use dashmap::DashMap;

use super::page::Key;

/// Which objects carry a tag, and the one copy of each tag's text.
///
/// Tags of different sites with the same text share a list: whose an object is, is asked at evaluation.
pub(crate) struct Tagged {
    tags: DashMap<Tag, BTreeMap<u64, Key>, foldhash::fast::RandomState>,
}

impl Default for Tagged {
    fn default() -> Self {
        Self { tags: DashMap::with_hasher(foldhash::fast::RandomState::default()) }
    }
}

impl Tagged {
    /// Distinct tags that some object carries.
    pub(crate) fn len(&self) -> usize {
        self.tags.len()
    }

    /// An object that carries the tag came. Gives back the shared copy of the tag.
    pub(crate) fn enter(&self, tag: Tag, id: u64, key: &Key) -> Tag {
        let mut objects = self.tags.entry(tag).or_default();
        objects.insert(id, key.clone());
        objects.key().clone()
    }

    /// The object left.
    pub(crate) fn leave(&self, tag: &Tag, id: u64) {
        let empty = self.tags.get_mut(tag).is_some_and(|mut objects| {
            objects.remove(&id);
            objects.is_empty()
        });
        if empty {
            self.tags.remove_if(tag, |_, objects| objects.is_empty());
        }
    }

    /// Up to `max` objects that carry the tag, after the object `after`.
    pub(crate) fn after(&self, tag: &Tag, after: u64, max: usize) -> Vec<(u64, Key)> {
        let Some(objects) = self.tags.get(tag) else { return Vec::new() };
        let range = objects.range((Bound::Excluded(after), Bound::Unbounded));
        range.take(max).map(|(&id, key)| (id, key.clone())).collect()
    }
}
