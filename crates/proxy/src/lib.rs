//! A caching reverse proxy that takes purges back at once: the edge daemon and a cache in one process.
//!
//! It is the reference of how a cache in Rust embeds `batoff-edge` and `batoff-index`: take a token before asking the
//! origin, register what is stored, ask the rules at each hit, and the lease last.
//!
//! Rules and lease are asked twice, at the lookup and right before the first byte; `benches/README.md` has what that costs.
//!
//! As an HTTP cache (RFC 9111) it is shared, and keeps what its origin gives a time to. Where the standard leaves room:
//!
//! * `CDN-Cache-Control` stands alone when it is well-formed (RFC 9213), and is passed on. `Expires` counts from the response's own `Date`,
//!   so that no clock but the origin's decides; the difference between `Date` and our clock is not taken for an age.
//! * A `Host` is keyed and sent on in normal form. A request with a body, or one whose `Connection` takes a field away from
//!   the origin, is answered past the cache; so is one with an absolute target. Two different hosts in one request are
//!   refused with 400, although RFC 9112, section 3.2.2, would let the target win. `TRACE` ends here with 405.
//! * An answer that is no server error and is not kept ends what was kept before (section 4.3.3), after a soft purge, too.
//! * A soft purge leaves an object servable while it is fetched anew, for the origin's `stale-while-revalidate` or 60 s.
//!   With `must-revalidate`, `proxy-revalidate` or `no-cache` it does not (sections 5.2.2.2, 5.2.2.8, 5.2.2.4). With
//!   `s-maxage` it does, against section 5.2.2.10: there it is the site's owner who asks for a stale answer.
//! * An answer of 2xx or 3xx to `POST`, `PUT`, `DELETE`, `PATCH` or an unknown method drops the page on this node (section
//!   4.4), with the pages of the same host that its `Location` and `Content-Location` name, and stops what is being fetched
//!   of them from being kept. Other nodes hear nothing of it: that takes a purge.
//! * A response with `Set-Cookie` is never kept, whatever it says: a cookie is one visitor's.
//! * What no site owns is not kept, because no purge could reach it.
//!
//! Of the 157 tests that the public suite for HTTP caches (npm `http-cache-tests` 0.4.5) calls required, 149 pass. Four ask
//! what happens to a stale response when the origin closes the connection, and do not count where, as here, none is served
//! then. The other four, and why:
//!
//! * two want a response with `Set-Cookie` kept (see above);
//! * one wants `Age: 0,7200` to be read as 0, and two others of the suite want a list in `Age` to mean that the response is
//!   stale. Here a list is no age, and the response is stale;
//! * one wants the origin's `Date` on a hit; pingora writes its own into each answer. `Age` is right, so a cache behind this
//!   one keeps a page with `Expires` too short, never too long.
//!
//! It is not: a general web server. Plain HTTP/1.1 on both sides, memory only, `GET` and `HEAD`.

mod answer;
mod collapse;
pub mod config;
pub mod figures;
pub mod monitor;
pub mod origin;
mod server;
mod service;
mod shield;
mod store;
mod undeclared;

pub use self::server::Proxy;
pub use self::shield::{Children, Shield};
pub use self::store::{Locator, Store};
