use std::path::Path;

use batoff_log::embedded::{EmbeddedConfig, EmbeddedStore};
use batoff_log::{Store, system_clock};
use batoff_log_etcd::{EtcdConfig, EtcdStore};
use batoff_types::{Record, Seq};

/// Every record of the log in a data folder that no control plane uses now, in order.
///
/// # Panics
/// When the log is not sound.
pub async fn read_log(data_dir: &Path) -> Vec<Record> {
    try_read_log(data_dir).await.expect("a sound log")
}

/// Every record of the log in an etcd, in order.
///
/// # Panics
/// When the log is not sound.
pub async fn read_log_in_etcd(members: &[String]) -> Vec<Record> {
    let store =
        EtcdStore::open(EtcdConfig::new(members, system_clock())).await.expect("the cluster is there");
    let records = all_of(&*store).await.expect("a sound log");
    store.close().await;
    records
}

/// The same, of a log that may be damaged.
pub async fn try_read_log(data_dir: &Path) -> anyhow::Result<Vec<Record>> {
    let store = EmbeddedStore::open(EmbeddedConfig::new(data_dir, system_clock()))?;
    let records = all_of(&*store).await;
    store.close().await;
    records
}

async fn all_of(store: &dyn Store) -> anyhow::Result<Vec<Record>> {
    let mut records: Vec<Record> = Vec::new();
    loop {
        let next = records.last().map_or(Seq::FIRST, |last| last.seq.next());
        let page = store.log().read(next, 1_000, usize::MAX).await?;
        if page.is_empty() {
            return Ok(records);
        }
        for stored in page {
            records.push(batoff_wire::decode_record(stored.seq, &stored.body)?);
        }
    }
}
