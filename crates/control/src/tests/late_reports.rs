use std::io;
use std::sync::Arc;
use std::time::Duration;

use batoff_delivery::Resume;
use batoff_log::embedded::{EmbeddedConfig, EmbeddedStore};
use batoff_log::system_clock;
use batoff_types::message::{Ack, LeasePolicy, RecordReport};
use batoff_types::{Body, Cursor, Purge, Selector, Seq, SiteChange, SiteLimits};
use futures_util::stream;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::faulty_store::{Faults, FaultyStore};
use super::node::Intro;
use super::plane::{PATIENCE, shop};
use crate::clock::Clock;
use crate::commit::{Accepted, CommitError, Submission};
use crate::config::Config;
use crate::init;
use crate::server::Parts;
use crate::service::Services;
use crate::tracker::{MAILBOX, NodeLink, SentTimes};

async fn until(what: &str, mut fits: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !fits().await {
        assert!(tokio::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn purge(services: &Services) -> Accepted {
    let purge = Purge { site: shop(), selectors: vec![Selector::Everything], soft: false };
    let accepted = services
        .commit
        .submit(Submission {
            purge,
            request_id: "r".into(),
            requester: None,
            dedupe: Vec::new(),
            trace: None,
        })
        .await;
    let accepted = accepted.unwrap();
    services.tracker.knows(accepted.seq).await;
    accepted
}

async fn add_shop(services: &Services) {
    let change = SiteChange {
        site: shop(),
        hostnames: Some(vec!["www.example.com".parse().unwrap()]),
        affected: Vec::new(),
        limits: SiteLimits::default(),
    };
    services.commit.change_sites("test", |_| Ok::<_, CommitError>(vec![change])).await.unwrap();
}

fn report(seq: Seq, objects: u64) -> RecordReport {
    let time = Duration::ZERO;
    RecordReport { seq, objects, last: false, in_force_after: time, evicted_after: time }
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_on_tasks_that_have_left_memory_outlive_a_store_that_fails_and_count_once() {
    let dir = tempfile::tempdir().unwrap();
    init::init(dir.path()).unwrap();
    let inner = EmbeddedStore::open(EmbeddedConfig::new(dir.path(), system_clock())).unwrap();
    let faults = Faults::default();
    let store = FaultyStore::new(inner, faults.clone());
    let text = format!("[data]\ndir = {:?}\n[grpc]\nplaintext = true\n", dir.path());
    let mut config = Config::parse(&text, std::iter::empty()).unwrap();
    config.limits.live_tasks = 1;
    let secrets = init::load(dir.path()).unwrap();
    let parts = Parts::assemble(config, Clock::system(), store, secrets, Handle::current()).await.unwrap();
    let services = Arc::clone(&parts.services);
    let (tracker, store) = (&services.tracker, &services.store);
    let serving = tokio::spawn(parts.serve_nodes(stream::pending::<io::Result<TcpStream>>()));

    add_shop(&services).await;
    let intro = Intro::new("fra1/edge-1", LeasePolicy::Revalidate);
    let node = &intro.name;
    let registered = services.commit.append_body(Body::NodeRegistered(node.clone()), "test").await.unwrap();
    tracker.knows(registered).await;
    let (mailbox, _directives) = mpsc::channel(MAILBOX);
    let resume = Resume::At(Cursor::after(registered));
    let sent = Arc::new(SentTimes::new(resume.cursor()));
    let link = NodeLink { mailbox, sent, certificate_until: None };
    tracker.handle_hello(&intro.hello(), &resume, 1, link).await.unwrap().unwrap();
    let (old, young) = (purge(&services).await, purge(&services).await);
    let ack = |reports| {
        tracker.handle_ack(
            node,
            1,
            &Ack { cursor: Cursor::after(young.seq), reports, overflowed: Vec::new() },
        )
    };
    assert!(ack(Vec::new()));
    tracker.wait(&shop(), old.task, PATIENCE).await.unwrap();

    let fail: [fn(&Faults); 4] =
        [Faults::refuse_completions, Faults::refuse_reads, Faults::forget_completions, Faults::none];
    for (fail, objects) in fail.into_iter().zip([700, 50, 3, 10_000]) {
        fail(&faults);
        assert!(ack(vec![report(old.seq, objects)]));
        if objects != 10_000 {
            until("the store was not asked", async || faults.refused() > 0).await;
        }
        faults.none();
    }
    let objects = async || tracker.task(&shop(), old.task).await.unwrap().unwrap().objects_evicted;
    until("reports are lost", async || objects().await >= 10_753).await;
    assert_eq!(objects().await, 10_753);

    services.draining.cancel();
    serving.await.unwrap().unwrap();
    store.close().await;
}
