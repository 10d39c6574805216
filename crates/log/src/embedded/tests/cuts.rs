//! Random operations, the power cut or the process killed at random moments, and what is found then beside a model.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use batoff_types::{Seq, SiteId, TaskId, UnixMillis};
use bytes::Bytes;
use proptest::prelude::*;
use tempfile::TempDir;

use super::super::names::number_of_segment;
use super::recorder::{Loss, RecordingDisk, Remains};
use super::{brisk, names, open_brisk};
use crate::conformance::ManualClock;
use crate::embedded::{EmbeddedConfig, EmbeddedStore};
use crate::kv::{Expect, Key, Kv, Write};
use crate::purge_log::{Appended, Dedupe, NewRecord, NewTask, PurgeLog};
use crate::store::Store;

#[derive(Clone, Debug)]
enum Deed {
    /// So many records, each with a key and a body of so many bytes.
    Append {
        records: u8,
        bytes: usize,
    },
    /// What became of one of the last tasks.
    Complete {
        back: u64,
    },
    /// All but so many of the records.
    Trim {
        keep: u64,
    },
    /// The tasks of the first records, in per cent of all.
    Forget {
        percent: u64,
    },
    Put {
        key: u8,
        value: u8,
    },
    Delete {
        key: u8,
    },
    Reopen,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        8 => (1..5u8, prop_oneof![4 => 1..200usize, 1 => 9_000..20_000usize])
            .prop_map(|(records, bytes)| Deed::Append { records, bytes }),
        3 => (0..8u64).prop_map(|back| Deed::Complete { back }),
        2 => (0..10u64).prop_map(|keep| Deed::Trim { keep }),
        1 => (0..60u64).prop_map(|percent| Deed::Forget { percent }),
        2 => (0..3u8, any::<u8>()).prop_map(|(key, value)| Deed::Put { key, value }),
        1 => (0..3u8).prop_map(|key| Deed::Delete { key }),
        1 => Just(Deed::Reopen),
    ];
    proptest::collection::vec(deed, 4..24)
}

/// What a store holds.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Holding {
    first: u64,
    bodies: Vec<Bytes>,
    completions: BTreeMap<u64, Bytes>,
    forgotten: BTreeSet<u64>,
    pairs: BTreeMap<u8, Bytes>,
}

impl Holding {
    /// Whether it is the same; of what was trimmed only the number is known.
    fn is_like(&self, other: &Self) -> bool {
        let kept = |holding: &Self| holding.bodies.get(holding.first as usize - 1..).map(<[_]>::to_vec);
        let rest = |holding: &Self| Self { bodies: Vec::new(), ..holding.clone() };
        self.bodies.len() == other.bodies.len() && kept(self) == kept(other) && rest(self) == rest(other)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, failure_persistence: None, ..ProptestConfig::default() })]

    /// What was answered is there, what was not is there whole or not at all, and nothing else is.
    #[test]
    fn whatever_is_cut_when_the_store_holds_what_it_has_answered(deeds in deeds(), seed in any::<u64>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(live_and_die(deeds, seed));
    }
}

/// A trimmed segment becomes a new one, and behind its newest group stand those of before, whole: they are no part of it,
/// wherever the power is cut.
#[test]
fn what_a_recycled_segment_held_before_is_never_found_in_it_again() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let round = [
        Deed::Append { records: 2, bytes: 7_000 },
        Deed::Append { records: 1, bytes: 10 },
        Deed::Trim { keep: 2 },
    ];
    let deeds = round.iter().cloned().cycle().take(30 * round.len()).collect();
    let made = runtime.block_on(live_and_die(deeds, 3));
    assert!(made.segments > made.files, "{made:?}: no segment was recycled");
}

/// How often the log went on to a new segment, and how many files were made for that.
#[derive(Debug)]
struct Made {
    segments: usize,
    files: usize,
}

async fn live_and_die(deeds: Vec<Deed>, seed: u64) -> Made {
    let (dir, clock) = (TempDir::new().unwrap(), ManualClock::default());
    let first_breath = open_brisk(&dir, &clock);
    first_breath.close().await;
    let disk = RecordingDisk::new(dir.path(), seed, 12);
    let reopen = || {
        EmbeddedStore::open_on(disk.clone(), EmbeddedConfig::new(dir.path(), clock.clock()), brisk()).unwrap()
    };
    let mut store = reopen();
    let mut holding = Holding {
        first: 1,
        bodies: Vec::new(),
        completions: BTreeMap::new(),
        forgotten: BTreeSet::new(),
        pairs: BTreeMap::new(),
    };
    let mut states = vec![holding.clone()];
    for deed in deeds {
        if matches!(deed, Deed::Reopen) {
            store.close().await;
            drop(store);
            store = reopen();
        } else {
            carry_out(&store, &mut holding, deed).await;
        }
        // Before it is known to be answered, so that a moment in between finds one or the other.
        states.push(holding.clone());
        disk.at(states.len() - 1);
    }
    store.close().await;
    let segments = names(dir.path()).iter().filter_map(|name| number_of_segment(name.to_str()?)).max();
    let made = Made { segments: segments.unwrap_or_default() as usize, files: disk.created() };
    for remains in disk.take_remains() {
        examine(remains, &states, &clock).await;
    }
    made
}

fn site() -> SiteId {
    "shop".parse().unwrap()
}

fn task_of(seq: u64) -> TaskId {
    TaskId::from_bytes(u128::from(seq).to_be_bytes())
}

