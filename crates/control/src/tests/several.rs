//! Two control planes in one process over one store: what one does, the other knows.

use std::sync::Arc;
use std::time::Duration;

use batoff_log::embedded::{EmbeddedConfig, EmbeddedStore};
use batoff_log::{Dedupe, Store};
use batoff_types::{Body, NodeName, Purge, Selector, SiteChange, SiteId, SiteLimits, UnixMillis};
use futures_util::future::join_all;
use tempfile::TempDir;

use super::plane::PATIENCE;
use crate::catalog::{IssuedToken, NewToken, Scope, TokenRefusal};
use crate::clock::Clock;
use crate::commit::{Accepted, CommitError, Submission};
use crate::config::Config;
use crate::housekeeping::{Housekeeping, LogSize};
use crate::init;
use crate::server::Parts;
use crate::service::Services;
use crate::store::SharedStore;
use crate::tracker::Membership;

mod accounts;
mod etcd;

/// Several control planes over one store.
pub(super) struct Several {
    pub planes: Vec<One>,
    pub store: Arc<dyn Store>,
    dir: TempDir,
}

/// One of them.
pub(super) struct One {
    pub parts: Parts,
    pub store: Arc<SharedStore>,
}

impl One {
    pub(super) fn services(&self) -> &Arc<Services> {
        &self.parts.services
    }
}

impl Several {
    /// Two, with a site `shop` that owns `www.example.com`.
    pub(super) async fn two() -> Self {
        let dir = tempfile::tempdir().unwrap();
        init::init(dir.path()).unwrap();
        let store = EmbeddedStore::open(EmbeddedConfig::new(dir.path(), batoff_log::system_clock())).unwrap();
        Self::over([store.clone(), store.clone()], store, dir).await
    }

    /// One over each of these stores, which are one; `store` is to look at it.
    async fn over(stores: [Arc<dyn Store>; 2], store: Arc<dyn Store>, dir: TempDir) -> Self {
        let mut several = Self { planes: Vec::new(), store, dir };
        for store in stores {
            several.start_one_more(store).await;
        }
        several.change(0, "shop", &["www.example.com"]).await.unwrap();
        several.caught_up().await;
        several
    }

    async fn start_one_more(&mut self, store: Arc<dyn Store>) {
        let text = format!("[data]\ndir = {:?}\n[grpc]\nplaintext = true\n", self.dir.path());
        let config = Config::parse(&text, std::iter::empty()).unwrap();
        let secrets = init::load(self.dir.path()).unwrap();
        let store = SharedStore::over(store);
        let handle = tokio::runtime::Handle::current();
        let parts = Parts::assemble(config, Clock::system(), store.clone(), secrets, handle).await.unwrap();
        parts.run_background(&tokio_util::task::TaskTracker::new(), None, &[]);
        self.planes.push(One { parts, store });
    }

    pub(super) fn services(&self, at: usize) -> &Arc<Services> {
        self.planes[at].services()
    }

    async fn change(&self, at: usize, site: &str, hostnames: &[&str]) -> Result<(), CommitError> {
        let site: SiteId = site.parse().unwrap();
        let names = hostnames.iter().map(|name| name.parse().unwrap()).collect::<Vec<_>>();
        let changing = self.services(at).commit.change_sites("test", |table| {
            // As the operator's API does it: a name that another site has is not taken away.
            if names.iter().any(|name| table.claimant(name).is_some_and(|owner| *owner != site)) {
                return Err(CommitError::SiteChanged { item: 0 });
            }
            let limits = SiteLimits::default();
            Ok(vec![SiteChange {
                site: site.clone(),
                hostnames: Some(names.clone()),
                affected: vec![],
                limits,
            }])
        });
        changing.await
    }

    /// Until each has read all of the log.
    pub(super) async fn caught_up(&self) {
        let tail = self.store.log().state().await.unwrap().tail;
        for one in &self.planes {
            one.services().catalog.caught_up(tail).await;
        }
    }

    async fn issue(&self, at: usize) -> IssuedToken {
        let new = NewToken {
            site: "shop".parse().unwrap(),
            label: "t".into(),
            scopes: vec![Scope::Purge],
            expires_at: None,
            created_by: "t".into(),
        };
        self.services(at).catalog.issue(new).await.unwrap()
    }

    /// What this one says of a token at last.
    async fn says(&self, at: usize, text: &str, expected: Result<(), TokenRefusal>) {
        let catalog = &self.services(at).catalog;
        until(async || catalog.find(text).map(drop) == expected, format_args!("{expected:?}")).await;
    }

    pub(super) async fn end(self) {
        for one in &self.planes {
            one.parts.stop();
        }
        self.store.close().await;
    }
}

