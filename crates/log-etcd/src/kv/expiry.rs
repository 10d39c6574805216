use std::sync::Arc;
use std::time::Duration;

use crate::rpc::{KeyRange, TxnRequest, delete, if_modified_at};
use crate::shared::StoreCore;

/// How often is looked for what has expired. Half of what a pair may live too long.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Expired pairs that are deleted before the next look.
const DELETED_AT_ONCE: i64 = 256;

/// Deletes what has expired, until the store is closed. Each replica does; of two, one is a moment late.
pub(crate) async fn expire(shared: Arc<StoreCore>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = shared.stopping.cancelled() => return,
        }
        let now = shared.now().0;
        let mut request = shared.names.expiries_through(now).read(DELETED_AT_ONCE);
        // What this member does not know yet is found by the next look.
        request.serializable = true;
        request.keys_only = true;
        let Ok(found) = shared.client.range(&request).await else { continue };
        for kv in found.kvs {
            let Some(key) = shared.names.expiring_pair(&kv.key) else { continue };
            let (entry, pair) = (KeyRange::one(kv.key), KeyRange::one(shared.names.pair(&key)));
            // Pair and entry were written at once. If not, the pair was written again since, and has another entry or none.
            let request = TxnRequest {
                compare: vec![if_modified_at(pair.begin.clone(), kv.mod_revision)],
                success: vec![delete(&entry), delete(&pair)],
                failure: vec![delete(&entry)],
            };
            if let Err(error) = shared.client.txn(&request).await {
                tracing::debug!(%error, "a pair that has expired stays for now");
                break;
            }
        }
    }
}
