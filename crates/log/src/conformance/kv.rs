//! The small records: compare-and-set, time to live, order, watches, presence.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use super::subject::{Subject, soon};
use crate::error::StoreError;
use crate::kv::{
    CasError, Expect, Guard, GuardedError, KEY_BYTES_MAX, Key, KvEvent, VALUE_BYTES_MAX, Version, Write,
};
use crate::presence::PresenceEvent;

fn put(value: &str) -> Write {
    Write::Put { value: Bytes::copy_from_slice(value.as_bytes()), ttl: None }
}

async fn set(subject: &Subject, key: &str, write: Write) -> Version {
    subject
        .store
        .kv()
        .cas(&Key::from(key), Expect::Any, write)
        .await
        .expect("an unconditional write succeeds")
}

async fn value(subject: &Subject, key: &str) -> Option<Bytes> {
    let found = subject.store.kv().get(&Key::from(key)).await.expect("a pair can be read");
    found.map(|versioned| versioned.value)
}

/// 16 writers increment one counter by compare-and-set: none is lost.
pub async fn of_many_swaps_one_wins_each_round(subject: Subject) {
    let subject = Arc::new(subject);
    let writers: Vec<_> = (0..16)
        .map(|_| {
            let subject = Arc::clone(&subject);
            tokio::spawn(async move {
                for _ in 0..10 {
                    increment(&subject).await;
                }
            })
        })
        .collect();
    for writer in writers {
        soon("a writer's end", writer).await.expect("no writer panics");
    }
    assert_eq!(value(&subject, "counter").await, Some(Bytes::from("160")));
}

async fn increment(subject: &Subject) {
    let kv = subject.store.kv();
    let key = Key::from("counter");
    let mut current = kv.get(&key).await.expect("a pair can be read");
    loop {
        let (number, expect) = match &current {
            None => (0, Expect::Absent),
            Some(versioned) => {
                let text = std::str::from_utf8(&versioned.value).expect("the counter is text");
                (text.parse().expect("the counter is a number"), Expect::Version(versioned.version))
            }
        };
        match kv.cas(&key, expect, put(&(number + 1u32).to_string())).await {
            Ok(_) => return,
            Err(CasError::Conflict(other)) => current = other,
            Err(error) => panic!("a write to a sound store succeeds: {error}"),
        }
    }
}

/// Absent, this version, anything: each expectation holds or tells what is there.
pub async fn a_pair_holds_what_was_expected_of_it(subject: Subject) {
    let kv = subject.store.kv();
    let key = Key::from("tokens/1");
    assert_eq!(kv.get(&key).await, Ok(None));
    let first = kv.cas(&key, Expect::Absent, put("a")).await.expect("the key is absent");
    let there = kv.get(&key).await.expect("a pair can be read").expect("it is there");
    assert_eq!((there.value.clone(), there.version), (Bytes::from("a"), first));
    assert_eq!(kv.cas(&key, Expect::Absent, put("b")).await, Err(CasError::Conflict(Some(there))));
    let second = kv.cas(&key, Expect::Version(first), put("b")).await.expect("the version is current");
    assert_ne!(first, second);
    let stale = kv.cas(&key, Expect::Version(first), Write::Delete).await;
    assert!(matches!(&stale, Err(CasError::Conflict(Some(there))) if there.value == "b"), "{stale:?}");
    kv.cas(&key, Expect::Version(second), Write::Delete).await.expect("the version is current");
    assert_eq!(kv.get(&key).await, Ok(None));
    assert_eq!(kv.cas(&key, Expect::Version(second), put("c")).await, Err(CasError::Conflict(None)));
    kv.cas(&key, Expect::Absent, Write::Delete).await.expect("the key is absent");

    let too_long = Key::from("k".repeat(KEY_BYTES_MAX + 1));
    for refused in [too_long, Key::from("")] {
        let answer = kv.cas(&refused, Expect::Any, put("x")).await;
        assert!(matches!(answer, Err(CasError::Store(StoreError::Invalid(_)))), "{answer:?}");
    }
    let too_large = Write::Put { value: vec![0; VALUE_BYTES_MAX + 1].into(), ttl: None };
    let answer = kv.cas(&key, Expect::Any, too_large).await;
    assert_eq!(answer, Err(CasError::Store(StoreError::TooLarge { limit: VALUE_BYTES_MAX })));
}

