use std::sync::Arc;

use batoff_types::{CacheTags, FillToken, PurgeUrl, Scheme, Tag};

use super::record;
use super::tagged::Tagged;
use crate::Variant;
use crate::rules::{CarriedTags, Carries, Target};

/// One object, as whoever holds its shard sees it.
pub(crate) struct Held<'a, L> {
    /// `host[:port]/path[?query]`
    pub(crate) key: &'a str,
    pub(crate) host: &'a str,
    pub(crate) variant: Variant,
    pub(crate) token: FillToken,
    /// A soft purge hit it: said once, it is not counted again, and survives the forgetting of the rule.
    pub(crate) stale: bool,
    pub(crate) locator: &'a L,
    pub(super) record: &'a [u8],
    pub(super) tagged: &'a Tagged,
}

/// What becomes of an object that was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Nothing.
    Keep,
    /// It is stale from now on.
    Mark,
    /// It leaves.
    Leave,
    /// Nothing, and it is to be shown again: a walk ends before it for now.
    Stop,
}

impl<L> Held<'_, L> {
    pub(crate) fn target(&self) -> Target<'_> {
        Target { key: self.key, host: self.host, tags: CarriedTags::Kept(self) }
    }

    /// Its URL, with the scheme under which it was first inserted.
    pub(crate) fn url(&self) -> Arc<PurgeUrl> {
        let scheme = if record::is_https(self.record) { Scheme::Https } else { Scheme::Http };
        Arc::new(PurgeUrl::from_normal(scheme, self.key))
    }

    pub(crate) fn overflows(&self) -> bool {
        record::overflows(self.record)
    }

    pub(crate) fn tags(&self) -> CacheTags {
        let mut tags = Vec::new();
        // What was a tag's text is one; that of overflow is none.
        self.suspects(&|_| true, &mut |text| tags.extend(text.parse::<Tag>()));
        CacheTags { tags, ignored: self.overflows().into() }
    }
}

impl<L> Carries for Held<'_, L> {
    fn suspects(&self, may: &dyn Fn(u32) -> bool, show: &mut dyn FnMut(&str)) {
        for (number, _) in record::tags(self.record).filter(|&(_, half)| may(half)) {
            self.tagged.show(number, &mut *show);
        }
    }
}
