//! The keys and values of the present release, as they lie in `golden/keys-1`: what a later build must still read, and what it
//! must refuse by name. A test that fails here has changed a format: give it a new number (`stored::FORMAT`), carry the old
//! one over, and add a file beside this one; never make it anew.
//!
//! `BATOFF_GOLDEN_FILES=<folder>` writes the file of this build there, for a format that has none yet.
//!
//! A line is a key below the prefix, a space, and its value: bytes in hexadecimal digits, or a byte and how often it comes.
//! What is random has been taken out: each writer is sixteen times `aa`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use batoff_log::conformance::ManualClock;
use batoff_log::{Appended, Dedupe, Expect, Key, NewRecord, NewTask, Store, StoreError, TaskRow, Write};
use batoff_types::UnixMillis;
use bytes::Bytes;
use prost::Message;

use super::{append_one, everything, seq, site, task_id, tasks};
use crate::client::EtcdClient;
use crate::envelope::PIECE_BYTES_MAX;
use crate::names::KeyNames;
use crate::rpc::{KeyRange, PutRequest};
use crate::stored::{Envelope, Identity};
use crate::testing::EtcdServers;
use crate::{DEFAULT_PREFIX, EtcdConfig, EtcdOpenError, EtcdStore};

/// Records from this one on are kept.
const FIRST: u64 = 5;
const LAST: u64 = 9;

/// Its record is in parts.
const LARGE: u64 = 7;
/// What is left of it after the trim is in parts.
const LARGE_ROW: u64 = 4;
/// It has no task.
const PLAIN: u64 = 6;
/// Its task is forgotten, and its key is not.
const FORGOTTEN: u64 = 1;
/// They were completed: one in a page by now, one in the log.
const COMPLETED: [u64; 2] = [2, 8];

/// How long the pair lives that expires.
const TTL: Duration = Duration::from_secs(60);

/// Runs of a byte from this length on are counted.
const RUN_MIN: usize = 24;

type Dump = BTreeMap<Vec<u8>, Vec<u8>>;

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests/golden/keys-1")
}

fn accepted_at(number: u64) -> UnixMillis {
    UnixMillis(1_000 + number)
}

fn body(number: u64) -> Bytes {
    match number {
        LARGE => vec![b'r'; PIECE_BYTES_MAX + 1].into(),
        _ => Bytes::from(format!("body {number}")),
    }
}

/// What is kept of a task: the record's body, or something else.
fn meta(number: u64) -> Bytes {
    match number {
        LARGE_ROW => vec![b'm'; PIECE_BYTES_MAX + 1].into(),
        _ if number.is_multiple_of(2) => Bytes::from_static(b"meta"),
        _ => body(number),
    }
}

fn record(number: u64) -> NewRecord {
    let dedupe = Dedupe {
        key: [number as u8; 32],
        body_hash: [1; 32],
        fresh_for_ms: 0,
        expires_at: UnixMillis(u64::MAX - 1),
    };
    let task = NewTask { site: site(), task: task_id(number), meta: meta(number) };
    let has_task = number != PLAIN;
    NewRecord {
        body: body(number),
        accepted_at: accepted_at(number),
        task: has_task.then_some(task),
        dedupe: has_task.then_some(dedupe).into_iter().collect(),
    }
}

async fn write(store: &EtcdStore) {
    let log = store.log();
    for number in 1..=LAST {
        assert_eq!(append_one(store, record(number)).await, Appended::New { seq: seq(number) });
    }
    for number in COMPLETED {
        log.put_completions(vec![(task_id(number), Bytes::from_static(b"done"))]).await.unwrap();
    }
    assert_eq!(log.forget_tasks(accepted_at(FORGOTTEN + 1)).await, Ok(1));
    assert_eq!(log.trim(seq(FIRST)).await, Ok(seq(FIRST)));
    for (key, ttl) in [("pair", None), ("soon", Some(TTL))] {
        let write = Write::Put { value: Bytes::from_static(b"value"), ttl };
        store.kv().cas(&Key::from(key), Expect::Absent, write).await.unwrap();
    }
    // It is written while room is short.
    let room = store.shared().names.room();
    store.shared().client.put(&PutRequest { key: room, value: Bytes::new(), lease: 0 }).await.unwrap();
}

