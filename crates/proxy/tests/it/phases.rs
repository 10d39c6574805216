//! A purge at each moment of a fetch that began before it.

use std::sync::Arc;
use std::time::Duration;

use batoff_types::{Body, Generation, Selector, SiteChange, SiteLimits};
use tokio::sync::Semaphore;

use crate::origin::Plan;
use crate::rig::{HOST, Rig, prefix, sites, tag, url};
use crate::visitor::Coming;

/// How far the fetch has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The origin has the request and says nothing yet.
    BeforeTheHeader,
    /// The visitor has half of the body.
    InTheBody,
    /// The visitor has everything. Whether the proxy has stored it by then is not known, and must not matter.
    After,
}

const PHASES: [Phase; 3] = [Phase::BeforeTheHeader, Phase::InTheBody, Phase::After];

/// A fetch of `/dir/a`, which brings `old old`, held in a phase.
struct Held {
    gate: Arc<Semaphore>,
    visitor: Option<Coming>,
}

impl Held {
    async fn at(phase: Phase, rig: &Rig) -> Self {
        let gate = Arc::new(Semaphore::new(0));
        let page = Plan::page("old old").header("cache-tag", "x, t");
        rig.origin.plan(
            "/dir/a",
            match phase {
                Phase::BeforeTheHeader => page.held_before_header(&gate),
                Phase::InTheBody => page.held_before_body(&gate),
                Phase::After => page,
            },
        );
        let mut visitor = rig.begin("/dir/a").await;
        rig.origin.until_asked("/dir/a", 1).await;
        match phase {
            Phase::BeforeTheHeader => {}
            Phase::InTheBody => visitor.until_body_has("old").await,
            Phase::After => visitor.until_body_has("old old").await,
        }
        rig.origin.plan("/dir/a", Plan::page("new").header("cache-tag", "t"));
        Self { gate, visitor: Some(visitor) }
    }

    /// Lets the origin go on; the visitor who asked before the purge gets what was on its way.
    async fn release(mut self) {
        self.gate.add_permits(1);
        let answer = self.visitor.take().expect("released once").rest().await;
        assert_eq!(answer.told(), ("MISS", "old old"));
    }
}

fn selectors() -> [Selector; 4] {
    [url("/dir/a"), prefix("/dir/"), tag("t"), Selector::Everything]
}

#[tokio::test]
async fn what_was_being_fetched_is_not_served_after_the_purge() {
    for phase in PHASES {
        for selector in selectors() {
            let rig = Rig::start().await;
            let held = Held::at(phase, &rig).await;
            let case = format!("{phase:?}, {selector:?}");
            rig.purge(selector).await;
            held.release().await;
            assert_eq!(rig.get("/dir/a").await.told(), ("MISS", "new"), "{case}");
            assert_eq!(rig.get("/dir/a").await.told(), ("HIT", "new"), "{case}");
            assert_eq!((rig.store.len(), rig.index.stats().entries), (1, 1), "{case}");
        }
    }
}

#[tokio::test]
async fn what_was_being_fetched_is_kept_when_the_purge_is_of_something_else() {
    for phase in PHASES {
        let rig = Rig::start().await;
        let held = Held::at(phase, &rig).await;
        for selector in [url("/dir/b"), prefix("/dir/ab"), prefix("/other/"), tag("T"), tag("tt")] {
            rig.purge(selector).await;
        }
        held.release().await;
        // The visitor may have its last byte before the proxy has stored the page.
        let answer = rig.get("/dir/a").await;
        assert_eq!(answer.told(), ("HIT", "old old"), "{phase:?}");
    }
}

#[tokio::test]
async fn who_waits_for_a_fetch_is_not_given_what_a_purge_has_hit_meanwhile() {
    for phase in [Phase::BeforeTheHeader, Phase::InTheBody] {
        for selector in selectors() {
            let rig = Rig::start().await;
            let held = Held::at(phase, &rig).await;
            let case = format!("{phase:?}, {selector:?}");
            let joined: Vec<_> = (0..4).map(|_| rig.get_later("/dir/a")).collect();
            // So that some of them wait by then; the claim holds for those that do not, too.
            tokio::time::sleep(Duration::from_millis(20)).await;
            rig.purge(selector).await;
            let later: Vec<_> = (0..4).map(|_| rig.get_later("/dir/a")).collect();
            tokio::time::sleep(Duration::from_millis(20)).await;
            held.release().await;
            for visitor in joined.into_iter().chain(later) {
                assert_eq!(visitor.await.unwrap().text(), "new", "{case}");
            }
            assert_eq!(rig.origin.asked("/dir/a"), 2, "{case}: they share one further fetch");
        }
    }
}

#[tokio::test]
async fn what_was_being_fetched_is_stale_after_a_soft_purge() {
    for phase in PHASES {
        for selector in [url("/dir/a"), prefix("/dir/"), tag("t")] {
            let rig = Rig::start().await;
            let held = Held::at(phase, &rig).await;
            let case = format!("{phase:?}, {selector:?}");
            rig.soft_purge(selector).await;
            held.release().await;
            let mut answer = rig.get("/dir/a").await;
            assert_eq!(answer.told(), ("STALE", "old old"), "{case}");
            while answer.x_cache() == "STALE" {
                answer = rig.get("/dir/a").await;
            }
            assert_eq!(answer.told(), ("HIT", "new"), "{case}");
        }
    }
}

#[tokio::test]
async fn what_was_being_fetched_is_not_served_after_a_reset_or_when_its_host_changes_hands() {
    for phase in PHASES {
        for by_reset in [true, false] {
            let rig = Rig::start().await;
            let held = Held::at(phase, &rig).await;
            let host = || vec![HOST.parse().unwrap()];
            if by_reset {
                rig.index.reset(Generation(7), rig.index.applied(), sites());
            } else {
                rig.apply(Body::Site(SiteChange {
                    site: "news".parse().unwrap(),
                    hostnames: Some(host()),
                    affected: host(),
                    limits: SiteLimits::default(),
                }))
                .await;
            }
            held.release().await;
            assert_eq!(rig.get("/dir/a").await.told(), ("MISS", "new"), "{phase:?}, reset: {by_reset}");
            assert_eq!(rig.get("/dir/a").await.told(), ("HIT", "new"), "{phase:?}, reset: {by_reset}");
        }
    }
}
