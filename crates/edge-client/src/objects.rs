//! What a cache tells the daemon of its objects, and what it is told of them.

use batoff_types::FillToken;
use batoff_wire::local::pb;
use bytes::Bytes;

/// The cache, as far as the daemon is concerned. Called from threads of its own, so it may block, but a purge waits for it
/// to return.
pub trait Objects: Send + Sync + 'static {
    /// From the return on this object is not served any more. One that is not there is left alone.
    fn evict(&self, object: &Evicted);

    /// From the return on it is stale: served only while it is revalidated, or not at all.
    fn turn_stale(&self, object: &Evicted);

    /// From the return on nothing that is stored now is served any more.
    fn clear(&self);

    /// Everything that is stored, for a daemon that has to know it again. What comes or goes meanwhile may be in it or
    /// not.
    fn held(&self) -> Box<dyn Iterator<Item = Held> + Send>;
}

/// An object that has been fetched and is to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filled {
    /// Its absolute URL, http or https, with the host that the visitor asked for.
    pub url: String,
    /// The cache's own name for it, 1 to 128 bytes, which no other of its objects has or had. See
    /// [`EdgeClient::new_handle`](crate::EdgeClient::new_handle).
    pub handle: Bytes,
    /// The values of its `Cache-Tag` lines, as they came.
    pub cache_tag: Vec<Vec<u8>>,
    /// The cache did not get the whole of these lines, or could not keep it: then every purge of a tag of the site hits
    /// the object.
    pub tags_cut: bool,
    /// Taken before its fetch began.
    pub token: FillToken,
}

/// An object that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// As it was committed.
    pub object: Filled,
    /// Whether a soft purge has turned it stale since.
    pub stale: bool,
}

/// An object that a purge hit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evicted {
    /// Its URL in normal form.
    pub url: String,
    /// The cache's own name for it.
    pub handle: Bytes,
}

impl Filled {
    pub(crate) fn encode(self) -> pb::Object {
        let Self { url, handle, cache_tag, tags_cut, token } = self;
        let cache_tag = cache_tag.into_iter().map(Bytes::from).collect();
        pb::Object { url, handle, cache_tag, token: Some(token.into()), tags_cut }
    }
}

impl Held {
    /// As the daemon is told. `through`: everything purged before it has been confirmed, so an object that is here and
    /// fresh was not hit by any of it.
    pub(crate) fn encode(self, through: Option<FillToken>) -> pb::Object {
        let Self { mut object, stale } = self;
        if let Some(through) = through
            && !stale
            && through.generation == object.token.generation
        {
            object.token.applied = object.token.applied.max(through.applied);
        }
        object.encode()
    }
}

#[cfg(test)]
mod tests {
    use batoff_types::{Cursor, Generation};

    use super::*;

    #[test]
    fn what_was_confirmed_does_for_objects_that_it_did_not_hit() {
        let token = |generation, applied| FillToken {
            generation: Generation(generation),
            applied: Cursor::new(applied),
        };
        let told = |own: FillToken, stale, through| {
            let object = Filled {
                url: String::new(),
                handle: Bytes::new(),
                cache_tag: Vec::new(),
                tags_cut: false,
                token: own,
            };
            Held { object, stale }.encode(through).token.map(FillToken::from)
        };
        assert_eq!(told(token(1, 5), false, None), Some(token(1, 5)));
        assert_eq!(told(token(1, 5), false, Some(token(1, 9))), Some(token(1, 9)));
        assert_eq!(told(token(1, 12), false, Some(token(1, 9))), Some(token(1, 12)));
        assert_eq!(told(token(1, 5), true, Some(token(1, 9))), Some(token(1, 5)), "a soft purge hit it");
        assert_eq!(told(token(1, 5), false, Some(token(2, 9))), Some(token(1, 5)), "before a reset");
    }
}