/// What the golden file holds, whichever build wrote it.
async fn check(store: &EtcdStore, clock: &ManualClock) {
    let log = store.log();
    let state = log.state().await.unwrap();
    assert_eq!((state.first, state.tail.get()), (seq(FIRST), LAST));
    let records = everything(log).await;
    assert_eq!(records.len() as u64, LAST - FIRST + 1);
    for record in records {
        let number = record.seq.get();
        assert!(record.body == body(number) && record.accepted_at == accepted_at(number), "{number}");
    }
    let has_row = |number: &u64| ![PLAIN, FORGOTTEN].contains(number);
    let rows: Vec<_> = (1..=LAST).rev().filter(has_row).map(row).collect();
    assert!(tasks(log).await == rows);
    for number in (1..=LAST).filter(|number| *number != PLAIN) {
        let found = log.find_task(task_id(number)).await.unwrap();
        assert!(found == has_row(&number).then(|| row(number)), "{number}");
        let repeat = append_one(store, record(number)).await;
        assert_eq!(repeat, Appended::Duplicate { seq: seq(number), task: task_id(number) });
    }
    let value = async |key: &str| Some(store.kv().get(&Key::from(key)).await.unwrap()?.value);
    let there = Some(Bytes::from_static(b"value"));
    assert_eq!((value("pair").await, value("soon").await), (there.clone(), there.clone()));
    clock.advance_ms(u64::try_from(TTL.as_millis()).unwrap());
    assert_eq!((value("pair").await, value("soon").await), (there, None));
    assert_eq!(append_one(store, record(LAST + 1)).await, Appended::New { seq: seq(LAST + 1) });
}

fn row(number: u64) -> TaskRow {
    TaskRow {
        task: task_id(number),
        site: site(),
        seq: seq(number),
        accepted_at: accepted_at(number),
        meta: meta(number),
        completion: COMPLETED.contains(&number).then(|| Bytes::from_static(b"done")),
    }
}

fn names() -> KeyNames {
    KeyNames::new(DEFAULT_PREFIX).unwrap()
}

/// All that lies under the prefix, without who is there at this moment.
async fn dump(client: &EtcdClient) -> Dump {
    let KeyRange { begin, end } = names().replicas();
    let found = client.range(&names().everything().read(0)).await.unwrap();
    let lasting = found.kvs.into_iter().filter(|kv| kv.key < begin || kv.key >= end);
    lasting.map(|kv| (kv.key[DEFAULT_PREFIX.len()..].to_vec(), kv.value.to_vec())).collect()
}

async fn load(client: &EtcdClient, dump: &Dump) {
    for (key, value) in dump {
        let key = [DEFAULT_PREFIX.as_bytes(), key].concat().into();
        client.put(&PutRequest { key, value: value.clone().into(), lease: 0 }).await.unwrap();
    }
}

/// Takes out what is random: who wrote a value, and of which log and cluster it is.
fn without_chance(dump: Dump) -> Dump {
    let is_enveloped = |key: &[u8]| key.starts_with(b"l/") || key.starts_with(b"x/");
    let mut writers = Vec::new();
    for (_, value) in dump.iter().filter(|(key, _)| is_enveloped(key)) {
        writers.push(Envelope::decode(&**value).unwrap().writer.to_vec());
    }
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes();
    let nobody = [0xAA; 16];
    dump.into_iter()
        .map(|(mut key, mut value)| {
            if key == b"m" {
                let identity = Identity::decode(&*value).unwrap();
                assert_eq!(identity.log_id.len(), 16);
                let log_id = Bytes::copy_from_slice(&nobody);
                value = Identity { log_id, cluster_id: u64::MAX, ..identity }.encode_to_vec();
            }
            for writer in &writers {
                key = replaced(&key, &hex(writer), &hex(&nobody));
                if is_enveloped(&key) {
                    value = replaced(&value, writer, &nobody);
                }
            }
            (key, value)
        })
        .collect()
}

fn replaced(bytes: &[u8], what: &[u8], by: &[u8]) -> Vec<u8> {
    match bytes.windows(what.len()).position(|window| window == what) {
        Some(at) => [&bytes[..at], by, &bytes[at + what.len()..]].concat(),
        None => bytes.to_vec(),
    }
}

fn to_text(dump: &Dump) -> String {
    let mut text = String::new();
    for (key, value) in dump {
        text += str::from_utf8(key).unwrap();
        let mut is_run = true;
        for run in value.chunk_by(|one, other| one == other) {
            if run.len() >= RUN_MIN {
                text += &format!(" {:02x}*{}", run[0], run.len());
                is_run = true;
                continue;
            }
            text += if is_run { " " } else { "" };
            is_run = false;
            text.extend(run.iter().map(|byte| format!("{byte:02x}")));
        }
        text += "\n";
    }
    text
}

