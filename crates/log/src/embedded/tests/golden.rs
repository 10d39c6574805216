//! Files of the present release, as they lie in `tests/golden`: what a later build must still read, and what it must refuse by
//! name. A test that fails here has changed a format: give it a new number (`layout::FORMAT`, the backup's version), carry
//! the old one over, and add new files beside these; never make these anew.
//!
//! `BATOFF_GOLDEN_FILES=<folder>` writes the files of this build there, for a format that has none yet.
//!
//! A store is mostly zeros: kept are its blocks that are not, as `length of the name 2 | name | bytes of the file 8 |
//! blocks 4 | (number 4 | 512 bytes)…`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use batoff_types::{Seq, SiteId, TaskId, UnixMillis};
use bytes::Bytes;
use redb::{Database, ReadableDatabase};
use tempfile::TempDir;

use super::super::layout::{META, META_FORMAT};
use super::{names, open, open_brisk};
use crate::conformance::ManualClock;
use crate::embedded::{EmbeddedConfig, EmbeddedStore, OpenError, Seal, verify_backup};
use crate::kv::{Expect, Key, Kv, Write};
use crate::purge_log::{Appended, Dedupe, NewRecord, NewTask, PurgeLog};
use crate::store::Store;

const BLOCK: usize = 512;

/// Records in the golden store: those from [`FIRST`] on are kept, and those behind the checkpoint lie in the log alone.
const FIRST: u64 = 4;
const LAST: u64 = 12;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/embedded/tests/golden").join(name)
}

fn site() -> SiteId {
    "shop".parse().unwrap()
}

fn task_of(seq: u64) -> TaskId {
    TaskId::from_bytes(u128::from(seq).to_be_bytes())
}

fn record(seq: u64) -> NewRecord {
    let dedupe = Dedupe {
        key: [seq as u8; 32],
        body_hash: [1; 32],
        fresh_for_ms: 0,
        expires_at: UnixMillis(u64::MAX - 1),
    };
    NewRecord {
        body: Bytes::from(format!("body {seq}")),
        accepted_at: UnixMillis(1_000 + seq),
        task: Some(NewTask { site: site(), task: task_of(seq), meta: Bytes::from_static(b"meta") }),
        dedupe: vec![dedupe],
    }
}

fn packed(dir: &Path) -> Vec<u8> {
    let mut out = Vec::new();
    for name in names(dir) {
        let (bytes, name) = (fs::read(dir.join(&name)).unwrap(), name.into_string().unwrap());
        let is_zero = |block: &[u8]| block.iter().all(|byte| *byte == 0);
        let blocks: Vec<(usize, &[u8])> =
            bytes.chunks(BLOCK).enumerate().filter(|(_, block)| !is_zero(block)).collect();
        out.extend((name.len() as u16).to_le_bytes());
        out.extend(name.as_bytes());
        out.extend((bytes.len() as u64).to_le_bytes());
        out.extend((blocks.len() as u32).to_le_bytes());
        for (number, block) in blocks {
            out.extend((number as u32).to_le_bytes());
            let mut whole = [0; BLOCK];
            whole[..block.len()].copy_from_slice(block);
            out.extend(whole);
        }
    }
    out
}

fn unpacked(mut packed: &[u8], dir: &Path) {
    let mut take = |length: usize| {
        let (taken, rest) = packed.split_at_checked(length)?;
        packed = rest;
        Some(taken)
    };
    while let Some(length) = take(2) {
        let length = u16::from_le_bytes(length.try_into().unwrap());
        let name = std::str::from_utf8(take(length.into()).unwrap()).unwrap();
        let bytes = u64::from_le_bytes(take(8).unwrap().try_into().unwrap()) as usize;
        let blocks = u32::from_le_bytes(take(4).unwrap().try_into().unwrap());
        let mut content = vec![0; bytes.next_multiple_of(BLOCK)];
        for _ in 0..blocks {
            let number = u32::from_le_bytes(take(4).unwrap().try_into().unwrap()) as usize;
            content[number * BLOCK..][..BLOCK].copy_from_slice(take(BLOCK).unwrap());
        }
        content.truncate(bytes);
        fs::write(dir.join(name), content).unwrap();
    }
}

