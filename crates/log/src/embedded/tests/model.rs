//! Random operations on the store beside a model that is a few vectors.

use std::collections::BTreeMap;
use std::sync::Arc;

use batoff_types::{Seq, TaskId, UnixMillis};
use bytes::Bytes;
use proptest::prelude::*;
use tempfile::TempDir;

use super::{open, open_brisk};
use crate::conformance::ManualClock;
use crate::embedded::EmbeddedStore;
use crate::kv::{CasError, Expect, Key, Kv, Version, Write};
use crate::purge_log::{Appended, Dedupe, NewRecord, NewTask, PurgeLog};
use crate::store::Store;

#[derive(Clone, Debug)]
enum Step {
    /// Each record: its keys, each with the hash of its body and for how many ms a repeat is fresh.
    Append(Vec<Vec<(u8, u8, u64)>>),
    Advance(u64),
    Trim(u64),
    Forget,
    Put {
        key: u8,
        expects_current: bool,
        ttl_ms: Option<u64>,
    },
    Delete {
        key: u8,
    },
    Restart,
}

/// How long keys are remembered, in ms.
const KEY_LIFE: u64 = 500;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let keys = proptest::collection::vec((0..6u8, 0..2u8, prop_oneof![Just(0), Just(100u64)]), 0..3);
    let step = prop_oneof![
        6 => proptest::collection::vec(keys, 1..4).prop_map(Step::Append),
        3 => (1..300u64).prop_map(Step::Advance),
        1 => (1..40u64).prop_map(Step::Trim),
        1 => Just(Step::Forget),
        3 => (0..3u8, any::<bool>(), proptest::option::of(1..400u64))
            .prop_map(|(key, expects_current, ttl_ms)| Step::Put { key, expects_current, ttl_ms }),
        1 => (0..3u8).prop_map(|key| Step::Delete { key }),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_what_the_model_does(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(walk(steps.clone(), open));
        runtime.block_on(walk(steps, open_brisk));
    }
}

struct First {
    seq: u64,
    body: u8,
    at: u64,
    expires: u64,
}

#[derive(Default)]
struct Model {
    now: u64,
    first: u64,
    bodies: Vec<Bytes>,
    keys: BTreeMap<u8, First>,
    pairs: BTreeMap<u8, (Version, u64)>,
    tasks: u64,
}

impl Model {
    fn append(&mut self, keys: &[(u8, u8, u64)], task: u64) -> Appended {
        let now = self.now;
        let known = |name: &u8| self.keys.get(name).filter(|first| now < first.expires);
        if keys.iter().any(|(name, body, _)| known(name).is_some_and(|first| first.body != *body)) {
            return Appended::Conflict;
        }
        let repeated =
            keys.iter().find_map(|(name, _, fresh)| known(name).filter(|first| now - first.at >= *fresh));
        if let Some(First { seq, .. }) = repeated {
            return Appended::Duplicate { seq: Seq::new(*seq).unwrap(), task: task_of(*seq) };
        }
        self.bodies.push(body(task));
        let seq = self.bodies.len() as u64;
        for (name, body, _) in keys {
            if self.keys.get(name).is_none_or(|first| first.expires <= now) {
                self.keys.insert(*name, First { seq, body: *body, at: now, expires: now + KEY_LIFE });
            }
        }
        Appended::New { seq: Seq::new(seq).unwrap() }
    }

    fn pair(&self, key: u8) -> Option<Version> {
        self.pairs.get(&key).filter(|(_, expires)| self.now < *expires).map(|(version, _)| *version)
    }
}

/// Each record gets the task that its number would have, so that the model need not remember tasks.
fn task_of(seq: u64) -> TaskId {
    TaskId::from_bytes(u128::from(seq).to_be_bytes())
}

fn body(task: u64) -> Bytes {
    Bytes::from(format!("purge {task}"))
}

