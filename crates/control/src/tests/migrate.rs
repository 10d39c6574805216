//! A control plane whose log moves into etcd and back.

use std::fs::File;

use batoff_log::Store;
use batoff_log::embedded::{BackupContents, EmbeddedConfig, EmbeddedStore, OpenError, Seal};
use batoff_log_etcd::testing::EtcdServers;
use batoff_log_etcd::{EtcdConfig, EtcdMove, EtcdMoveError, EtcdOpenError};
use batoff_types::message::LeasePolicy;

use super::node::Node;
use super::plane::Plane;
use crate::clock::Clock;
use crate::config::Config;
use crate::engine::EngineError;
use crate::init::init;
use crate::migrate::{MigrateFailed, MigrateProgress, to_embedded, to_etcd, undo};
use crate::seat::LockError;
use crate::server::{self, StartError};
use crate::tracker::TaskState;

fn over(servers: &EtcdServers) -> String {
    format!("[store]\nengine = 'etcd'\n[store.etcd]\nendpoints = {:?}\n", servers.endpoints())
}

/// Why a control plane with this configuration does not start.
async fn refusal(config: Config) -> String {
    match server::start(config, Clock::system(), None).await {
        Err(error) => error.to_string(),
        Ok(_) => panic!("it starts"),
    }
}

