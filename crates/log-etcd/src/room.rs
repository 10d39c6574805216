//! Room in the cluster: appends are refused while there is still enough for what makes room.
//!
//! A cluster that has reached its quota takes nothing but deletions, and needs an operator: even trimming writes what must
//! outlive the records. So appends end earlier, and begin again by themselves once trimming has helped.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::client::EtcdError;
use crate::measure;
use crate::rpc::PutRequest;
use crate::shared::StoreCore;

/// How often the cluster is asked how much it holds.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// How often while appends are refused.
const ASK_EVERY_WHEN_SHORT: Duration = Duration::from_millis(500);

/// Per cent of the quota that appends may fill.
const SHORT_FROM: u64 = 85;

/// Per cent of the quota below which appends are taken again.
const SHORT_UNTIL: u64 = 80;

/// Compares what the cluster holds with its quota, until the store is closed. `quota` is what is configured; members from
/// 3.6 on say it themselves.
pub(crate) async fn watch_room(shared: Arc<StoreCore>, quota: Option<u64>) {
    let mut is_told = false;
    loop {
        let status = shared.client.status().await;
        if matches!(status, Err(EtcdError::Forbidden(_))) && !is_told {
            is_told = true;
            tracing::warn!(
                "etcd tells nobody but its root how much it holds, so appends do not end before it is \
                 full: watch etcd_mvcc_db_total_size_in_bytes against its quota"
            );
        }
        if let Ok(status) = status {
            let used = u64::try_from(status.db_size_in_use).unwrap_or(0);
            measure::room(used);
            let told = u64::try_from(status.db_size_quota).ok().filter(|told| *told > 0);
            if let Some(quota) = told.or(quota) {
                shared.room_is(used, quota, SHORT_FROM, SHORT_UNTIL);
            }
        }
        let mut pause = ASK_EVERY;
        if shared.is_short() {
            pause = ASK_EVERY_WHEN_SHORT;
            // etcd counts what was freed as free when it next writes, and with no appends nobody may.
            let touch = PutRequest { key: shared.names.room(), value: Bytes::new(), lease: 0 };
            if let Err(error) = shared.client.put(&touch).await {
                tracing::debug!(%error, "etcd cannot be made to count its free pages");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shared.stopping.cancelled() => return,
        }
    }
}