async fn walk(steps: Vec<Step>, open: impl Fn(&TempDir, &ManualClock) -> Arc<EmbeddedStore>) {
    let (dir, clock) = (TempDir::new().unwrap(), ManualClock::default());
    let mut store = open(&dir, &clock);
    let mut model = Model { now: clock.now().0, first: 1, ..Model::default() };
    for step in steps {
        match step {
            Step::Append(records) => append(&store, &mut model, records).await,
            Step::Advance(by) => {
                clock.advance_ms(by);
                model.now += by;
            }
            Step::Trim(keep_from) => {
                model.first = model.first.max(keep_from.min(model.bodies.len() as u64 + 1));
                let first = store.trim(Seq::new(keep_from).unwrap()).await.unwrap();
                assert_eq!(first.get(), model.first);
            }
            Step::Forget => assert_eq!(store.forget_tasks(UnixMillis(0)).await, Ok(0)),
            Step::Put { key, expects_current, ttl_ms } => {
                put(&store, &mut model, key, expects_current, ttl_ms).await;
            }
            Step::Delete { key } => {
                store.cas(&Key::new(vec![key]), Expect::Any, Write::Delete).await.unwrap();
                model.pairs.remove(&key);
            }
            Step::Restart => {
                store.close().await;
                store = open(&dir, &clock);
            }
        }
        compare(&store, &model).await;
    }
    store.close().await;
}

async fn append(store: &Arc<EmbeddedStore>, model: &mut Model, records: Vec<Vec<(u8, u8, u64)>>) {
    let (mut batch, mut expected) = (Vec::new(), Vec::new());
    for keys in records {
        let number = model.bodies.len() as u64 + 1;
        model.tasks += 1;
        let dedupe = keys.iter().map(|(name, body, fresh)| Dedupe {
            key: [*name; 32],
            body_hash: [*body; 32],
            fresh_for_ms: *fresh,
            expires_at: UnixMillis(model.now + KEY_LIFE),
        });
        batch.push(NewRecord {
            body: body(model.tasks),
            accepted_at: UnixMillis(model.now),
            task: Some(NewTask { site: "shop".parse().unwrap(), task: task_of(number), meta: Bytes::new() }),
            dedupe: dedupe.collect(),
        });
        expected.push(model.append(&keys, model.tasks));
    }
    assert_eq!(store.append(batch).await.unwrap(), expected);
}

async fn put(store: &EmbeddedStore, model: &mut Model, key: u8, expects_current: bool, ttl_ms: Option<u64>) {
    let current = model.pair(key);
    let expect = match current {
        Some(version) if expects_current => Expect::Version(version),
        _ => Expect::Absent,
    };
    let ttl = ttl_ms.map(std::time::Duration::from_millis);
    let written = store.cas(&Key::new(vec![key]), expect, Write::Put { value: Bytes::from("v"), ttl }).await;
    match (current, expects_current) {
        (Some(version), false) => {
            assert!(matches!(written, Err(CasError::Conflict(Some(there))) if there.version == version));
        }
        _ => {
            let expires = ttl_ms.map_or(u64::MAX, |ttl| model.now + ttl);
            model.pairs.insert(key, (written.unwrap(), expires));
        }
    }
}

async fn compare(store: &EmbeddedStore, model: &Model) {
    let state = store.state().await.unwrap();
    assert_eq!((state.first.get(), state.tail.get()), (model.first, model.bodies.len() as u64));
    let records = store.read(state.first, 1_000, usize::MAX).await.unwrap();
    let bodies: Vec<_> = records.into_iter().map(|record| record.body).collect();
    assert_eq!(bodies, model.bodies[model.first as usize - 1..]);
    let tasks = store.list_tasks(&"shop".parse().unwrap(), None, 1_000).await.unwrap();
    assert_eq!(tasks.len(), model.bodies.len());
    let pairs = store.scan(&Key::from(""), None, 10).await.unwrap();
    let found: Vec<_> = pairs.iter().map(|(key, versioned)| (key.as_bytes()[0], versioned.version)).collect();
    let expected: Vec<_> = (0..3).filter_map(|key| model.pair(key).map(|version| (key, version))).collect();
    assert_eq!(found, expected);
}
