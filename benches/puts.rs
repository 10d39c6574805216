use std::sync::Arc;

use batoff_log::{Expect, Key, Store, Write};
use bytes::Bytes;
use ulid::Ulid;

/// One put of so many bytes under a key of its own: what a log without order, index and group commit would do for a purge.
pub async fn put_one(store: Arc<dyn Store>, bytes: usize) -> anyhow::Result<()> {
    let key = Key::from(format!("bench/{}", Ulid::generate()));
    let write = Write::Put { value: Bytes::from(vec![b'x'; bytes]), ttl: None };
    store.kv().cas(&key, Expect::Any, write).await?;
    Ok(())
}
