use batoff_types::Tag;

/// An object as the rules see it.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) key: &'a str,
    pub(crate) host: &'a str,
    pub(crate) tags: Tags<'a>,
}

/// The tags that an object carries: as its cache names them, or as the store keeps them.
#[derive(Clone, Copy)]
pub(crate) enum Tags<'a> {
    Given(&'a [Tag]),
    Kept(&'a dyn Carries),
}

/// What carries tags, and shows their texts one by one.
pub(crate) trait Carries {
    fn each(&self, show: &mut dyn FnMut(&str));
}

impl Tags<'_> {
    #[inline]
    pub(crate) fn each(&self, mut show: impl FnMut(&str)) {
        match self {
            Self::Given(tags) => tags.iter().for_each(|tag| show(tag.as_str())),
            Self::Kept(object) => object.each(&mut show),
        }
    }
}
