use std::path::Path;

use batoff_log::embedded::{EmbeddedConfig, EmbeddedStore};
use batoff_log::{PurgeLog, Store, system_clock};
use batoff_types::{Record, Seq};

/// Every record of the log in a data folder that no control plane uses now, in order.
///
/// # Panics
/// When the log is not sound.
pub async fn read_log(data_dir: &Path) -> Vec<Record> {
    try_read_log(data_dir).await.expect("a sound log")
}

/// The same, of a log that may be damaged.
pub async fn try_read_log(data_dir: &Path) -> anyhow::Result<Vec<Record>> {
    let store = EmbeddedStore::open(EmbeddedConfig::new(data_dir, system_clock()))?;
    let mut records: Vec<Record> = Vec::new();
    loop {
        let next = records.last().map_or(Seq::FIRST, |last| last.seq.next());
        let page = store.read(next, 1_000, usize::MAX).await?;
        if page.is_empty() {
            break;
        }
        for stored in page {
            records.push(batoff_wire::decode_record(stored.seq, &stored.body)?);
        }
    }
    store.close().await;
    Ok(records)
}
