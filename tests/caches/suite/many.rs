use std::time::Instant;

use batoff_tests::Customer;
use serde_json::json;

use super::story;
use crate::feature::Feature;
use crate::origin::Page;
use crate::plane::HOSTS;
use crate::stage::{Stage, url};
use crate::subject::Subject;

/// A number from the environment, for those who have more time than the gate.
fn sized(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// For those who measure: how long it took, and what the daemon's memory is then.
fn tell<S: Subject>(stage: &mut Stage<S>, what: &str, begun: Instant) {
    let took = begun.elapsed().as_secs_f64() * 1_000.0;
    let status = std::fs::read_to_string(format!("/proc/{}/status", stage.subject.daemon().pid()));
    let status = status.unwrap_or_default();
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or(" unknown").trim();
    eprintln!("{}: {what}: {took:.0} ms; memory of the daemon {memory}", S::NAME);
}

/// Requests under way at one time.
const AT_ONCE: usize = 32;

pub async fn a_burst_of_purges_takes_effect<S: Subject>() {
    story::<S>(Feature::Burst, async || {
        let mut stage = Stage::<S>::strict().await;
        let purges = sized("BATOFF_CACHE_BURST", 1_000);
        let pages: Vec<_> = (0..purges).map(|n| format!("/burst/{n}")).collect();
        let filled = 200.min(purges);
        let kept = stage.fill("/kept").await;
        for target in &pages[..filled] {
            stage.fill(target).await;
        }
        let mut last = Vec::new();
        let begun = Instant::now();
        for chunk in pages.chunks(purges.div_ceil(AT_ONCE)) {
            let (customer, chunk) = (stage.plane.customer.clone(), chunk.to_vec());
            last.push(tokio::spawn(async move { purge_each(&customer, &chunk).await }));
        }
        for task in last {
            let task = task.await.expect("the purges are accepted");
            stage.plane.customer.completed(&task).await;
        }
        tell::<S>(
            &mut stage,
            &format!("{purges} purges, from the first request to the last completed"),
            begun,
        );
        for target in &pages[..filled] {
            assert!(!stage.hits(target).await, "{target} survived its purge");
        }
        // Perhaps not served from the cache while the rest is removed, and then the same as before.
        assert_eq!(stage.fill_after_clean_up("/kept").await, kept, "what was not purged stays");
    })
    .await;
}

/// One purge for each target, one after the other; the last one's task.
async fn purge_each(customer: &Customer, targets: &[String]) -> String {
    let mut last = String::new();
    for target in targets {
        last = customer.purge_until_accepted(&json!({"urls": [url(target)]})).await.task();
    }
    last
}

pub async fn one_purge_takes_many_objects<S: Subject>() {
    story::<S>(Feature::Many, async || {
        let mut stage = Stage::<S>::strict().await;
        let objects = sized("BATOFF_CACHE_OBJECTS", 5_000);
        stage.origin.page("/many/", Page::tagged("many"));
        let kept = stage.fill("/kept").await;
        let tag = S::lacks(Feature::Tag).is_none().then(|| json!({"tags": ["many"]}));
        let prefix = S::lacks(Feature::Prefix).is_none().then(|| json!({"prefixes": [url("/many/")]}));
        for purge in tag.into_iter().chain(prefix) {
            let before = sweep(&stage, objects).await;
            let begun = Instant::now();
            stage.purge(purge.clone()).await;
            tell::<S>(
                &mut stage,
                &format!("{purge} of {objects} objects, from the request to completed"),
                begun,
            );
            let after = sweep(&stage, objects).await;
            let survived = before.iter().zip(&after).filter(|(before, after)| after <= before).count();
            assert_eq!(survived, 0, "{purge}: {survived} of {objects} objects survived");
            // Perhaps not served from the cache while the rest is removed, and then the same as before.
            assert_eq!(stage.fill_after_clean_up("/kept").await, kept, "what was not purged stays");
        }
    })
    .await;
}

/// Reads all the pages; their numbers.
async fn sweep<S: Subject>(stage: &Stage<S>, objects: usize) -> Vec<u64> {
    let mut numbers = Vec::with_capacity(objects);
    let targets: Vec<_> = (0..objects).map(|n| format!("/many/{}/{n}", n % 97)).collect();
    for chunk in targets.chunks(AT_ONCE) {
        let reads = chunk.iter().map(|target| stage.try_get(HOSTS[0], target, &[]));
        for answer in futures_util::future::join_all(reads).await {
            numbers.push(answer.expect("an answer").number);
        }
    }
    numbers
}