async fn there(config: &Config) -> Result<(), MigrateFailed> {
    to_etcd(config, &Clock::system(), &mut |_| {}).await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_moves_there_and_back_and_purges_nodes_and_terms_go_on() {
    let servers = EtcdServers::start(1).await;
    let mut plane = Plane::start().await;
    let node = Node::strict(&plane, "fra1/edge-1").await;
    let intro = node.intro(LeasePolicy::Revalidate);
    node.follow();
    let before = plane.purge("/a").await;
    let view = plane.completed(before.task).await;
    let (log_id, term) = (plane.services().log_id, plane.tracker().term());
    let (embedded, etcd) = (plane.configured(""), plane.configured(&over(&servers)));

    // What stands in the way is named, and nothing is touched.
    assert!(matches!(there(&embedded).await, Err(MigrateFailed::NoEtcd)));
    let second =
        plane.configured(&format!("{}[replica]\nid = 2\nadvertise = 'http://cp2:7443'\n", over(&servers)));
    assert!(matches!(there(&second).await, Err(MigrateFailed::Replica(2))));
    let running = there(&etcd).await;
    assert!(matches!(running, Err(MigrateFailed::Open(OpenError::Locked { .. }))), "{running:?}");
    plane.drain().await;

    let mut told = Vec::new();
    let moved = to_etcd(&etcd, &Clock::system(), &mut |progress| told.push(progress)).await.unwrap();
    assert_eq!(moved.log_id, log_id);
    assert!(moved.counts.unwrap().records > 0 && moved.counts.unwrap().pairs > 0);
    assert_eq!(
        (told.first(), told.last()),
        (Some(&MigrateProgress::Copying), Some(&MigrateProgress::Comparing))
    );
    // Once more there is nothing to do.
    let again = to_etcd(&etcd, &Clock::system(), &mut |_| {}).await.unwrap();
    assert_eq!((again.log_id, again.counts), (log_id, None));
    let refused = refusal(embedded.clone()).await;
    assert!(refused.contains("was moved to the etcd cluster") && refused.contains("pairs.redb"), "{refused}");

    plane.start_again(None, &over(&servers)).await;
    assert_eq!(plane.services().log_id, log_id);
    assert!(plane.tracker().term() > term);
    let moved = plane.task(before.task).await;
    assert_eq!((moved.seq, moved.state, moved.nodes), (view.seq, TaskState::Completed, view.nodes));
    let mut node = Node::connect(&plane, intro).await;
    let next = plane.purge("/b").await;
    assert!(next.seq > before.seq);
    node.receive_through(next.seq).await;
    node.follow();
    plane.completed(next.task).await;
    let term = plane.tracker().term();
    assert!(matches!(undo(&etcd, &Clock::system()).await, Err(MigrateFailed::Lock(LockError::Held(_)))));
    plane.drain().await;
    let gone_on = undo(&etcd, &Clock::system()).await;
    assert!(matches!(gone_on, Err(MigrateFailed::Etcd(EtcdMoveError::GoneOn { .. }))), "{gone_on:?}");

    let (home, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(other.path().join("something"), "x").unwrap();
    let back = async |to: &std::path::Path| to_embedded(&etcd, to, &Clock::system(), &mut |_| {}).await;
    assert!(matches!(back(other.path()).await, Err(MigrateFailed::Occupied(_))));
    let moved = back(home.path()).await.unwrap();
    assert_eq!(moved.log_id, log_id);
    let elsewhere = back(&other.path().join("new")).await;
    assert!(matches!(elsewhere, Err(MigrateFailed::Elsewhere { .. })), "{elsewhere:?}");
    let refused = refusal(etcd.clone()).await;
    assert!(refused.contains("has moved to"), "{refused}");
    assert!(
        refusal(embedded).await.contains("was moved to the etcd cluster"),
        "the first folder stays sealed"
    );

    plane.start_again(Some(home), "").await;
    assert_eq!(plane.services().log_id, log_id);
    assert!(plane.tracker().term() > term, "no node obeys a lower one");
    for task in [before.task, next.task] {
        assert_eq!(plane.task(task).await.state, TaskState::Completed);
    }
    assert!(plane.purge("/c").await.seq > next.seq);
    plane.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_dies_before_the_end_starts_nowhere_and_a_repetition_or_the_way_back_helps() {
    let servers = EtcdServers::start(1).await;
    let mut plane = Plane::start().await;
    let task = plane.purge("/a").await.task;
    let (embedded, etcd) = (plane.configured(""), plane.configured(&over(&servers)));
    let dir = etcd.data.dir.clone();
    plane.drain().await;
    // All but the last step, as a process that dies there leaves it.
    let half = async || {
        let clock = batoff_log::system_clock();
        let store = EmbeddedStore::open(EmbeddedConfig::new(&dir, clock.clone())).unwrap();
        let copy = dir.join("moving.backup");
        store.backup(&mut File::create(&copy).unwrap()).unwrap();
        let contents = BackupContents::read(&copy, clock()).unwrap();
        let to = EtcdMove::connect(&EtcdConfig::new(servers.endpoints(), clock.clone())).await.unwrap();
        let (parts, again) = (contents.parts(), contents.parts());
        to.import(contents.outline(), parts, again, contents.summary().bytes, &mut |_| {}).await.unwrap();
        store.seal(Seal { at: clock(), cluster: to.cluster() }).unwrap();
        store.close().await;
    };
    half().await;
    assert!(refusal(embedded.clone()).await.contains("was moved to the etcd cluster"));
    let refused = server::start(etcd.clone(), Clock::system(), None).await.err();
    let is_half =
        matches!(&refused, Some(StartError::Open(EngineError::Etcd(EtcdOpenError::Importing { .. }))));
    assert!(is_half, "{refused:?}");
    // Back, and there again from the beginning.
    undo(&etcd, &Clock::system()).await.unwrap();
    undo(&etcd, &Clock::system()).await.unwrap();
    plane.start_again(None, "").await;
    let second = plane.purge("/b").await.task;
    plane.drain().await;
    half().await;
    there(&etcd).await.unwrap();
    assert!(!dir.join("moving.backup").exists(), "customers' hosts stand in it");
    undo(&etcd, &Clock::system()).await.unwrap();
    assert!(!dir.join("log.id").exists());
    there(&etcd).await.unwrap();
    // The data folder knows which log it is, noted or not.
    std::fs::remove_file(dir.join("log.id")).unwrap();
    let elsewhere = plane.configured(&format!("{}prefix = 'other/'\n", over(&servers)));
    assert!(refusal(elsewhere.clone()).await.contains("is not in this cluster under the prefix"));
    assert!(matches!(
        undo(&elsewhere, &Clock::system()).await,
        Err(MigrateFailed::Etcd(EtcdMoveError::Missing { .. }))
    ));
    let others = EtcdServers::start(1).await;
    let other = there(&plane.configured(&over(&others))).await;
    assert!(matches!(other, Err(MigrateFailed::OtherCluster { .. })), "{other:?}");
    plane.start_again(None, &over(&servers)).await;
    for task in [task, second] {
        plane.completed(task).await;
    }
    plane.drain().await;
    let nothing = tempfile::tempdir().unwrap();
    init(nothing.path()).unwrap();
    let mut config = etcd.clone();
    config.data.dir = nothing.path().to_owned();
    assert!(matches!(there(&config).await, Err(MigrateFailed::NoStore(_))));
}
