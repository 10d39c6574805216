//! Where nodes reach each of the control planes beside this log.

use std::collections::BTreeMap;
use std::sync::Arc;

use batoff_log::{Key, Kv, KvEvent, StoreError};
use batoff_types::Replica;
use batoff_types::message::{ReplicaAt, Whereabouts};
use futures_util::StreamExt;
use tokio::sync::watch;

use super::tenure::Tenure;
use crate::store::rows;

/// The rows that say so, each under its replica's number.
pub(crate) const PLACES: &str = "replicas/at/";

/// What is known of it. Alone, nothing.
#[derive(Debug, Default)]
pub struct ReplicaPlaces(watch::Sender<Whereabouts>);

impl ReplicaPlaces {
    /// Says where nodes reach this process, until another takes its seat.
    ///
    /// # Errors
    /// The store's.
    pub async fn announce(kv: &dyn Kv, tenure: &Tenure, endpoint: &str) -> Result<(), StoreError> {
        let key = Key::from(format!("{PLACES}{}", tenure.replica().0));
        tenure.put(kv, &key, rows::json(&endpoint)).await
    }

    /// As the rows say now.
    ///
    /// # Errors
    /// The store's.
    pub async fn read(kv: &dyn Kv) -> Result<Self, StoreError> {
        let rows = rows::all_under(kv, PLACES, |id, row| {
            let replica = id.parse().map(Replica).map_err(|_| "its key is no number of a replica")?;
            Ok((replica, endpoint(row)?))
        });
        Ok(Self(watch::Sender::new(whereabouts(&rows.await?.into_iter().collect()))))
    }

    /// What is known, now and when it changes.
    pub fn subscribe(&self) -> watch::Receiver<Whereabouts> {
        self.0.subscribe()
    }

    /// Follows the rows, until the store is closed; then waits to be dropped.
    pub(crate) async fn follow(&self, kv: &dyn Kv) {
        let prefix = Key::from(PLACES);
        let mut watch = kv.watch(&prefix);
        let (mut known, mut is_whole) = (BTreeMap::new(), false);
        while let Some(event) = watch.next().await {
            match event {
                KvEvent::Put { key, versioned } => match (replica_of(&key), endpoint(&versioned.value)) {
                    (Some(replica), Ok(endpoint)) => _ = known.insert(replica, endpoint),
                    (_, Err(why)) => _ = rows::unreadable(&key, why),
                    (None, _) => _ = rows::unreadable(&key, "its key is no number of a replica"),
                },
                KvEvent::Delete { key } => {
                    if let Some(replica) = replica_of(&key) {
                        known.remove(&replica);
                    }
                }
                KvEvent::Reset => {
                    known.clear();
                    is_whole = false;
                }
                KvEvent::Synced => is_whole = true,
                KvEvent::Current => {}
            }
            if is_whole {
                let now = whereabouts(&known);
                self.0.send_if_modified(|told| {
                    let is_new = *told != now;
                    *told = now;
                    is_new
                });
            }
        }
        std::future::pending().await
    }
}

fn replica_of(key: &Key) -> Option<Replica> {
    let id = key.as_bytes().strip_prefix(PLACES.as_bytes())?;
    std::str::from_utf8(id).ok()?.parse().ok().map(Replica)
}

fn endpoint(row: &[u8]) -> Result<Arc<str>, &'static str> {
    serde_json::from_slice::<String>(row).map(Arc::from).map_err(|_| "it is no text in JSON")
}

fn whereabouts(known: &BTreeMap<Replica, Arc<str>>) -> Whereabouts {
    let at = |(replica, endpoint): (&Replica, &Arc<str>)| ReplicaAt {
        replica: *replica,
        endpoint: Arc::clone(endpoint),
    };
    Whereabouts { replicas: known.iter().map(at).collect() }
}