/// What the golden files hold, whichever build wrote them.
async fn check(store: &Arc<EmbeddedStore>) {
    let state = store.state().await.unwrap();
    assert_eq!((state.first.get(), state.tail.get()), (FIRST, LAST));
    for record in store.read(state.first, 100, usize::MAX).await.unwrap() {
        let seq = record.seq.get();
        assert_eq!((&*record.body, record.accepted_at.0), (format!("body {seq}").as_bytes(), 1_000 + seq));
    }
    for seq in 1..=LAST {
        let row = store.find_task(task_of(seq)).await.unwrap().unwrap();
        let completion = (seq == 2).then(|| Bytes::from_static(b"done"));
        assert_eq!((row.seq.get(), &*row.meta, row.completion), (seq, &b"meta"[..], completion));
        let repeated = store.append(vec![record(seq)]).await.unwrap();
        assert_eq!(repeated, [Appended::Duplicate { seq: Seq::new(seq).unwrap(), task: task_of(seq) }]);
    }
    assert_eq!(store.list_tasks(&site(), None, 100).await.unwrap().len(), LAST as usize);
    let pair = store.get(&Key::from("pair")).await.unwrap().unwrap();
    assert_eq!((&*pair.value, pair.version.raw()), (&b"value"[..], 1));
    let next = store.append(vec![record(LAST + 1)]).await.unwrap();
    assert_eq!(next, [Appended::New { seq: Seq::new(LAST + 1).unwrap() }]);
}

#[tokio::test]
async fn the_store_of_the_present_release_is_read() {
    let (dir, clock) = (TempDir::new().unwrap(), ManualClock::default());
    unpacked(&fs::read(golden("store-3")).unwrap(), dir.path());
    // As a crash left it: what follows the checkpoint is read from the log.
    let store = open(&dir, &clock);
    check(&store).await;
    store.close().await;
}

#[tokio::test]
async fn the_backup_of_the_present_release_is_read_and_restored() {
    let (dir, clock) = (TempDir::new().unwrap(), ManualClock::default());
    let summary = verify_backup(&golden("backup-1")).unwrap();
    assert_eq!((summary.first.get(), summary.tail.get(), summary.pairs), (FIRST, LAST, 1));
    EmbeddedStore::restore(&golden("backup-1"), dir.path()).unwrap();
    let store = open(&dir, &clock);
    check(&store).await;
    store.close().await;
}

#[tokio::test]
async fn a_store_of_a_later_format_is_refused_by_its_number_and_stays_as_it_is() {
    let (dir, clock) = (TempDir::new().unwrap(), ManualClock::default());
    unpacked(&fs::read(golden("store-3")).unwrap(), dir.path());
    open(&dir, &clock).close().await;
    {
        let database = Database::open(dir.path().join("purge.redb")).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(META).unwrap().insert(META_FORMAT, 4).unwrap();
        transaction.commit().unwrap();
    }
    for _ in 0..2 {
        let config = EmbeddedConfig::new(dir.path(), clock.clock());
        let Err(error) = EmbeddedStore::open(config) else { panic!("a downgrade guesses what it reads") };
        assert!(matches!(error, OpenError::Format { found: 4, supported: 3, .. }), "{error}");
        let inspected = EmbeddedStore::inspect(dir.path());
        assert!(matches!(inspected, Err(OpenError::Format { found: 4, supported: 3, .. })));
        // Nor does the way for copies lead past it.
        assert!(matches!(EmbeddedStore::adopt_copy(dir.path()), Err(OpenError::Format { .. })));
    }
    let database = Database::open(dir.path().join("purge.redb")).unwrap();
    let meta = database.begin_read().unwrap().open_table(META).unwrap();
    assert_eq!(meta.get(META_FORMAT).unwrap().unwrap().value(), 4);
}

