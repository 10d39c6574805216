use batoff_log::conformance::ManualClock;
use batoff_log::{Store, StoreError};
use batoff_types::LogId;
use bytes::Bytes;
use prost::Message;
use ulid::Ulid;

use super::{open, record};
use crate::rpc::{KeyRange, PutRequest};
use crate::stored::Identity;
use crate::testing::EtcdServers;
use crate::{EtcdConfig, EtcdOpenError, EtcdStore};

async fn refusal(config: EtcdConfig) -> EtcdOpenError {
    match EtcdStore::open(config).await {
        Ok(_) => panic!("it was opened"),
        Err(error) => error,
    }
}

/// Changes what is said of the log.
async fn change_identity(store: &EtcdStore, change: impl FnOnce(&mut Identity)) {
    let (client, key) = (&store.shared().client, store.shared().names.identity());
    let found = client.range(&KeyRange::one(key.clone()).read(1)).await.unwrap();
    let mut identity = Identity::decode(found.kvs[0].value.clone()).unwrap();
    change(&mut identity);
    client.put(&PutRequest { key, value: identity.encode_to_vec().into(), lease: 0 }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_is_found_again_and_no_other_is_taken_for_it() {
    let servers = EtcdServers::start(1).await;
    let clock = ManualClock::default();
    let store = open(&servers, &clock).await;
    store.log().append(vec![record("x")]).await.unwrap();
    let log_id = store.log_id();
    store.close().await;
    let mut config = servers.config(clock.clock());
    config.log_id = Some(log_id);
    let again = EtcdStore::open(config.clone()).await.unwrap();
    assert_eq!(again.log().state().await.unwrap().log_id, log_id);
    assert_eq!(again.log().state().await.unwrap().tail.get(), 1);

    let another = LogId::from_ulid(Ulid::generate());
    config.log_id = Some(another);
    let refused = refusal(config.clone()).await;
    assert!(
        matches!(refused, EtcdOpenError::AnotherLog { found: Some(found), .. } if found == log_id),
        "{refused}"
    );
    config.prefix = "elsewhere/".to_owned();
    let refused = refusal(config.clone()).await;
    assert!(matches!(refused, EtcdOpenError::AnotherLog { found: None, .. }), "{refused}");
    // Under another prefix there is room for another log.
    config.log_id = None;
    let elsewhere = EtcdStore::open(config).await.unwrap();
    assert_ne!(elsewhere.log_id(), log_id);
    assert_eq!(elsewhere.log().state().await.unwrap().tail.get(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_snapshot_is_refused_until_it_is_a_log_of_its_own() {
    let servers = EtcdServers::start(1).await;
    let clock = ManualClock::default();
    let store = open(&servers, &clock).await;
    store.log().append(vec![record("x")]).await.unwrap();
    let log_id = store.log_id();
    // What a snapshot says of the cluster that it was taken from.
    change_identity(&store, |identity| identity.cluster_id ^= 1).await;
    // Whoever runs notices that it is another log now, and stops.
    assert_eq!(store.log().append(vec![record("y")]).await, Err(StoreError::WrongCluster));
    assert_eq!(store.log().state().await, Err(StoreError::WrongCluster));
    store.close().await;
    let refused = refusal(servers.config(clock.clock())).await;
    assert!(matches!(refused, EtcdOpenError::Restored { log_id: found } if found == log_id), "{refused}");
    let adopted = EtcdStore::adopt_copy(servers.config(clock.clock())).await.unwrap();
    assert_ne!(adopted, log_id);
    let again = open(&servers, &clock).await;
    assert_eq!(again.log_id(), adopted);
    assert_eq!(again.log().state().await.unwrap().tail.get(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_this_build_does_not_understand_is_refused() {
    let servers = EtcdServers::start(1).await;
    let clock = ManualClock::default();
    let store = open(&servers, &clock).await;
    store.log().append(vec![record("x")]).await.unwrap();
    let shared = store.shared();
    let group = shared.names.group(1);
    let sound =
        shared.client.range(&KeyRange::one(group.clone()).read(1)).await.unwrap().kvs[0].value.clone();
    let put = async |key: &Bytes, value: Bytes| {
        shared.client.put(&PutRequest { key: key.clone(), value, lease: 0 }).await.unwrap();
    };
    for at in 0..sound.len() {
        let mut damaged = sound.to_vec();
        damaged[at] ^= 0x10;
        put(&group, damaged.into()).await;
        match EtcdStore::open(servers.config(clock.clock())).await {
            Err(EtcdOpenError::Store(StoreError::Corrupt(told))) => {
                assert!(told.contains("l/0000"), "{told}")
            }
            Err(other) => panic!("byte {at}: {other}"),
            // Who wrote it and as his how-manieth value is of no importance any more.
            Ok(store) => {
                let page = store.log().read(batoff_types::Seq::FIRST, 1, 1).await.unwrap();
                assert_eq!(page[0].body, "x", "byte {at}");
                store.close().await;
            }
        }
    }
    put(&group, sound).await;
    change_identity(&store, |identity| identity.format = 2).await;
    let refused = refusal(servers.config(clock.clock())).await;
    assert!(matches!(refused, EtcdOpenError::Store(StoreError::Format(2))), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_of_two_clusters_are_refused() {
    let (one, other) = (EtcdServers::start(1).await, EtcdServers::start(1).await);
    let clock = ManualClock::default();
    let mut config = one.config(clock.clock());
    config.endpoints.extend(other.endpoints());
    let refused = refusal(config).await;
    assert!(matches!(refused, EtcdOpenError::TwoClusters { .. }), "{refused}");
}

#[tokio::test]
async fn what_cannot_be_an_endpoint_is_named() {
    let clock = ManualClock::default();
    for (url, told) in [
        ("127.0.0.1:2379", "must begin with http://"),
        ("https://127.0.0.1:2379", "needs the certificate authority"),
        ("http://127.0.0.1:1", "127.0.0.1:1"),
    ] {
        let refused = refusal(EtcdConfig::new([url], clock.clock())).await.to_string();
        assert!(refused.contains(told), "{refused}");
    }
    let refused = refusal(EtcdConfig::new(Vec::<String>::new(), clock.clock())).await;
    assert!(matches!(refused, EtcdOpenError::NoEndpoints), "{refused}");
    let mut config = EtcdConfig::new(["http://127.0.0.1:1"], clock.clock());
    config.prefix = "no-slash".to_owned();
    assert!(matches!(refusal(config).await, EtcdOpenError::Prefix { .. }));
}