fn record(seq: u64, body: Bytes) -> NewRecord {
    let mut key = [seq as u8; 32];
    key[8..16].copy_from_slice(&seq.to_le_bytes());
    NewRecord {
        body,
        accepted_at: UnixMillis(seq),
        task: Some(NewTask { site: site(), task: task_of(seq), meta: Bytes::from(seq.to_string()) }),
        dedupe: vec![Dedupe {
            key,
            body_hash: [1; 32],
            fresh_for_ms: 0,
            expires_at: UnixMillis(u64::MAX - 1),
        }],
    }
}

async fn carry_out(store: &Arc<EmbeddedStore>, holding: &mut Holding, deed: Deed) {
    let tail = holding.bodies.len() as u64;
    match deed {
        Deed::Append { records, bytes } => {
            let numbers = tail + 1..=tail + u64::from(records);
            let body = |seq: u64| Bytes::from(format!("{seq}:{}", "x".repeat(bytes)));
            let batch = numbers.clone().map(|seq| record(seq, body(seq))).collect();
            let answers = store.append(batch).await.unwrap();
            let expected: Vec<_> =
                numbers.clone().map(|seq| Appended::New { seq: Seq::new(seq).unwrap() }).collect();
            assert_eq!(answers, expected);
            holding.bodies.extend(numbers.map(body));
        }
        Deed::Complete { back } => {
            let Some(seq) = tail.checked_sub(back).filter(|seq| *seq > 0) else { return };
            let completion = Bytes::from(format!("done {seq} after {tail}"));
            store.put_completions(vec![(task_of(seq), completion.clone())]).await.unwrap();
            if !holding.forgotten.contains(&seq) {
                holding.completions.insert(seq, completion);
            }
        }
        Deed::Trim { keep } => {
            let keep_from = (tail + 1).saturating_sub(keep).max(1);
            holding.first = holding.first.max(keep_from);
            let first = store.trim(Seq::new(keep_from).unwrap()).await.unwrap();
            assert_eq!(first.get(), holding.first);
        }
        Deed::Forget { percent } => {
            let end = tail * percent / 100;
            let forgotten = store.forget_tasks(UnixMillis(end + 1)).await.unwrap();
            let before = holding.forgotten.len();
            holding.forgotten.extend(1..=end);
            holding.completions.retain(|seq, _| *seq > end);
            assert_eq!(forgotten as usize, holding.forgotten.len() - before);
        }
        Deed::Put { key, value } => {
            let value = Bytes::from(vec![value; 100]);
            let write = Write::Put { value: value.clone(), ttl: None };
            store.cas(&Key::new(vec![key]), Expect::Any, write).await.unwrap();
            holding.pairs.insert(key, value);
        }
        Deed::Delete { key } => {
            store.cas(&Key::new(vec![key]), Expect::Any, Write::Delete).await.unwrap();
            holding.pairs.remove(&key);
        }
        Deed::Reopen => {}
    }
}

async fn examine(remains: Remains, states: &[Holding], clock: &ManualClock) {
    let Remains { dir, loss, after } = remains;
    let store = open_brisk(&dir, clock);
    let found = holding_of(&store).await;
    let what = format!("{loss:?} after {after} deeds");
    let answered = &states[after];
    let in_hand = states.get(after + 1).unwrap_or(answered);
    if !(found.is_like(answered) || found.is_like(in_hand)) {
        panic!("{what}:\nfound    {found:?}\nanswered {answered:?}\nin hand  {in_hand:?}");
    }
    // Every key is known, and the log goes on.
    for seq in 1..=found.bodies.len() as u64 {
        let repeat = store.append(vec![record(seq, Bytes::from("again"))]).await.unwrap();
        let first = Appended::Duplicate { seq: Seq::new(seq).unwrap(), task: task_of(seq) };
        assert_eq!(repeat, [first], "{what}");
    }
    let next = found.bodies.len() as u64 + 1;
    let appended = store.append(vec![record(next, Bytes::from("next"))]).await.unwrap();
    assert_eq!(appended, [Appended::New { seq: Seq::new(next).unwrap() }], "{what}");
    store.close().await;
    let again = open_brisk(&dir, clock);
    assert_eq!(again.state().await.unwrap().tail.get(), next, "{what}, {:?}", Loss::Nothing);
    again.close().await;
}

async fn holding_of(store: &EmbeddedStore) -> Holding {
    let state = store.state().await.unwrap();
    let mut bodies: Vec<Bytes> =
        (1..state.first.get()).map(|seq| Bytes::from(format!("trimmed {seq}"))).collect();
    loop {
        let next = Seq::new(bodies.len() as u64 + 1).unwrap();
        let page = store.read(next, 7, 40_000).await.unwrap();
        if page.is_empty() {
            break;
        }
        bodies.extend(page.into_iter().map(|record| record.body));
    }
    assert_eq!(bodies.len() as u64, state.tail.get());
    let rows = store.list_tasks(&site(), None, 1_000).await.unwrap();
    let known: BTreeSet<u64> = rows.iter().map(|row| row.seq.get()).collect();
    assert!(rows.is_sorted_by(|one, next| one.seq > next.seq));
    for row in &rows {
        assert_eq!(store.find_task(row.task).await.unwrap().as_ref(), Some(row));
    }
    let completed = |row: &crate::purge_log::TaskRow| Some((row.seq.get(), row.completion.clone()?));
    let pairs = store.scan(&Key::from(""), None, 10).await.unwrap();
    Holding {
        first: state.first.get(),
        completions: rows.iter().filter_map(completed).collect(),
        forgotten: (1..=state.tail.get()).filter(|seq| !known.contains(seq)).collect(),
        pairs: pairs.into_iter().map(|(key, pair)| (key.as_bytes()[0], pair.value)).collect(),
        bodies,
    }
}
