//! The small records beside the log, by their keys. Each key has one writer at a time, so that nobody's write is lost
//! although most are written whatever was there before.

use std::time::Duration;

use batoff_log::{CasError, Expect, Key, Kv, SCAN_ITEMS_MAX, StoreError, Versioned, Write};
use bytes::Bytes;
use serde::Serialize;

/// What the row of this key says, if there is one. `read` says what is wrong with a value that it cannot read.
pub(crate) async fn get<T>(
    kv: &dyn Kv,
    key: &Key,
    read: impl FnOnce(&[u8]) -> Result<T, &'static str>,
) -> Result<Option<T>, StoreError> {
    let Some(row) = kv.get(key).await? else { return Ok(None) };
    read(&row.value).map(Some).map_err(|why| unreadable(key, why))
}

/// What the rows say whose keys begin with `prefix`, in the order of the keys. `read` is given the rest of the key and
/// the value.
pub(crate) async fn all_under<T>(
    kv: &dyn Kv,
    prefix: &str,
    read: impl FnMut(&str, &[u8]) -> Result<T, &'static str>,
) -> Result<Vec<T>, StoreError> {
    all_after(kv, prefix, None, read).await
}

/// The same, without those whose rest of the key is `after` or before it.
pub(crate) async fn all_after<T>(
    kv: &dyn Kv,
    prefix: &str,
    after: Option<&str>,
    mut read: impl FnMut(&str, &[u8]) -> Result<T, &'static str>,
) -> Result<Vec<T>, StoreError> {
    let mut after = after.map(|rest| Key::from(format!("{prefix}{rest}")));
    let mut rows = Vec::new();
    loop {
        let page = kv.scan(&Key::from(prefix), after.as_ref(), SCAN_ITEMS_MAX).await?;
        for (key, row) in &page {
            let rest = std::str::from_utf8(&key.as_bytes()[prefix.len()..]);
            let said = rest.map_err(|_| "its key is no text").and_then(|rest| read(rest, &row.value));
            rows.push(said.map_err(|why| unreadable(key, why))?);
        }
        match page.into_iter().last() {
            Some((last, _)) => after = Some(last),
            None => return Ok(rows),
        }
    }
}

/// The same, of the first `most` rows at most, in one step.
pub(crate) async fn some_after<T>(
    kv: &dyn Kv,
    prefix: &str,
    after: Option<&str>,
    most: usize,
    mut read: impl FnMut(&str, &[u8]) -> Result<T, &'static str>,
) -> Result<Vec<T>, StoreError> {
    let after = after.map(|rest| Key::from(format!("{prefix}{rest}")));
    let page = kv.scan(&Key::from(prefix), after.as_ref(), most.min(SCAN_ITEMS_MAX)).await?;
    let row = |(key, row): (Key, Versioned)| {
        let rest = std::str::from_utf8(&key.as_bytes()[prefix.len()..]);
        let said = rest.map_err(|_| "its key is no text").and_then(|rest| read(rest, &row.value));
        said.map_err(|why| unreadable(&key, why))
    };
    page.into_iter().map(row).collect()
}

/// A row's bytes.
#[expect(
    clippy::expect_used,
    reason = "rows are structs of strings and numbers, which always have a JSON form"
)]
pub(crate) fn json(row: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(row).expect("a struct of strings and numbers")
}

/// Writes, whatever the key held before.
pub(crate) async fn put(kv: &dyn Kv, key: &Key, value: impl Into<Bytes>) -> Result<(), StoreError> {
    write(kv, key, Write::Put { value: value.into(), ttl: None }).await
}

/// The same, to be forgotten after `ttl`.
pub(crate) async fn put_for(
    kv: &dyn Kv,
    key: &Key,
    value: impl Into<Bytes>,
    ttl: Duration,
) -> Result<(), StoreError> {
    write(kv, key, Write::Put { value: value.into(), ttl: Some(ttl) }).await
}

/// Writes where there is nothing yet, and returns what is there then: this value, or the one that was there before.
pub(crate) async fn put_first(kv: &dyn Kv, key: &Key, value: impl Into<Bytes>) -> Result<Bytes, StoreError> {
    let value = value.into();
    loop {
        if let Some(row) = kv.get(key).await? {
            return Ok(row.value);
        }
        match kv.cas(key, Expect::Absent, Write::Put { value: value.clone(), ttl: None }).await {
            Ok(_) => return Ok(value),
            Err(CasError::Conflict(_)) => {}
            Err(CasError::Store(error)) => return Err(error),
        }
    }
}

/// Deletes, whatever the key held before.
pub(crate) async fn delete(kv: &dyn Kv, key: &Key) -> Result<(), StoreError> {
    write(kv, key, Write::Delete).await
}

async fn write(kv: &dyn Kv, key: &Key, write: Write) -> Result<(), StoreError> {
    match kv.cas(key, Expect::Any, write).await {
        // `Expect::Any` cannot conflict.
        Ok(_) | Err(CasError::Conflict(_)) => Ok(()),
        Err(CasError::Store(error)) => Err(error),
    }
}

/// That this row cannot be read; it is logged.
pub(crate) fn unreadable(key: &Key, why: &str) -> StoreError {
    let key = String::from_utf8_lossy(key.as_bytes()).into_owned();
    tracing::error!(key, why, "a small record cannot be read");
    StoreError::Corrupt(format!("the small record {key} cannot be read: {why}"))
}

#[cfg(test)]
mod tests {
    use batoff_log::embedded::{EmbeddedConfig, EmbeddedStore};
    use batoff_log::{Store, system_clock};
    use futures_util::future::try_join_all;

    use super::*;

    fn text(rest: &str, value: &[u8]) -> Result<(String, u8), &'static str> {
        Ok((rest.to_owned(), *value.first().ok_or("it is empty")?))
    }

    #[tokio::test]
    async fn all_rows_under_a_prefix_are_read_however_many_there_are() {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(EmbeddedConfig::new(dir.path(), system_clock())).unwrap();
        let kv = store.kv();
        let keys: Vec<Key> = (0..=SCAN_ITEMS_MAX)
            .map(|n| format!("a/{n:05}"))
            .chain(["b".to_owned()])
            .map(Key::from)
            .collect();
        try_join_all(keys.iter().map(|key| put(kv, key, vec![7]))).await.unwrap();

        let all = all_under(kv, "a/", text).await.unwrap();
        assert_eq!(all.len(), SCAN_ITEMS_MAX + 1);
        assert_eq!(all[3], ("00003".to_owned(), 7));
        let some = all_after(kv, "a/", Some("00997"), text).await.unwrap();
        assert_eq!(
            some.iter().map(|(rest, _)| rest.as_str()).collect::<Vec<_>>(),
            ["00998", "00999", "01000"]
        );
        store.close().await;
    }

    #[tokio::test]
    async fn a_row_that_cannot_be_read_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(EmbeddedConfig::new(dir.path(), system_clock())).unwrap();
        let (kv, key) = (store.kv(), Key::from("a/1"));
        put(kv, &key, Vec::new()).await.unwrap();
        let expected = StoreError::Corrupt("the small record a/1 cannot be read: it is empty".to_owned());
        assert_eq!(all_under(kv, "a/", text).await, Err(expected.clone()));
        assert_eq!(get(kv, &key, |value| text("", value)).await, Err(expected));
        delete(kv, &key).await.unwrap();
        assert_eq!(get(kv, &key, |value| text("", value)).await, Ok(None));
        store.close().await;
    }
}
