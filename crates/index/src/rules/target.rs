use batoff_types::CacheTags;

/// An object as the rules see it.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) key: &'a str,
    pub(crate) host: &'a str,
    pub(crate) tags: CarriedTags<'a>,
}

/// The tags that an object carries: as its cache names them, with their fingerprints, or as the store keeps them.
/// Overflow is one of them in the last two ([`OVERFLOW`](crate::place::OVERFLOW)).
#[derive(Clone, Copy)]
pub(crate) enum CarriedTags<'a> {
    Given(&'a CacheTags),
    Printed(&'a [(u64, &'a str)]),
    Kept(&'a dyn Carries),
}

/// What carries tags, and knows the low half of each one's fingerprint.
pub(crate) trait Carries {
    /// Shows the texts of those that `may` says of, by that half, that they may matter.
    fn suspects(&self, may: &dyn Fn(u32) -> bool, show: &mut dyn FnMut(&str));
}
