//! An object on the wire, and in the index.

use std::sync::Arc;

use batoff_index::{Entry, Refused, Variant, Verdict as Judged};
use batoff_types::{CacheTags, PurgeUrl};
use batoff_wire::local::HANDLE_BYTES_MAX;
use batoff_wire::local::pb::{self, Verdict};
use sha2::{Digest, Sha256};
use tonic::Status;

use super::declared::Declared;
use super::session::Session;
use crate::Locator;

/// An object of one session, named.
pub struct Name {
    pub url: PurgeUrl,
    pub handle: Arc<[u8]>,
    number: u32,
}

/// What became of an object that was registered.
pub struct Registered {
    pub verdict: Verdict,
    /// `Cache-Tag` members that were not taken: with one or more, every purge of a tag of the site hits the object.
    pub ignored_tags: usize,
}

impl Name {
    pub fn parse(session: &Session, url: &str, handle: &[u8]) -> Result<Self, Status> {
        let url =
            url.parse().map_err(|error| Status::invalid_argument(format!("url: {error}: {}", shown(url))))?;
        if !(1..=HANDLE_BYTES_MAX).contains(&handle.len()) {
            let message = format!("handle: must be 1 to {HANDLE_BYTES_MAX} bytes, has {}", handle.len());
            return Err(Status::invalid_argument(message));
        }
        Ok(Self { url, handle: handle.into(), number: session.number })
    }

    /// Each object of a URL is a variant of its own, by its handle: so a successor never takes the place of one that may
    /// still be served, nor one cache's object another's.
    pub fn variant(&self) -> Variant {
        let mut hash = Sha256::new();
        hash.update(b"batoff local object\0");
        hash.update(self.number.to_be_bytes());
        hash.update(&self.handle);
        let hash = hash.finalize();
        Variant::from(std::array::from_fn(|i| hash[i]))
    }

    pub fn is_at(&self, locator: &Locator) -> bool {
        matches!(locator, Locator::Local { cache, handle } if *cache == self.number && *handle == self.handle)
    }

    fn locator(&self) -> Locator {
        Locator::Local { cache: self.number, handle: Arc::clone(&self.handle) }
    }
}

impl Declared {
    /// Enters an object into the index, if no purge lies between the beginning of its fetch and now.
    pub fn register(&self, session: &Session, object: &pb::Object) -> Result<Registered, Status> {
        let name = Name::parse(session, &object.url, &object.handle)?;
        let token = object
            .token
            .ok_or_else(|| Status::invalid_argument("token: missing; take one before the fetch begins"))?;
        let (index, variant) = (&self.around.index, name.variant());
        let most = index.tags_max(name.url.host());
        let tags = CacheTags::parse_up_to(most, object.cache_tag.iter().map(AsRef::as_ref));
        let tags = if object.tags_cut { tags.cut() } else { tags };
        let ignored_tags = tags.ignored;
        let registered = |verdict| Ok(Registered { verdict, ignored_tags });
        if index.lookup(&name.url, variant).is_some() {
            return Err(Status::already_exists(
                "handle: in use under this URL; a new object needs a new handle",
            ));
        }
        if session.objects.load(std::sync::atomic::Ordering::Relaxed) >= self.objects_max {
            return registered(Verdict::Discard);
        }
        self.around.overflow.note(&tags, &name.url, &index.sites());
        let url = name.url.clone();
        let inserted =
            index.insert(Entry { url, variant, tags, token: token.into(), locator: name.locator() });
        match inserted {
            Ok(()) => {}
            // Purged meanwhile, or it could never be: no site owns its hostname, or nobody here gave its token out.
            Err(Refused::Gone | Refused::Unowned | Refused::Future) => return registered(Verdict::Discard),
        }
        session.count_in();
        if session.over.is_cancelled() {
            // Whoever cleans up after the session may have gone past this place already.
            index.remove_if(&name.url, variant, |locator, _| name.is_at(locator));
            return Err(Status::failed_precondition("this session has ended; connect anew with Watch"));
        }
        registered(match index.lookup(&name.url, variant) {
            Some((Judged::Fresh, _)) => Verdict::Store,
            Some((Judged::Stale, _)) => Verdict::StoreStale,
            // Purged right behind its insertion: it is evicted like any other.
            Some((Judged::Gone, _)) | None => Verdict::Discard,
        })
    }
}

/// As much of a value as belongs into an error.
fn shown(text: &str) -> String {
    text.chars().take(200).collect()
}
