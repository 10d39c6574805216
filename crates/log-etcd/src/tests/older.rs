//! Members that come back with older data than a replica has seen, in all other respects the same.

use std::fs;
use std::path::Path;
use std::process::Command;

use batoff_log::conformance::ManualClock;
use batoff_log::{Health, Store, StoreError};
use tempfile::TempDir;

use super::fleet::stop_following;
use super::{append_one, open, record, seq};
use crate::testing::EtcdServers;
use crate::{EtcdConfig, EtcdOpenError, EtcdStore};

/// A cluster of one member, a replica's folder, and what the member held at some time.
struct Rollback {
    servers: EtcdServers,
    clock: ManualClock,
    folder: TempDir,
    copy: TempDir,
}

impl Rollback {
    async fn new() -> Self {
        Self {
            servers: EtcdServers::start(1).await,
            clock: ManualClock::default(),
            folder: tempfile::tempdir().unwrap(),
            copy: tempfile::tempdir().unwrap(),
        }
    }

    /// A replica that notes what it has seen.
    fn config(&self) -> EtcdConfig {
        let seen = Some(self.folder.path().join("log.seen"));
        EtcdConfig { seen, ..self.servers.config(self.clock.clock()) }
    }

    async fn appended(&self, config: EtcdConfig, records: usize) {
        let store = EtcdStore::open(config).await.unwrap();
        for _ in 0..records {
            append_one(&store, record("x")).await;
        }
        store.close().await;
    }

    async fn copy(&mut self) {
        let to = self.copy.path().join("data");
        self.exchange(|data| copied(data, &to)).await;
    }

    async fn put_back(&mut self) {
        let from = self.copy.path().join("data");
        self.exchange(|data| {
            fs::remove_dir_all(data).unwrap();
            copied(&from, data);
        })
        .await;
    }

    async fn exchange(&mut self, change: impl FnOnce(&Path)) {
        self.servers.kill(0);
        change(&self.servers.data_dir(0));
        self.servers.restart(0);
        self.servers.leader().await;
    }

    /// What is missing, as the refusal has it.
    async fn refusal(&self) -> String {
        match EtcdStore::open(self.config()).await {
            Err(EtcdOpenError::Older { lacks, .. }) => lacks,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("it was opened"),
        }
    }
}

fn copied(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_copy_is_refused_after_a_restart_also_when_it_has_become_longer_since() {
    let mut rollback = Rollback::new().await;
    rollback.appended(rollback.config(), 3).await;
    rollback.copy().await;
    rollback.appended(rollback.config(), 5).await;
    // Nothing is amiss yet.
    rollback.appended(rollback.config(), 1).await;

    rollback.put_back().await;
    let lacks = rollback.refusal().await;
    assert!(lacks.contains("ends with group 3, but group 9 was in it"), "{lacks}");
    // A replica that has seen nothing takes it for what it is said to be.
    rollback.appended(rollback.servers.config(rollback.clock.clock()), 20).await;
    let lacks = rollback.refusal().await;
    assert!(lacks.contains("group 9 is another one"), "{lacks}");

    EtcdStore::adopt_copy(rollback.config()).await.unwrap();
    rollback.appended(rollback.config(), 2).await;
    rollback.put_back().await;
    // As long as it was with the identity before: that one says nothing of this log.
    rollback.appended(rollback.config(), 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_been_trimmed_since_it_was_seen_is_no_loss() {
    let rollback = Rollback::new().await;
    rollback.appended(rollback.config(), 3).await;
    let other = open(&rollback.servers, &rollback.clock).await;
    for _ in 0..40 {
        append_one(&other, record("x")).await;
    }
    while other.log().trim(seq(40)).await.unwrap() < seq(30) {}
    assert!(other.log().state().await.unwrap().first > seq(3));
    other.close().await;
    rollback.appended(rollback.config(), 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_runs_notices_another_group_in_the_place_of_its_last() {
    let mut rollback = Rollback::new().await;
    rollback.appended(rollback.config(), 3).await;
    rollback.copy().await;
    rollback.appended(rollback.config(), 2).await;
    let quiet = stop_following(open(&rollback.servers, &rollback.clock).await).await;
    quiet.check_last_group().await.unwrap();

    rollback.put_back().await;
    // The same number of writes: not even the revisions tell the two apart.
    rollback.appended(rollback.servers.config(rollback.clock.clock()), 2).await;
    let told = quiet.check_last_group().await.unwrap_err();
    assert!(told.to_string().contains("an older copy was put back"), "{told}");
    assert!(matches!(quiet.check_running(), Err(StoreError::Corrupt(_))));
    assert!(matches!(&*quiet.health.borrow(), Health::Down { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_cannot_be_read_stops_the_start_and_one_that_is_torn_does_not() {
    let rollback = Rollback::new().await;
    rollback.appended(rollback.config(), 1).await;
    let file = rollback.folder.path().join("log.seen");
    fs::write(&file, "torn").unwrap();
    rollback.appended(rollback.config(), 1).await;
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    match EtcdStore::open(rollback.config()).await {
        Err(EtcdOpenError::Seen { file: named, .. }) => assert_eq!(named, file),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was opened"),
    }
}
