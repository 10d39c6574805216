mod backup;
mod cuts;
mod directory;
mod faults;
mod flips;
mod golden;
mod medium;
mod model;
mod moving;
mod old_store;
mod recorder;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::medium::Disk;
use super::pace::Pace;
use super::{EmbeddedConfig, EmbeddedStore};
use crate::conformance::{ManualClock, Subject};

async fn subject() -> Subject {
    let dir = TempDir::new().unwrap();
    let clock = ManualClock::default();
    let store = open(&dir, &clock);
    Subject { store, clock, keep: Box::new(dir) }
}

fn open(dir: &TempDir, clock: &ManualClock) -> Arc<EmbeddedStore> {
    EmbeddedStore::open(EmbeddedConfig::new(dir.path(), clock.clock())).unwrap()
}

/// Checkpoints after a few records, and segments of a few groups.
fn brisk() -> Pace {
    Pace {
        segment_bytes_min: 32 * 1024,
        segment_bytes_max: 64 * 1024,
        checkpoint_rows: 5,
        checkpoint_bytes: 4_096,
    }
}

/// A store in which little has to happen until everything has happened.
fn open_brisk(dir: &TempDir, clock: &ManualClock) -> Arc<EmbeddedStore> {
    EmbeddedStore::open_on(Disk, EmbeddedConfig::new(dir.path(), clock.clock()), brisk()).unwrap()
}

async fn brisk_subject() -> Subject {
    let dir = TempDir::new().unwrap();
    let clock = ManualClock::default();
    let store = open_brisk(&dir, &clock);
    Subject { store, clock, keep: Box::new(dir) }
}

/// All files of a store.
fn copy_files(from: &Path, to: &Path) {
    assert!(try_copy_files(from, to), "{}", from.display());
}

/// Not when one of them goes away meanwhile.
fn try_copy_files(from: &Path, to: &Path) -> bool {
    names(from).iter().all(|name| fs::copy(from.join(name), to.join(name)).is_ok())
}

fn names(dir: &Path) -> BTreeSet<OsString> {
    fs::read_dir(dir).unwrap().map(|file| file.unwrap().file_name()).collect()
}

mod brisk_conformance {
    crate::conformance_suite!(super::brisk_subject);
}

mod conformance {
    crate::conformance_suite!(super::subject);
}