/// While the guard holds the write that was named, a guarded swap is like any other; afterwards nothing is written,
/// whatever was expected.
pub async fn a_guarded_pair_is_written_while_its_guard_holds(subject: Subject) {
    let kv = subject.store.kv();
    let (key, seat) = (Key::from("nodes/1"), Key::from("seat"));
    let nobody = Guard { key: seat.clone(), version: Version::from_raw(1) };
    let answer = kv.cas_guarded(&key, Expect::Any, put("x"), &nobody).await;
    assert_eq!(answer, Err(GuardedError::Fenced), "the guard is absent");

    let guard = Guard { version: set(&subject, "seat", put("first")).await, key: seat };
    let first = kv.cas_guarded(&key, Expect::Absent, put("a"), &guard).await.expect("the guard holds");
    let there = kv.get(&key).await.expect("a pair can be read").expect("it is there");
    assert_eq!((there.value.clone(), there.version), (Bytes::from("a"), first));
    let conflict = kv.cas_guarded(&key, Expect::Absent, put("b"), &guard).await;
    assert_eq!(conflict, Err(CasError::Conflict(Some(there)).into()));
    kv.cas_guarded(&key, Expect::Version(first), put("b"), &guard).await.expect("the version is current");
    kv.cas_guarded(&key, Expect::Any, Write::Delete, &guard).await.expect("the guard holds");
    let last = kv.cas_guarded(&key, Expect::Any, put("c"), &guard).await.expect("the guard holds");

    // The same value, written once more, is another write.
    set(&subject, "seat", put("first")).await;
    for expect in [Expect::Any, Expect::Absent, Expect::Version(last)] {
        for write in [put("d"), Write::Delete] {
            let answer = kv.cas_guarded(&key, expect, write, &guard).await;
            assert_eq!(answer, Err(GuardedError::Fenced), "{expect:?}");
        }
    }
    set(&subject, "seat", Write::Delete).await;
    let answer = kv.cas_guarded(&key, Expect::Any, put("d"), &guard).await;
    assert_eq!(answer, Err(GuardedError::Fenced), "the guard is gone");
    assert_eq!(value(&subject, "nodes/1").await, Some(Bytes::from("c")));
}

fn passing(value: &str, ttl_ms: u64) -> Write {
    Write::Put { value: Bytes::copy_from_slice(value.as_bytes()), ttl: Some(Duration::from_millis(ttl_ms)) }
}

