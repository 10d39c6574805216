use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use batoff_types::{Seq, TaskId, UnixMillis};
use bytes::Bytes;
use redb::{Database, ReadableTable};
use tempfile::TempDir;

use super::super::layout::{META, META_FORMAT, SITE_TASKS, TASK_SEQS, TASKS};
use super::super::names::segment as name;
use super::{copy_files, open};
use crate::conformance::ManualClock;
use crate::embedded::{EmbeddedConfig, EmbeddedStore, OpenError};
use crate::error::{ReadError, StoreError};
use crate::purge_log::{NewRecord, NewTask, PurgeLog};
use crate::store::Store;

fn record(body: &'static str) -> NewRecord {
    NewRecord {
        body: Bytes::from_static(body.as_bytes()),
        accepted_at: UnixMillis(1),
        task: None,
        dedupe: Vec::new(),
    }
}

/// A directory with a closed store of ten records.
async fn written() -> TempDir {
    let dir = TempDir::new().unwrap();
    let store = open(&dir, &ManualClock::default());
    store.append(vec![record("x"); 10]).await.unwrap();
    store.close().await;
    dir
}

fn refusal(dir: &Path) -> OpenError {
    match EmbeddedStore::open(EmbeddedConfig::new(dir, ManualClock::default().clock())) {
        Ok(_) => panic!("the store should not open"),
        Err(error) => error,
    }
}

/// Changes the closed store behind its back.
fn tamper(dir: &TempDir, change: impl FnOnce(&redb::WriteTransaction)) {
    let database = Database::open(dir.path().join("purge.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    change(&transaction);
    transaction.commit().unwrap();
}

/// Flips a bit of the first place in the file that holds `bytes`; where that was.
fn spoil(path: &Path, bytes: &[u8]) -> usize {
    let mut content = fs::read(path).unwrap();
    let at = content.windows(bytes.len()).position(|window| window == bytes).unwrap();
    content[at] ^= 1;
    fs::write(path, content).unwrap();
    at
}

#[tokio::test]
async fn a_store_is_found_again_as_it_was_left() {
    let dir = written().await;
    let store = open(&dir, &ManualClock::default());
    let state = store.state().await.unwrap();
    assert_eq!((state.first, state.tail.get()), (Seq::FIRST, 10));
    store.trim(Seq::new(11).unwrap()).await.unwrap();
    store.close().await;
    let store = open(&dir, &ManualClock::default());
    let trimmed = store.state().await.unwrap();
    assert_eq!((trimmed.log_id, trimmed.first.get(), trimmed.tail.get()), (state.log_id, 11, 10));
}

#[tokio::test]
async fn the_directory_is_made_for_its_owner_alone() {
    let parent = TempDir::new().unwrap();
    let dir = parent.path().join("a/b");
    let store = EmbeddedStore::open(EmbeddedConfig::new(&dir, ManualClock::default().clock())).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(mode(&dir.join("purge.redb")), 0o600);
    store.close().await;
}

#[tokio::test]
async fn a_second_process_is_kept_out() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir, &ManualClock::default());
    let error = refusal(dir.path());
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("in use by another process"));
    store.close().await;
    open(&dir, &ManualClock::default());
}

#[tokio::test]
async fn a_dropped_store_lets_go() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir, &ManualClock::default());
    let tail = store.tail(Seq::FIRST);
    drop(store);
    let mut left = 500;
    while EmbeddedStore::open(EmbeddedConfig::new(dir.path(), ManualClock::default().clock())).is_err() {
        left -= 1;
        assert!(left > 0, "the directory stays locked");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    drop(tail);
}

#[tokio::test]
async fn a_path_that_is_no_directory_is_named() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    let error = refusal(&file);
    assert!(matches!(error, OpenError::Io { .. }), "{error}");
    assert!(error.to_string().contains("file"), "{error}");
}

#[tokio::test]
async fn something_else_is_not_taken_for_a_store() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("purge.redb"), "not a database".repeat(1_000)).unwrap();
    assert!(matches!(refusal(dir.path()), OpenError::Foreign { .. }));

    let dir = TempDir::new().unwrap();
    drop(Database::create(dir.path().join("purge.redb")).unwrap());
    assert!(matches!(refusal(dir.path()), OpenError::Foreign { .. }));
}

#[tokio::test]
async fn another_format_is_refused() {
    let dir = written().await;
    tamper(&dir, |transaction| {
        transaction.open_table(META).unwrap().insert(META_FORMAT, 7).unwrap();
    });
    assert!(matches!(refusal(dir.path()), OpenError::Format { found: 7, supported: 3, .. }));
}

