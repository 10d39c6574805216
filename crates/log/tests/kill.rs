//! The process is killed in the middle of appends; whatever it acknowledged is found again.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use batoff_log::embedded::{EmbeddedConfig, EmbeddedStore};
use batoff_log::{Appended, NewRecord, PurgeLog, Store, system_clock};
use batoff_types::Seq;
use bytes::Bytes;

/// Names the directory to the child.
const CHILD_DIR: &str = "BATOFF_LOG_KILL_TEST_DIR";
const ROUNDS: u64 = 6;
const APPENDERS: u64 = 8;

fn open(dir: &Path) -> Arc<EmbeddedStore> {
    EmbeddedStore::open(EmbeddedConfig::new(dir, system_clock())).unwrap()
}

#[test]
fn what_was_acknowledged_before_a_kill_is_there_once() {
    let dir = tempfile::TempDir::new().unwrap();
    let mut acknowledged = BTreeMap::new();
    for round in 0..ROUNDS {
        // Different moments after the first ack: in the first commits, in the middle, after many.
        let before_the_kill = Duration::from_millis(5 + 60 * round);
        let acks = run_and_kill(dir.path(), round, before_the_kill);
        assert!(!acks.is_empty(), "the child of round {round} appended something");
        for (seq, body) in acks {
            assert_eq!(acknowledged.insert(seq, body), None, "{seq} was given twice");
        }
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let found = runtime.block_on(everything(dir.path()));
    for (seq, body) in &acknowledged {
        assert_eq!(found.get(seq), Some(body), "acknowledged record {seq}");
    }
    let numbers: Vec<u64> = found.keys().copied().collect();
    assert_eq!(numbers, (1..=found.len() as u64).collect::<Vec<_>>(), "contiguous");
    let mut bodies: Vec<_> = found.values().collect();
    bodies.sort();
    bodies.dedup();
    assert_eq!(bodies.len(), found.len(), "no record is there twice");
}

/// Runs this very program as a child that appends, kills it, and returns what it said was acknowledged.
fn run_and_kill(dir: &Path, round: u64, delay: Duration) -> Vec<(u64, String)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture", "--test-threads=1"])
        .env(CHILD_DIR, dir)
        .env("BATOFF_LOG_KILL_TEST_ROUND", round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (first, heard) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        // The last line may be torn: then nobody has heard of it.
        let acks = lines.map_while(Result::ok).filter_map(|line| parse(&line));
        acks.inspect(|_| first.send(()).unwrap_or_default()).collect::<Vec<_>>()
    });
    // However long the child takes to start on a busy machine. An error: it has ended without an ack, which is told below.
    let _ = heard.recv();
    std::thread::sleep(delay);
    // SIGKILL.
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

fn parse(line: &str) -> Option<(u64, String)> {
    let (seq, body) = line.split_once("acked ")?.1.strip_suffix(" .")?.split_once(' ')?;
    Some((seq.parse().ok()?, body.to_owned()))
}

async fn everything(dir: &Path) -> BTreeMap<u64, String> {
    let store = open(dir);
    let mut found = BTreeMap::new();
    let mut next = Seq::FIRST;
    loop {
        let page = store.read(next, 1_000, usize::MAX).await.unwrap();
        let Some(last) = page.last() else { break };
        next = last.seq.next();
        for record in page {
            found.insert(record.seq.get(), String::from_utf8(record.body.to_vec()).unwrap());
        }
    }
    store.close().await;
    found
}

#[test]
#[ignore = "the child of the test above, which kills it"]
fn child() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let round = std::env::var("BATOFF_LOG_KILL_TEST_ROUND").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = open(Path::new(&dir));
        let appenders =
            (0..APPENDERS).map(|appender| append_for_ever(Arc::clone(&store), format!("{round}/{appender}")));
        futures_util::future::join_all(appenders).await;
    });
}

async fn append_for_ever(store: Arc<EmbeddedStore>, name: String) {
    for number in 0u64.. {
        let body = format!("{name}/{number}");
        let record = NewRecord {
            body: Bytes::from(body.clone()),
            accepted_at: system_clock()(),
            task: None,
            dedupe: Vec::new(),
        };
        let answers = store.append(vec![record]).await.unwrap();
        let Some(Appended::New { seq }) = answers.first() else { panic!("a new record") };
        println!("acked {seq} {body} .");
    }
}
