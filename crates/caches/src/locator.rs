use std::sync::Arc;

/// Where a cache beside the daemon keeps an object.
///
/// All caches of a node share one index; each acts on its own kind of locator and ignores the others. At most 24 bytes:
/// the index keeps one an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Locator {
    /// nginx: the name of the cache file, which is the MD5 of the key or of the variant.
    File([u8; 16]),
    /// A cache that registers its objects through the local API.
    Local {
        /// Which one of them.
        cache: u32,
        /// Its own handle of the object.
        handle: Arc<[u8]>,
    },
    /// A cache that is asked by URL: the URL says it all.
    Url,
}

#[cfg(test)]
mod tests {
    use crate::Locator;

    #[test]
    fn it_stays_small() {
        assert!(size_of::<Locator>() <= 24);
    }
}