#[tokio::test]
async fn what_this_build_writes_is_what_the_golden_files_hold() {
    let (dir, clock) = (TempDir::new().unwrap(), ManualClock::default());
    let store = open_brisk(&dir, &clock);
    for seq in 1..=LAST {
        store.append(vec![record(seq)]).await.unwrap();
    }
    store.put_completions(vec![(task_of(2), Bytes::from_static(b"done"))]).await.unwrap();
    store.trim(Seq::new(FIRST).unwrap()).await.unwrap();
    let write = Write::Put { value: Bytes::from_static(b"value"), ttl: None };
    store.cas(&Key::from("pair"), Expect::Absent, write).await.unwrap();
    let mut backup = Vec::new();
    store.backup(&mut backup).unwrap();
    let copy = TempDir::new().unwrap();
    // A checkpoint may be under way: the copy is one once nothing has changed meanwhile.
    loop {
        super::copy_files(dir.path(), copy.path());
        let packed_before = packed(copy.path());
        std::thread::sleep(std::time::Duration::from_millis(50));
        super::copy_files(dir.path(), copy.path());
        if packed(copy.path()) == packed_before {
            break;
        }
    }
    store.close().await;
    if let Some(folder) = std::env::var_os("BATOFF_GOLDEN_FILES").map(PathBuf::from) {
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("store-3"), packed(copy.path())).unwrap();
        fs::write(folder.join("backup-1"), &backup).unwrap();
    }
    let again = TempDir::new().unwrap();
    unpacked(&packed(copy.path()), again.path());
    let store = open(&again, &clock);
    check(&store).await;
    store.close().await;
}

/// The number under which a store is sealed, and that this build refuses it by name wherever it can be opened. Builds from
/// before the seal look at the same number in the same place, and refuse what they do not know.
#[tokio::test]
async fn a_sealed_store_is_refused_until_its_seal_is_taken_off() {
    let (dir, clock) = (TempDir::new().unwrap(), ManualClock::default());
    unpacked(&fs::read(golden("store-3")).unwrap(), dir.path());
    let store = open(&dir, &clock);
    assert_eq!(EmbeddedStore::sealed(&TempDir::new().unwrap().path().join("none")).ok(), None);
    let seal = Seal { at: UnixMillis(1_776_672_751_999), cluster: 0xcdf8_181e_3227_7f53 };
    store.seal(seal).unwrap();
    store.close().await;
    drop(store);
    for _ in 0..2 {
        assert_eq!(EmbeddedStore::sealed(dir.path()).unwrap(), Some(seal));
        let Err(error) = EmbeddedStore::open(EmbeddedConfig::new(dir.path(), clock.clock())) else {
            panic!("two engines go on with one log")
        };
        assert!(matches!(error, OpenError::Moved { .. }));
        let text = error.to_string();
        for part in ["pairs.redb is sealed", "cdf8181e32277f53 at 2026-04-20T08:12:31Z", "engine = \"etcd\""]
        {
            assert!(text.contains(part), "{text}");
        }
        assert!(matches!(EmbeddedStore::inspect(dir.path()), Err(OpenError::Moved { .. })));
        // Nor is it a copy of which a log of its own could be made.
        assert!(matches!(EmbeddedStore::adopt_copy(dir.path()), Err(OpenError::Moved { .. })));
    }
    {
        let database = Database::open(dir.path().join("pairs.redb")).unwrap();
        let meta = database.begin_read().unwrap().open_table(META).unwrap();
        let number = |name| meta.get(name).unwrap().unwrap().value();
        assert_eq!(number("format"), 0x8000_0003);
        assert_eq!(number("moved_at"), 1_776_672_751_999);
        assert_eq!(number("moved_to"), 0xcdf8_181e_3227_7f53);
    }
    EmbeddedStore::unseal(dir.path()).unwrap();
    EmbeddedStore::unseal(dir.path()).unwrap();
    assert_eq!(EmbeddedStore::sealed(dir.path()).unwrap(), None);
    let store = open(&dir, &clock);
    check(&store).await;
    store.close().await;
}
