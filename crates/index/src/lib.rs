//! Which objects does this node hold, what does a purge hit, and may this one be served?
//!
//! Never async, never a clock, never IO, never protobuf. It is not a cache: objects stay where they are, and the index
//! knows them by a *locator* of the cache's own.
//!
//! # Rules first
//!
//! A purge leaves a *rule* in one of six [`Place`]s: the whole index, a site, a host, a prefix, a URL, a tag. A fill
//! carries a *token*: what this node had applied when the fetch from the origin **began**
//! ([`Index::begin_fill`]). Then
//!
//! > an object is [`Gone`](Verdict::Gone) if a matching rule's hard seq is greater than what its token says was applied,
//! > else [`Stale`](Verdict::Stale) if a matching soft seq is, else [`Fresh`](Verdict::Fresh).
//!
//! So a purge is in force as soon as its rule is written, whatever number of objects it hits; a fill that began before a
//! purge and ends after it is refused; and a record that comes twice or late changes nothing. What is found afterwards
//! ([`Matches`], [`Index::sweep`]) is clean-up.
//!
//! [`Selector::matches`](batoff_types::Selector::matches) is the specification; sequences of operations are tested
//! against it and a list of objects.
//!
//! # For the author of a cache
//!
//! ```
//! use std::collections::HashMap;
//!
//! use batoff_index::{Effect, Entry, Index, IndexConfig, Variant, Verdict};
//! use batoff_types::{
//!     Body, CacheTags, HostPattern, Purge, Record, Selector, Seq, SiteChange, SiteLimits, TaskId, UnixMillis,
//! };
//!
//! # fn record(seq: u64, body: Body) -> Record {
//! #     let (seq, task) = (Seq::new(seq).unwrap(), TaskId::from_bytes([seq as u8; 16]));
//! #     Record { seq, accepted_at: UnixMillis(0), task, request_id: "".into(), semantics: 1, trace: None, body }
//! # }
//! // The cache, and its index: a locator is a key of the cache.
//! let mut files: HashMap<u32, &str> = HashMap::new();
//! let index = Index::<u32>::new(IndexConfig::default());
//!
//! // Records come from the purge log, in their order. The first says whose the hostname is.
//! let site: batoff_types::SiteId = "shop".parse()?;
//! let hostnames: Vec<HostPattern> = vec!["www.example.com".parse()?];
//! drop(index.apply(&record(1, Body::Site(SiteChange {
//!     site: site.clone(),
//!     hostnames: Some(hostnames.clone()),
//!     affected: hostnames,
//!     limits: SiteLimits::default(),
//! }))));
//!
//! // A miss. The token is taken before the request to the origin is sent.
//! let url: batoff_types::PurgeUrl = "https://www.example.com/product/7".parse()?;
//! let token = index.begin_fill();
//! let (body, tags) = ("seven", CacheTags::parse([&b"product:7"[..]])); // from the origin's `Cache-Tag`
//! files.insert(1, body);
//! let entry = Entry { url: url.clone(), variant: Variant::MAIN, tags: tags.clone(), token, locator: 1 };
//! if index.insert(entry).is_err() {
//!     files.remove(&1); // purged while it was fetched
//! }
//!
//! // A hit: by what is kept with the object, or by what is registered.
//! assert_eq!(index.check(&url, &tags, token), Verdict::Fresh);
//! assert_eq!(index.lookup(&url, Variant::MAIN), Some((Verdict::Fresh, 1)));
//!
//! // A purge: in force when `apply` returns; the files go when there is time.
//! let selectors = vec![Selector::Tag("product:7".parse()?)];
//! let mut matches = index.apply(&record(2, Body::Purge(Purge { site, selectors, soft: false })));
//! assert_eq!(index.check(&url, &tags, token), Verdict::Gone);
//! while let Some(batch) = matches.next_batch(1_000) {
//!     for found in batch {
//!         match found.effect {
//!             Effect::Evicted => drop(files.remove(&found.locator)),
//!             Effect::Stale => { /* may be served while it is revalidated */ }
//!         }
//!     }
//! }
//! assert!(files.is_empty());
//!
//! // What nobody took: after resets, of matches that were dropped half way, of folded rules.
//! while let Some(batch) = index.sweep(1_000) {
//!     for found in batch {
//!         files.remove(&found.locator);
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How rules end
//!
//! *By folding*, always on. Over [`IndexConfig::rules_max`] the oldest rule of the most numerous kind (URLs, prefixes
//! and tags; hosts; sites) is folded into its host's or site's, in the end into the whole index's: a wider
//! invalidation, never a narrower one, each strength into its own. What a folded rule hits besides goes to
//! [`Index::sweep`]; records that are being swept meanwhile may count some of it as theirs.
//!
//! *By forgetting*, only when the caller says so ([`Index::forget`]): a rule whose objects are swept goes, and whatever
//! arrives later with a token as old is Gone. Registered objects stay: the rule did not hit them. It is not done by
//! itself for two reasons. [`Index::check`] cannot tell an object that was here from one that arrives, so for a cache
//! that relies on it forgetting would empty the cache; such a cache leaves it off, or registers its objects and asks
//! [`Index::lookup`] or [`Index::check_registered`]. And a fill that is open since before the forgotten rule is refused,
//! so only the caller, who has a clock, knows how far back no fill reaches.
//!
//! # How a verdict is asked without a lock
//!
//! All that decides a verdict is one value, published by a swap. A record prepares the next one, which shares what did
//! not change: rules lie in a hash trie of 16 ways by 64-bit keyed fingerprints, prefixes in a radix trie for each
//! authority, and a Bloom filter in front of both answers most questions with one look at memory. Places by name and by
//! age are kept by records alone. So neither a record nor forgetting, folding or a snapshot is ever waited for. That
//! fingerprints may meet makes a rule wider, once in some 2⁶⁴ pairs, and saves readers the texts.
//!
//! What that costs stands in `benches/README.md`; a change of more than 10 % in instructions fails the gate.
//!
//! An insert and a record meet in one place, whose order of steps loom explores in the ordinary tests: an insert makes
//! its object findable, then asks again; a record publishes, then walks. With either order reversed, or without the
//! fence between the steps, it finds how an object is missed.
//!
//! # Objects that no site owns
//!
//! Tags and *everything* hit objects under hostnames that the site owns when the question is asked; a hostname that
//! changes hands gets a hard rule of its own, even if the record should not name it. Under a hostname
//! that nobody owns no customer could purge anything, so nothing is taken there ([`Refused::Unowned`]).
//!
//! # Tags that nobody knows
//!
//! An object with more tags than its site allows, with members outside the grammar, or whose header was cut, *overflows*
//! ([`CacheTags::overflows`](batoff_types::CacheTags::overflows)). It is registered under its tags and under
//! [`Place::Overflow`], where each purge of a tag of the site leaves a rule too: so it is hit by all of them, and objects
//! that do not overflow cost nothing more.
//!
//! # Ports
//!
//! A URL with a port other than 80 and 443 is an object of its own. Caches whose keys have no port say so
//! ([`IndexConfig::keys_have_ports`]); then whatever comes here is taken without its port.

mod admission;
mod entry;
mod index;
mod list;
mod place;
mod plan;
mod publish;
mod rules;
mod snapshot;
mod state;
mod stats;
mod store;
mod sweep;
mod walk;

pub use self::entry::{Effect, Entry, Listed, Match, Refused, Variant, Verdict};
pub use self::index::{Index, IndexConfig};
pub use self::list::Listing;
pub use self::place::{Place, Rule};
pub use self::snapshot::Snapshot;
pub use self::stats::{Bytes, Size, Stats};
pub use self::sweep::Matches;
