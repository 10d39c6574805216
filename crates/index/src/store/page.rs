use std::borrow::Borrow;
use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use batoff_types::{FillToken, PurgeUrl, Tag};
use smallvec::SmallVec;

use crate::Variant;
use crate::rules::{Carries, Tags, Target};

/// A URL, kept once for all maps and compared by what a purge of it means: `host[:port]/path[?query]`.
#[derive(Clone, Debug)]
pub(crate) struct Key(pub(crate) Arc<PurgeUrl>);

impl Key {
    pub(crate) fn text(&self) -> &str {
        self.0.key()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text().cmp(other.text())
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text().hash(state);
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        self.text()
    }
}

/// One object.
#[derive(Debug)]
pub(crate) struct Stored<L> {
    /// Rises with every insert, so that a walk over a tag's objects can go on where it was.
    pub(crate) id: u64,
    pub(crate) variant: Variant,
    pub(crate) token: FillToken,
    /// A soft purge hit it: said once, it is not counted again, and survives the forgetting of the rule.
    pub(crate) stale: bool,
    pub(crate) tags: Arc<[Tag]>,
    pub(crate) locator: L,
}

impl<L> Carries for Stored<L> {
    fn each(&self, show: &mut dyn FnMut(&str)) {
        self.tags.iter().for_each(|tag| show(tag.as_str()));
    }
}

impl<L> Stored<L> {
    pub(crate) fn target<'a>(&'a self, key: &'a Key) -> Target<'a> {
        Target { key: key.text(), host: key.0.host(), tags: Tags::Kept(self) }
    }
}

/// The objects under one URL. May be empty for the moment between the last one's leaving and the page's.
pub(crate) type Page<L> = SmallVec<[Stored<L>; 1]>;