fn of_text(text: &str) -> Dump {
    let byte = |hex: &str| u8::from_str_radix(hex, 16).unwrap();
    let mut dump = Dump::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let key = words.next().unwrap().as_bytes().to_vec();
        let mut value = Vec::new();
        for word in words {
            match word.split_once('*') {
                Some((repeated, times)) => {
                    value.resize(value.len() + times.parse::<usize>().unwrap(), byte(repeated));
                }
                None => value.extend((0..word.len()).step_by(2).map(|at| byte(&word[at..at + 2]))),
            }
        }
        dump.insert(key, value);
    }
    dump
}

fn golden() -> Dump {
    of_text(&std::fs::read_to_string(file()).unwrap())
}

/// A cluster that holds the golden keys, as one does after a snapshot was restored in it.
async fn restored(clock: &ManualClock) -> (EtcdServers, EtcdConfig, EtcdClient) {
    let servers = EtcdServers::start(1).await;
    let config = servers.config(clock.clock());
    let client = EtcdClient::new(&config).unwrap();
    load(&client, &golden()).await;
    (servers, config, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_keys_of_the_present_release_are_read() {
    let clock = ManualClock::default();
    let (_servers, config, _) = restored(&clock).await;
    let Err(refused) = EtcdStore::open(config.clone()).await else { panic!("it is of another cluster") };
    let is_known = |log_id: &batoff_types::LogId| log_id.to_bytes() == [0xAA; 16];
    assert!(matches!(&refused, EtcdOpenError::Restored { log_id } if is_known(log_id)), "{refused}");
    EtcdStore::adopt_copy(config.clone()).await.unwrap();
    let store = EtcdStore::open(config).await.unwrap();
    check(&store, &clock).await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_this_build_writes_is_what_the_golden_file_holds() {
    let (servers, clock) = (EtcdServers::start(1).await, ManualClock::default());
    let store = super::open(&servers, &clock).await;
    write(&store).await;
    let written = without_chance(dump(&store.shared().client).await);
    if let Some(folder) = std::env::var_os("BATOFF_GOLDEN_FILES").map(PathBuf::from) {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("keys-1"), to_text(&written)).unwrap();
    }
    assert!(of_text(&to_text(&written)) == written, "the golden file's own form loses something");
    check(&store, &clock).await;
    store.close().await;

    let golden = golden();
    let keys =
        |dump: &Dump| dump.keys().map(|key| String::from_utf8(key.clone()).unwrap()).collect::<Vec<_>>();
    assert_eq!(keys(&written), keys(&golden));
    for (key, value) in &written {
        assert!(golden[key] == *value, "{} has another value", String::from_utf8_lossy(key));
    }
    // Every kind of key that a log consists of.
    for kind in ["m", "h", "f", "l/", "x/", "p/", "q/", "k/", "e/", "r"] {
        assert!(keys(&golden).iter().any(|key| key.starts_with(kind)), "there is none of {kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_a_later_format_are_refused_by_its_number_and_stay_as_they_are() {
    let clock = ManualClock::default();
    let (_servers, config, client) = restored(&clock).await;
    let key = names().identity();
    let later = {
        let identity = Identity::decode(&*golden()[&b"m"[..]]).unwrap();
        Identity { format: 2, ..identity }.encode_to_vec()
    };
    client.put(&PutRequest { key: key.clone(), value: later.clone().into(), lease: 0 }).await.unwrap();
    let before = dump(&client).await;
    for _ in 0..2 {
        let Err(refused) = EtcdStore::open(config.clone()).await else {
            panic!("a downgrade guesses what it reads")
        };
        assert!(matches!(refused, EtcdOpenError::Store(StoreError::Format(2))), "{refused}");
        assert!(refused.to_string().contains("format 2"), "{refused}");
        // Nor does the way for copies lead past it.
        let adopted = EtcdStore::adopt_copy(config.clone()).await;
        assert!(matches!(adopted, Err(EtcdOpenError::Store(StoreError::Format(2)))));
    }
    assert!(dump(&client).await == before);
    let found = client.range(&KeyRange::one(key).read(1)).await.unwrap();
    assert!(found.kvs[0].value == later);
}