/// A pair is there until its time has passed, and absent (for a swap too) soon after; rewriting it without a time
/// keeps it.
pub async fn a_pair_expires_not_before_its_time(subject: Subject) {
    set(&subject, "passing", passing("x", 1_000)).await;
    set(&subject, "kept", passing("x", 1_000)).await;
    set(&subject, "kept", put("y")).await;
    subject.clock.advance_ms(999);
    assert_eq!(value(&subject, "passing").await, Some(Bytes::from("x")));
    subject.clock.advance_ms(1_001);
    soon("the expiry", async {
        while value(&subject, "passing").await.is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let kv = subject.store.kv();
    kv.cas(&Key::from("passing"), Expect::Absent, put("z")).await.expect("an expired key is absent");
    assert_eq!(value(&subject, "passing").await, Some(Bytes::from("z")));
    assert_eq!(value(&subject, "kept").await, Some(Bytes::from("y")));
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(
        value(&subject, "passing").await,
        Some(Bytes::from("z")),
        "the old time does not end the new value"
    );
}

async fn next(watch: &mut BoxStream<'static, KvEvent>) -> KvEvent {
    loop {
        let event = soon("the next event of a watch", watch.next()).await.expect("a watch does not end");
        if event != KvEvent::Current {
            return event;
        }
    }
}

fn told(event: &KvEvent) -> String {
    match event {
        KvEvent::Put { key, versioned } => format!("{key:?}={:?}", versioned.value),
        KvEvent::Delete { key } => format!("{key:?} gone"),
        KvEvent::Reset => "reset".to_owned(),
        KvEvent::Synced => "synced".to_owned(),
        KvEvent::Current => "current".to_owned(),
    }
}

/// First what is there under the prefix, then that it is complete, then each change under it.
pub async fn a_watch_tells_the_snapshot_then_changes(subject: Subject) {
    set(&subject, "sites/a", put("1")).await;
    set(&subject, "sites/b", put("2")).await;
    set(&subject, "tokens/a", put("3")).await;
    let mut watch = subject.store.kv().watch(&Key::from("sites/"));
    let mut events = Vec::new();
    for _ in 0..3 {
        events.push(told(&next(&mut watch).await));
    }
    assert_eq!(events, ["b\"sites/a\"=b\"1\"", "b\"sites/b\"=b\"2\"", "synced"]);
    set(&subject, "tokens/b", put("4")).await;
    set(&subject, "sites/a", put("5")).await;
    assert_eq!(told(&next(&mut watch).await), "b\"sites/a\"=b\"5\"");
    set(&subject, "sites/a", Write::Delete).await;
    assert_eq!(told(&next(&mut watch).await), "b\"sites/a\" gone");
}

/// While nobody writes, a watch says that it knows all there is; before that, all that was written was told.
pub async fn a_watch_without_news_says_that_it_is_current(subject: Subject) {
    let mut watch = subject.store.kv().watch(&Key::from("sites/"));
    let mut event = async || soon("the next event of a watch", watch.next()).await.map(|event| told(&event));
    assert_eq!(event().await.as_deref(), Some("synced"));
    assert_eq!(event().await.as_deref(), Some("current"));
    set(&subject, "sites/a", put("1")).await;
    while let Some(told) = event().await
        && told != "b\"sites/a\"=b\"1\""
    {
        assert_eq!(told, "current");
    }
    assert_eq!(event().await.as_deref(), Some("current"));
}

/// An expiry is told although nobody writes.
pub async fn a_watch_hears_of_an_expiry(subject: Subject) {
    set(&subject, "sites/a", passing("x", 1_000)).await;
    let mut watch = subject.store.kv().watch(&Key::from("sites/"));
    assert_eq!(told(&next(&mut watch).await), "b\"sites/a\"=b\"x\"");
    assert_eq!(told(&next(&mut watch).await), "synced");
    subject.clock.advance_ms(2_000);
    assert_eq!(told(&next(&mut watch).await), "b\"sites/a\" gone");
}

/// Pairs under a prefix, by key, in pages.
pub async fn pairs_are_scanned_in_order(subject: Subject) {
    for name in ["b/2", "a/9", "b/1", "b/3", "c/1", "b"] {
        set(&subject, name, put(name)).await;
    }
    let kv = subject.store.kv();
    let names = |page: Vec<(Key, crate::kv::Versioned)>| {
        page.into_iter()
            .map(|(key, _)| String::from_utf8_lossy(key.as_bytes()).into_owned())
            .collect::<Vec<_>>()
    };
    let prefix = Key::from("b/");
    let all = kv.scan(&prefix, None, 10).await.expect("pairs can be scanned");
    assert_eq!(names(all), ["b/1", "b/2", "b/3"]);
    let page = kv.scan(&prefix, None, 2).await.expect("pairs can be scanned");
    let after = page.last().map(|(key, _)| key.clone());
    assert_eq!(names(page), ["b/1", "b/2"]);
    let page = kv.scan(&prefix, after.as_ref(), 2).await.expect("pairs can be scanned");
    assert_eq!(names(page), ["b/3"]);
    assert_eq!(kv.scan(&Key::from(""), None, 10).await.map(|page| page.len()), Ok(6));
}

/// What this replica publishes is heard, the latest body of each shard.
pub async fn presence_tells_of_this_replica(subject: Subject) {
    let presence = subject.store.presence();
    presence.publish(1, Bytes::from("one")).await.expect("publishing succeeds");
    let mut peers = presence.peers();
    let up = soon("the replica's coming", peers.next()).await;
    let Some(PresenceEvent::Up(replica)) = up else { panic!("first a replica is there: {up:?}") };
    let mut update = async || soon("an update", peers.next()).await;
    let expected = |shard, body: &'static str| {
        Some(PresenceEvent::Update { replica: replica.clone(), shard, body: Bytes::from(body) })
    };
    assert_eq!(update().await, expected(1, "one"));
    presence.publish(2, Bytes::from("two")).await.expect("publishing succeeds");
    assert_eq!(update().await, expected(2, "two"));
    subject.store.close().await;
    assert_eq!(soon("the replica's end", peers.next()).await, Some(PresenceEvent::Down(replica)));
}