#[tokio::test]
async fn a_spoilt_record_at_the_tail_stops_the_start() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir, &ManualClock::default());
    for body in ["first", "middle", "last"] {
        store.append(vec![record(body)]).await.unwrap();
    }
    store.close().await;
    for body in ["first", "middle", "last"] {
        let copy = TempDir::new().unwrap();
        copy_files(dir.path(), copy.path());
        let at = spoil(&copy.path().join(name(1)), body.as_bytes());
        let error = refusal(copy.path());
        let OpenError::Corrupt { path, detail } = &error else { panic!("{error}") };
        assert_eq!(*path, copy.path().join(name(1)));
        // Of the last one, nobody can tell from the file that anybody has heard of it.
        let says = if body == "last" {
            "it ends with group 2".to_owned()
        } else {
            format!("at byte {}", at / 4096 * 4096)
        };
        assert!(detail.contains(&says), "{error}");
        assert!(error.to_string().contains("restore a backup"), "{error}");
    }
}

/// A directory with a closed store whose log has at least three segments.
async fn with_segments() -> TempDir {
    let dir = TempDir::new().unwrap();
    let store = open(&dir, &ManualClock::default());
    for _ in 0..40 {
        let body = Bytes::from(vec![b'x'; 100_000]);
        store.append(vec![NewRecord { body, ..record("") }, record("a small one")]).await.unwrap();
    }
    store.close().await;
    assert!(dir.path().join(name(3)).exists());
    dir
}

#[tokio::test]
async fn a_missing_segment_stops_the_start() {
    let dir = with_segments().await;
    let segments = (1..).take_while(|number| dir.path().join(name(*number)).exists()).count() as u64;
    for number in 1..=segments {
        let copy = TempDir::new().unwrap();
        copy_files(dir.path(), copy.path());
        fs::remove_file(copy.path().join(name(number))).unwrap();
        let error = refusal(copy.path());
        assert!(matches!(&error, OpenError::Corrupt { .. }), "{error}");
        assert!(number == segments || error.to_string().contains(&name(number)), "{error}");
    }
}

#[tokio::test]
async fn a_segment_of_another_length_stops_the_start() {
    let dir = with_segments().await;
    for (number, change) in [(1, -1_i64), (1, 4_096), (3, -4_096), (3, 1)] {
        let copy = TempDir::new().unwrap();
        copy_files(dir.path(), copy.path());
        let path = copy.path().join(name(number));
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(file.metadata().unwrap().len().strict_add_signed(change)).unwrap();
        let error = refusal(copy.path());
        assert!(matches!(&error, OpenError::Corrupt { path: named, .. } if *named == path), "{error}");
    }
}

#[tokio::test]
async fn a_spoilt_record_far_back_is_found_when_it_is_read() {
    let dir = with_segments().await;
    let path = dir.path().join(name(1));
    spoil(&path, b"a small one");
    let store = open(&dir, &ManualClock::default());
    let spoilt = store.read(Seq::FIRST, 3, 100).await;
    assert!(
        matches!(&spoilt, Err(ReadError::Store(StoreError::Corrupt(detail)))
            if detail.contains(path.to_str().unwrap()) && detail.contains("at byte 4096")),
        "{spoilt:?}"
    );
    assert_eq!(store.read(Seq::new(70).unwrap(), 3, 100).await.map(|page| page.len()), Ok(1));
    store.close().await;
}

#[tokio::test]
async fn trimmed_segments_are_deleted_once_a_checkpoint_needs_them_no_more() {
    let dir = with_segments().await;
    let store = open(&dir, &ManualClock::default());
    let first = store.trim(Seq::new(70).unwrap()).await.unwrap();
    assert_eq!(first.get(), 70);
    store.append(vec![record("later")]).await.unwrap();
    let mut left = 500;
    while dir.path().join(name(1)).exists() {
        left -= 1;
        assert!(left > 0, "the first segment stays");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        store.append(vec![record("later")]).await.unwrap();
    }
    assert!(store.read(Seq::new(70).unwrap(), 3, 100).await.is_ok());
    store.close().await;
    let store = open(&dir, &ManualClock::default());
    assert_eq!(store.state().await.unwrap().first.get(), 70);
    assert_eq!(store.read(Seq::new(70).unwrap(), 1, 1).await.unwrap()[0].body, "a small one");
    store.close().await;
}

