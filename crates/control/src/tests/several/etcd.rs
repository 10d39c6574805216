//! The same over a real cluster, and without it.

use std::sync::Arc;

use batoff_log::{Store, system_clock};
use batoff_log_etcd::EtcdStore;
use batoff_log_etcd::testing::EtcdServers;
use futures_util::future::join_all;

use super::{Several, until};
use crate::catalog::TokenRefusal;
use crate::init;

impl Several {
    async fn two_over(servers: &EtcdServers) -> Self {
        let dir = tempfile::tempdir().unwrap();
        init::init(dir.path()).unwrap();
        let open = async || {
            let store: Arc<dyn Store> = EtcdStore::open(servers.config(system_clock())).await.unwrap();
            store
        };
        Self::over([open().await, open().await], open().await, dir).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_names_and_the_audit_log_are_shared() {
    let servers = EtcdServers::start(1).await;
    let several = Several::two_over(&servers).await;
    let token = several.issue(0).await;
    several.says(1, &token.text, Ok(())).await;
    assert!(several.services(1).catalog.revoke("shop", token.token.id, "b").await.unwrap());
    several.says(0, &token.text, Err(TokenRefusal::Unknown)).await;

    let names = ["www.example.net"];
    let changes = ["a", "b"].into_iter().enumerate().map(|(at, site)| several.change(at, site, &names));
    let outcomes = join_all(changes).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    several.caught_up().await;
    let owner = |at: usize| several.services(at).catalog.table().owner("www.example.net").cloned();
    assert_eq!(owner(0), owner(1));

    let flushes = (0..10).map(|round| {
        let audit = several.services(round % 2).audit.clone();
        async move { audit.flush().await }
    });
    assert!(join_all(flushes).await.into_iter().all(|flushed| flushed.is_ok()));
    let heads = [0, 1].map(|at| several.services(at).audit.verify(None));
    let heads = join_all(heads).await.into_iter().map(Result::unwrap).collect::<Vec<_>>();
    assert!(heads.iter().all(|report| report.ok), "{heads:?}");
    assert_eq!(heads[0].head, heads[1].head);
    several.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_cluster_no_token_is_believed_for_long() {
    let mut servers = EtcdServers::start(1).await;
    let several = Several::two_over(&servers).await;
    let token = several.issue(0).await;
    several.says(1, &token.text, Ok(())).await;
    servers.kill(0);
    several.says(1, &token.text, Err(TokenRefusal::Unverified)).await;
    let catalog = several.services(1).catalog.clone();
    assert_eq!(catalog.ask_store(&token.text).await, Err(TokenRefusal::Unverified));
    servers.restart(0);
    several.says(1, &token.text, Ok(())).await;
    until(async || catalog.ask_store(&token.text).await.is_ok(), "asked for again").await;
    several.end().await;
}