/// Waits until it is so.
pub(super) async fn until(mut is_so: impl AsyncFnMut() -> bool, what: impl std::fmt::Display) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(tokio::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_issued_and_revoked_on_all() {
    let several = Several::two().await;
    let token = several.issue(0).await;
    several.says(1, &token.text, Ok(())).await;
    let key = |at: usize| {
        let catalog = several.services(at).catalog.clone();
        let found = catalog.find(&token.text).unwrap();
        catalog.signing_key(&found).verify(&[0; 32], |tell| tell(b"x"))
    };
    assert!(!key(1));
    assert_eq!(several.services(1).catalog.tokens("shop").len(), 1);

    assert!(several.services(1).catalog.revoke("shop", token.token.id, "b").await.unwrap());
    assert_eq!(several.services(1).catalog.find(&token.text), Err(TokenRefusal::Unknown));
    several.says(0, &token.text, Err(TokenRefusal::Unknown)).await;
    assert_eq!(&*several.services(0).catalog.revoked("shop")[0].revoked_by, "b");
    assert!(!several.services(0).catalog.revoke("shop", token.token.id, "a").await.unwrap());
    several.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_can_be_revoked_where_nobody_has_heard_of_it_yet() {
    let several = Several::two().await;
    several.planes[1].store.silence(true);
    let token = several.issue(0).await;
    assert_eq!(several.services(1).catalog.find(&token.text), Err(TokenRefusal::Unknown));
    assert!(several.services(1).catalog.revoke("shop", token.token.id, "b").await.unwrap());
    several.says(0, &token.text, Err(TokenRefusal::Unknown)).await;
    several.planes[1].store.silence(false);
    several.says(1, &token.text, Err(TokenRefusal::Unknown)).await;
    several.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_not_heard_of_the_store_for_too_long_believes_no_token_it_remembers() {
    let several = Several::two().await;
    let [kept, gone] = [several.issue(0).await, several.issue(0).await];
    several.says(1, &kept.text, Ok(())).await;
    several.says(1, &gone.text, Ok(())).await;
    several.planes[1].store.silence(true);
    assert!(several.services(0).catalog.revoke("shop", gone.token.id, "a").await.unwrap());
    several.says(1, &gone.text, Err(TokenRefusal::Unverified)).await;
    let catalog = &several.services(1).catalog;
    // The rows tell.
    assert_eq!(catalog.ask_store(&gone.text).await, Err(TokenRefusal::Unknown));
    assert_eq!(catalog.ask_store(&kept.text).await.unwrap().id, kept.token.id);
    // Nobody does.
    several.planes[1].store.cut_off(true);
    assert_eq!(catalog.ask_store(&kept.text).await, Err(TokenRefusal::Unverified));
    several.planes[1].store.cut_off(false);
    several.says(1, &kept.text, Ok(())).await;
    several.says(1, &gone.text, Err(TokenRefusal::Unknown)).await;
    several.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_use_of_a_token_is_the_last_on_any() {
    let several = Several::two().await;
    let token = several.issue(0).await;
    several.says(1, &token.text, Ok(())).await;
    let [first, second] = [0, 1].map(|at| several.services(at).catalog.clone());
    first.used(&token.token, "192.0.2.1".parse().unwrap());
    first.save_uses().await.unwrap();
    until(async || second.last_use(token.token.id).is_some(), "heard of").await;
    // Within the same minute: nothing to write.
    second.used(&token.token, "192.0.2.2".parse().unwrap());
    second.save_uses().await.unwrap();
    assert_eq!(second.last_use(token.token.id), first.last_use(token.token.id));
    assert!(second.revoke("shop", token.token.id, "b").await.unwrap());
    until(async || first.last_use(token.token.id).is_none(), "forgotten").await;
    several.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_two_sites_want_at_one_time_goes_to_one_and_the_other_is_told() {
    let several = Several::two().await;
    for round in 0..10 {
        let name = format!("n{round}.example.com");
        let sites = [format!("a{round}"), format!("b{round}")];
        let names = [name.as_str()];
        let changes = sites.iter().enumerate().map(|(at, site)| several.change(at, site, &names));
        let outcomes: Vec<_> = join_all(changes).await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
        several.caught_up().await;
        let winner = outcomes.iter().position(Result::is_ok).unwrap();
        for at in 0..2 {
            let table = several.services(at).catalog.table();
            assert_eq!(table.owner(&name).unwrap().as_str(), sites[winner]);
        }
    }
    several.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_that_is_sent_to_another_again_is_the_first_one() {
    let several = Several::two().await;
    let submission = || Submission {
        purge: Purge { site: "shop".parse().unwrap(), selectors: vec![Selector::Everything], soft: false },
        request_id: "request".into(),
        requester: None,
        trace: None,
        dedupe: vec![Dedupe {
            key: [7; 32],
            body_hash: [1; 32],
            fresh_for_ms: 0,
            expires_at: UnixMillis(Clock::system().wall().0 + 600_000),
        }],
    };
    let first = several.services(0).commit.submit(submission()).await.unwrap();
    let again = several.services(1).commit.submit(submission()).await.unwrap();
    assert_eq!(again, Accepted { replayed: true, ..first.clone() });
    let third = several.services(0).commit.submit(submission()).await.unwrap();
    assert_eq!(third.task, first.task);
    let mut other = submission();
    other.dedupe[0].body_hash = [2; 32];
    assert_eq!(several.services(1).commit.submit(other).await, Err(CommitError::KeyReused));
    several.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sites_and_nodes_are_the_same_on_all_whoever_changes_them() {
    let several = Several::two().await;
    several.change(1, "blog", &["blog.example.com"]).await.unwrap();
    several.caught_up().await;
    let sites = |at: usize| several.services(at).catalog.sites();
    assert_eq!(sites(0), sites(1));
    assert_eq!(sites(0).len(), 2);

    let node: NodeName = "fra1/edge-1".parse().unwrap();
    let names = |at: usize| {
        let nodes = several.services(at).tracker.nodes().into_iter();
        nodes.filter(|node| !node.removed).map(|node| node.node).collect::<Vec<_>>()
    };
    let append = async |at: usize, body| several.services(at).commit.append_body(body, "test").await.unwrap();
    append(0, Body::NodeRegistered(node.clone())).await;
    until(async || names(0) == [node.clone()] && names(1) == [node.clone()], "registered on both").await;
    append(1, Body::NodeRemoved(node.clone())).await;
    until(async || names(0).is_empty() && names(1).is_empty(), "removed on both").await;
    // Admitted on one: the other lets it in as well when it comes.
    assert!(!several.services(1).tracker.is_admitted(&node).await.unwrap());
    until(async || several.services(0).tracker.admit(&node).await.unwrap(), "admitted").await;
    let membership = |at: usize| several.services(at).tracker.membership(&node);
    assert_eq!((membership(0), membership(1)), (Membership::Unknown, Membership::Blocked));
    assert!(several.services(1).tracker.is_admitted(&node).await.unwrap());
    assert_eq!(membership(1), Membership::Unknown);
    append(0, Body::NodeRegistered(node.clone())).await;
    until(async || names(0) == [node.clone()] && names(1) == [node.clone()], "back on both").await;
    assert!(!several.services(1).tracker.admit(&node).await.unwrap(), "nothing is blocked any more");
    // What was admitted before a removal says nothing after it.
    append(0, Body::NodeRemoved(node.clone())).await;
    until(async || names(0).is_empty() && names(1).is_empty(), "removed once more").await;
    assert!(!several.services(1).tracker.is_admitted(&node).await.unwrap());
    several.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_them_forgets_for_all_and_nothing_that_another_needs() {
    let several = Several::two().await;
    let ahead = |hours: u64| {
        let clock = Clock::system();
        Clock::with_wall(move || UnixMillis(clock.wall().0 + hours * 3_600_000))
    };
    let mut keepers: Vec<Housekeeping> = [0, 1]
        .map(|at| {
            let services = several.services(at);
            Housekeeping {
                store: services.store.clone(),
                catalog: services.catalog.clone(),
                tracker: services.tracker.clone(),
                audit: services.audit.clone(),
                clock: ahead(10 * 24),
                retention: services.config.retention.clone(),
                size: LogSize::default(),
                turn: None,
            }
        })
        .into();
    // What the background does as well.
    let first = async || several.store.log().state().await.unwrap().first;
    let start = first().await;
    for at in 0..2 {
        several.services(at).tracker.save().await.unwrap();
        several.services(at).catalog.save().await.unwrap();
    }
    // A third that has saved nothing for long.
    let row = batoff_log::Key::from("replica/3/tracker-through");
    let value = r#"{"completed":0,"nodes":0,"sla":0}"#;
    crate::store::rows::put(several.store.kv(), &row, value).await.unwrap();
    until(async || has_turn(&mut keepers).await, "somebody's turn").await;
    assert_eq!(first().await, start, "past its retention, but the third needs it");
    for keeper in &mut keepers {
        keeper.clock = ahead(30 * 24);
        keeper.tidy().await.unwrap();
    }
    assert!(first().await > start, "it has been away for twice the retention");
    assert_eq!(keepers.iter().filter(|keeper| keeper.turn.is_some()).count(), 1);
    several.end().await;
}

/// Whether one of them has it; the background's may, until it is taken from it.
async fn has_turn(keepers: &mut [Housekeeping]) -> bool {
    for keeper in keepers.iter_mut() {
        let row = batoff_log::Key::from("housekeeping-turn");
        if keepers_turn(keeper) {
            continue;
        }
        crate::store::rows::delete(keeper.store.kv(), &row).await.unwrap();
        keeper.tidy().await.unwrap();
    }
    keepers.iter().any(keepers_turn)
}

fn keepers_turn(keeper: &Housekeeping) -> bool {
    keeper.turn.is_some()
}