#[tokio::test]
async fn a_copy_without_its_identity_is_refused_until_it_is_adopted() {
    let dir = written().await;
    let copy = TempDir::new().unwrap();
    copy_files(dir.path(), copy.path());
    fs::remove_file(copy.path().join("LOG_ID")).unwrap();
    let error = refusal(copy.path());
    assert!(matches!(error, OpenError::Copy { beside: None, .. }), "{error}");
    assert!(error.to_string().contains("--new-log-id"), "{error}");

    let adopted = EmbeddedStore::adopt_copy(copy.path()).unwrap();
    let store = open(&copy, &ManualClock::default());
    let state = store.state().await.unwrap();
    assert_eq!((state.log_id, state.tail.get()), (adopted, 10));
    let original = open(&dir, &ManualClock::default());
    assert_ne!(original.state().await.unwrap().log_id, adopted);
}

#[tokio::test]
async fn files_of_two_stores_are_not_taken_for_one() {
    let (dir, other) = (written().await, written().await);
    for file in [name(1), "pairs.redb".to_owned()] {
        let mixed = TempDir::new().unwrap();
        copy_files(dir.path(), mixed.path());
        fs::copy(other.path().join(&file), mixed.path().join(&file)).unwrap();
        let error = refusal(mixed.path());
        assert!(error.to_string().contains("another store") && error.to_string().contains(&file), "{error}");
    }
}

#[tokio::test]
async fn a_store_restored_over_another_is_refused() {
    let (dir, other) = (written().await, written().await);
    fs::copy(dir.path().join("purge.redb"), other.path().join("purge.redb")).unwrap();
    assert!(matches!(refusal(other.path()), OpenError::Copy { beside: Some(_), .. }));
}

#[tokio::test]
async fn a_store_that_vanished_is_not_silently_begun_anew() {
    let dir = written().await;
    fs::remove_file(dir.path().join("purge.redb")).unwrap();
    let error = refusal(dir.path());
    assert!(matches!(error, OpenError::Lost { .. }), "{error}");
    fs::remove_file(dir.path().join("LOG_ID")).unwrap();
    let error = refusal(dir.path());
    assert!(matches!(error, OpenError::Lost { .. }), "records are still there: {error}");
    assert!(error.to_string().contains("log-"), "{error}");
    fs::remove_file(dir.path().join(name(1))).unwrap();
    fs::remove_file(dir.path().join("pairs.redb")).unwrap();
    open(&dir, &ManualClock::default());
}

#[tokio::test]
async fn an_interrupted_first_start_is_begun_anew() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("purge.redb.new"), "half").unwrap();
    fs::write(dir.path().join("LOG_ID"), "01ARZ3NDEKTSV4RRFFQ69G5FAV\n").unwrap();
    for made in [&name(1), "pairs.redb", "spare-0"] {
        fs::write(dir.path().join(made), "half").unwrap();
    }
    let store = open(&dir, &ManualClock::default());
    assert_eq!(store.state().await.unwrap().tail.get(), 0);
}

#[tokio::test]
async fn an_older_state_of_the_same_store_is_refused() {
    let dir = TempDir::new().unwrap();
    let clock = ManualClock::default();
    let store = open(&dir, &clock);
    store.append(vec![record("x")]).await.unwrap();
    store.close().await;
    let old = TempDir::new().unwrap();
    copy_files(dir.path(), old.path());
    let store = open(&dir, &clock);
    store.append(vec![record("y")]).await.unwrap();
    store.close().await;
    fs::remove_file(old.path().join("ACKNOWLEDGED")).unwrap();
    copy_files(old.path(), dir.path());
    let refused = refusal(dir.path());
    assert!(
        matches!(&refused, OpenError::Corrupt { detail, .. } if detail.contains("record 2")),
        "{refused}"
    );
    // It is what an operator may decide to live with.
    EmbeddedStore::adopt_copy(dir.path()).unwrap();
    open(&dir, &clock).close().await;
}

fn task(n: u8, site: &str) -> NewRecord {
    let task = NewTask {
        site: site.parse().unwrap(),
        task: TaskId::from_bytes([n; 16]),
        meta: Bytes::from_static(b"meta"),
    };
    NewRecord { task: Some(task), ..record("x") }
}

/// A directory with a closed store of twenty tasks of two sites, some of them with completions.
async fn with_tasks() -> TempDir {
    let dir = TempDir::new().unwrap();
    let store = open(&dir, &ManualClock::default());
    for n in 1..=10 {
        store.append(vec![task(n, "shop"), task(100 + n, "blog")]).await.unwrap();
    }
    let completed =
        (1..=5).map(|n| (TaskId::from_bytes([n; 16]), Bytes::from_static(b"completed"))).collect();
    store.put_completions(completed).await.unwrap();
    store.close().await;
    dir
}

