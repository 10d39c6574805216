//! For caches on a node: what the Batoff Purge edge daemon offers them.
//!
//! A cache registers what it stores, is told what to drop, and asks at each hit, without a call, whether it may serve.
//! The contract, which any language can implement, is `proto/batoff/edge/v1/local.proto`; this crate keeps it for a cache
//! in Rust: the stream with its reconnects and resyncs, confirmations, the order of a commit and an eviction that cross,
//! and the page.
//!
//! The cache itself stays the caller's: it implements [`Objects`], and calls four methods.
//!
//! ```no_run
//! use std::collections::HashMap;
//! use std::sync::Arc;
//!
//! use batoff_edge_client::{Committed, Config, EdgeClient, Evicted, Filled, Held, Objects};
//! use parking_lot::Mutex;
//!
//! /// One response a URL; the URL is its own key, a number the handle.
//! #[derive(Default)]
//! struct Store(Mutex<HashMap<String, (Held, String)>>);
//!
//! impl Objects for Store {
//!     fn evict(&self, object: &Evicted) {
//!         self.0.lock().retain(|_, (held, _)| held.object.handle != object.handle);
//!     }
//!     fn turn_stale(&self, object: &Evicted) {
//!         let mut all = self.0.lock();
//!         let hit = all.values_mut().find(|(held, _)| held.object.handle == object.handle);
//!         if let Some((held, _)) = hit {
//!             held.stale = true;
//!         }
//!     }
//!     fn clear(&self) {
//!         self.0.lock().clear();
//!     }
//!     fn held(&self) -> Box<dyn Iterator<Item = Held> + Send> {
//!         let all: Vec<Held> = self.0.lock().values().map(|(held, _)| held.clone()).collect();
//!         Box::new(all.into_iter())
//!     }
//! }
//!
//! # async fn fetch(_: &str) -> String { String::new() }
//! # async fn answer(store: Arc<Store>, client: EdgeClient, url: &str) -> String {
//! // A hit: the last question before it goes out.
//! let fresh = |(held, body): &(Held, String)| (!held.stale).then(|| body.clone());
//! let cached = store.0.lock().get(url).and_then(fresh);
//! if let Some(body) = cached
//!     && client.may_serve()
//! {
//!     return body;
//! }
//! // A miss: the token first, then the fetch, then the commit.
//! let token = client.fill_token();
//! let body = fetch(url).await;
//! if let Some(token) = token {
//!     let handle = client.new_handle();
//!     let object = Filled { url: url.to_owned(), handle, cache_tag: vec![b"product:7".to_vec()], tags_cut: false, token };
//!     let held = Held { object: object.clone(), stale: false };
//!     let keep = |committed| {
//!         let held = Held { stale: committed == Committed::Stale, ..held };
//!         store.0.lock().insert(url.to_owned(), (held, body.clone()));
//!     };
//!     let _ = client.commit(object, keep).await;
//! }
//! body
//! # }
//! # async fn start() -> std::io::Result<()> {
//! let store = Arc::new(Store::default());
//! let client = EdgeClient::start(Config::new("web"), Arc::clone(&store))?;
//! # Ok(()) }
//! ```
//! `examples/cache.rs` is the whole of such a cache, as a program that answers HTTP.
//!
//! It is not a cache, and knows no HTTP: keys, variants, freshness and room are the caller's.

mod client;
mod objects;
mod page;
mod watch;

pub use self::client::{CallError, Committed, Config, EdgeClient, Looked};
pub use self::objects::{Evicted, Filled, Held, Objects};
pub use self::page::{Page, PageError, PageState};
pub use batoff_types::FillToken;
