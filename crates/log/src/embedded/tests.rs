mod directory;
mod faults;
mod medium;
mod model;

use std::sync::Arc;

use tempfile::TempDir;

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

mod conformance {
    crate::conformance_suite!(super::subject);
}