/// Whether the tasks are all there and as they were; an error is an answer as well.
async fn check_tasks(store: &EmbeddedStore, what: &str) {
    for (site, from) in [("shop", 1_u8), ("blog", 101)] {
        if let Ok(listed) = store.list_tasks(&site.parse().unwrap(), None, 100).await {
            let ids: Vec<_> = listed.iter().map(|row| row.task.to_bytes()[0]).collect();
            let expected: Vec<_> = (from..from + 10).rev().collect();
            assert_eq!(ids, expected, "{what}");
            let completed = listed.iter().filter(|row| row.completion.as_deref() == Some(b"completed"));
            assert_eq!(completed.count(), if site == "shop" { 5 } else { 0 }, "{what}");
        }
        for n in from..from + 10 {
            let found = store.find_task(TaskId::from_bytes([n; 16])).await;
            assert!(!matches!(found, Ok(None)), "task {n}: {what}");
        }
    }
}

/// As a crash leaves it, and as a clean stop does: a bit that flips anywhere in a file is found at the start or when what
/// it is part of is read, or it was in room that nothing uses. It never takes an acknowledged record or a task away
/// silently.
#[tokio::test]
async fn no_flipped_bit_makes_what_was_acknowledged_vanish() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir, &ManualClock::default());
    for n in 1..=10 {
        store.append(vec![task(n, "shop"), task(100 + n, "blog")]).await.unwrap();
    }
    let completed =
        (1..=5).map(|n| (TaskId::from_bytes([n; 16]), Bytes::from_static(b"completed"))).collect();
    store.put_completions(completed).await.unwrap();
    let crashed = TempDir::new().unwrap();
    copy_files(dir.path(), crashed.path());
    store.close().await;
    let (mut refused, mut whole) = (0, 0);
    for state in [&crashed, &dir] {
        for file in ["purge.redb", &name(1)] {
            let content = fs::read(state.path().join(file)).unwrap();
            let used: Vec<usize> = (0..content.len()).filter(|at| content[*at] != 0).collect();
            for at in used.iter().step_by(used.len().div_ceil(120)) {
                let copy = TempDir::new().unwrap();
                copy_files(state.path(), copy.path());
                let mut spoilt = content.clone();
                spoilt[*at] ^= 1 << (at % 8);
                fs::write(copy.path().join(file), spoilt).unwrap();
                let config = EmbeddedConfig::new(copy.path(), ManualClock::default().clock());
                let Ok(store) = EmbeddedStore::open(config) else {
                    refused += 1;
                    continue;
                };
                assert_eq!(file, "purge.redb", "each used byte of the log is checked: byte {at}");
                let records = store.read(Seq::FIRST, 100, usize::MAX).await.unwrap();
                assert_eq!(records.len(), 20, "byte {at} of {file}");
                check_tasks(&store, &format!("byte {at} of {file}")).await;
                store.close().await;
                whole += 1;
            }
        }
    }
    assert!(refused > 0 && whole > 0, "{refused} refused, {whole} whole");
}

#[tokio::test]
async fn an_index_that_does_not_say_what_the_tasks_say_is_made_anew() {
    let dir = with_tasks().await;
    tamper(&dir, |transaction| {
        let mut by_site = transaction.open_table(SITE_TASKS).unwrap();
        by_site.remove(("shop", 1)).unwrap();
        by_site.insert(("shoq", 1), ()).unwrap();
        transaction.open_table(TASK_SEQS).unwrap().insert(&[1; 16], 3).unwrap();
    });
    let store = open(&dir, &ManualClock::default());
    check_tasks(&store, "made anew").await;
    assert!(store.list_tasks(&"shoq".parse().unwrap(), None, 10).await.unwrap().is_empty());
    store.close().await;
}

#[tokio::test]
async fn a_task_that_is_not_what_was_written_stops_the_start_and_is_named() {
    let dir = with_tasks().await;
    tamper(&dir, |transaction| {
        let mut tasks = transaction.open_table(TASKS).unwrap();
        let mut row = tasks.get(7).unwrap().unwrap().value().to_vec();
        *row.last_mut().unwrap() ^= 1;
        tasks.insert(7, row.as_slice()).unwrap();
    });
    let refused = refusal(dir.path()).to_string();
    assert!(refused.contains("the task row of record 7"), "{refused}");
}
