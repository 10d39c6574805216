//! A cache that is a map.

use std::collections::BTreeMap;
use std::sync::Arc;

use batoff_edge_client::{CallError, Committed, EdgeClient, Evicted, Filled, Held, Objects};
use bytes::Bytes;
use parking_lot::Mutex;

use super::node::{Node, url};

#[derive(Default)]
pub struct Shelf {
    objects: Mutex<BTreeMap<Bytes, Held>>,
    /// While this is locked, it does not get round to evicting.
    pub busy: tokio::sync::Mutex<()>,
}

impl Objects for Shelf {
    fn evict(&self, object: &Evicted) {
        let _busy = self.busy.blocking_lock();
        self.objects.lock().remove(&object.handle);
    }

    fn turn_stale(&self, object: &Evicted) {
        if let Some(held) = self.objects.lock().get_mut(&object.handle) {
            held.stale = true;
        }
    }

    fn clear(&self) {
        self.objects.lock().clear();
    }

    fn held(&self) -> Box<dyn Iterator<Item = Held> + Send> {
        let all: Vec<_> = self.objects.lock().values().cloned().collect();
        Box::new(all.into_iter())
    }
}

/// A shelf with its client.
pub struct Cache {
    pub shelf: Arc<Shelf>,
    pub client: EdgeClient,
}

impl Cache {
    pub async fn start(node: &Node, name: &str) -> Self {
        Self::with(node, name, Arc::new(Shelf::default())).await
    }

    pub async fn with(node: &Node, name: &str, shelf: Arc<Shelf>) -> Self {
        let client = EdgeClient::start(node.config(name), Arc::clone(&shelf)).unwrap();
        tokio::time::timeout(super::node::PATIENCE, client.in_sync()).await.expect("in sync");
        Self { shelf, client }
    }

    pub fn object(&self, path: &str, tag: &str) -> Filled {
        let token = self.client.fill_token().expect("a token");
        Filled {
            url: url(path),
            handle: self.client.new_handle(),
            cache_tag: vec![tag.into()],
            tags_cut: false,
            token,
        }
    }

    pub async fn fill(&self, path: &str, tag: &str) -> Bytes {
        let object = self.object(path, tag);
        let handle = object.handle.clone();
        assert_eq!(self.keep(object).await.unwrap(), Committed::Fresh, "{path}");
        handle
    }

    pub async fn keep(&self, object: Filled) -> Result<Committed, CallError> {
        let held = Held { object: object.clone(), stale: false };
        let keep = |committed| {
            let held = Held { stale: committed == Committed::Stale, ..held };
            self.shelf.objects.lock().insert(held.object.handle.clone(), held);
        };
        self.client.commit(object, keep).await
    }

    /// The paths that would be served now, stale ones with a tilde.
    pub fn serves(&self) -> Vec<String> {
        if !self.client.may_serve() {
            return Vec::new();
        }
        let objects = self.shelf.objects.lock();
        let path = |held: &Held| {
            let path = held.object.url.strip_prefix(&url("")).unwrap();
            format!("{}{path}", if held.stale { "~" } else { "" })
        };
        objects.values().map(path).collect()
    }
}
