//! Purges for a caching proxy that is built on pingora 0.9.
//!
//! The daemon runs in the proxy's process, and each hit asks the rules and the lease before it is served. The proxy
//! keeps its storage, its eviction, its cache lock and its judgment of what may be stored; nothing is registered. What
//! is added, a line each:
//!
//! ```text
//!  main                      open the daemon's state, run the daemon as a background service
//!  the proxy, its CTX        a `Purges`, a `Visit`
//!  request_cache_filter      Purges::page     which URL is this, and can it be purged
//!  cache_hit_filter          Purges::hit      rules, then lease: serve, serve stale, ask the origin, fetch
//!  upstream_request_filter   Purges::fetch    take the fill token
//!  upstream_response_filter  Purges::answered was it served stale by a parent?
//!  response_cache_filter     Purges::store    recheck, and keep the token with the object
//!  response_filter           Purges::answer   the same question once more, right before the first byte
//! ```
//! `examples/minimal.rs` is a whole proxy with these lines in it.
//!
//! Token and tags are kept in the stored response's own header, because pingora's storages keep nothing else: the token
//! in `x-batoff-fill`, which visitors never see, the tags in `Cache-Tag`. An object without a token (stored before this
//! was added) is never served. Storage that outlives the process belongs to one state directory, and goes with it.
//!
//! **Keys:** what is for the cache ([`Page::of`]) has a `Host` literally in normal form, no body, and no field that its
//! `Connection` takes away from the origin, so that key, `Vary` and origin speak of one request. Not done here: to drop a
//! page after a `POST` (RFC 9111, section 4.4), and what no pingora proxy does by itself, to cut off silent visitors.
//!
//! **Collapsing:** whoever waited for another request's fetch looks the object up again, so a fetch that began before a
//! purge is no hit for those who waited. A reader that joins a fill while it is being written does so as a hit, too.
//!
//! **Soft purges:** what one hit is served stale while it is fetched anew if the origin gave it a
//! `stale-while-revalidate` (which counts from the object's own deadline) and the proxy's `should_serve_stale` agrees;
//! otherwise the origin is asked first: with `must-revalidate`, `proxy-revalidate` and `s-maxage`, too. (`batoff-proxy`
//! serves `s-maxage` pages stale after a soft purge, because their site's owner asks for it.) What the origin answers
//! then, unless it is a server error, ends the old object even if it is not stored.
//!
//! **Tiers:** `[path] parents` in the daemon's configuration names the nodes that the proxy fetches through; its fill tokens
//! then count from where those are, and what a parent serves stale is passed on and not stored.
//!
//! A predictor that remembers uncacheable keys should not remember [`PURGED_WHILE_FETCHED`]: the next response can be
//! stored.
//!
//! [`decide`] is the whole decision without pingora's types, for proxies that keep token and tags elsewhere; `batoff-proxy`
//! is one.

mod daemon;
mod decision;
mod page;
mod purges;
mod stamp;
mod withdrawn;

pub use self::daemon::{PurgeDaemon, open};
pub use self::decision::{Decision, decide};
pub use self::page::{Page, authority};
pub use self::purges::{CACHE_TAG, PURGED_WHILE_FETCHED, Purges, STALE_AT_A_PARENT, Visit};
