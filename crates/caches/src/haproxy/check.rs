//! Shows on a running HAProxy that its configuration keeps what the daemon promises.

use std::sync::Arc;

use batoff_edge::{Fence, Path};
use batoff_index::{Index, IndexConfig};
use batoff_types::message::LeasePolicy;

use super::bumps::{Bumps, Map};
use super::charge::{Allowance, Charge};
use super::config::HaproxySection;
use super::link::{self, Link};
use crate::shared::pipeline::Reply;
use crate::shared::report::{AGING, CheckError, Report, X_CACHE, drop_last, note_parents};
use crate::shared::visitor::{VisitArgs, Visitor};

/// How long it may take until a page that may be cached is served from the cache.
const STORED_WITHIN: std::time::Duration = std::time::Duration::from_secs(5);

/// Makes the check.
pub async fn check(
    args: &VisitArgs,
    section: &HaproxySection,
    has_parents: bool,
) -> Result<Report, CheckError> {
    let mut report = Report::default();
    let mut visitor = Visitor::new(args)?;
    let Some(haproxy) = beside_the_daemon(section, &mut report).await else { return Ok(report) };
    let claim = "a page is stored and served again";
    // A lease may be lost for a moment.
    let begun = tokio::time::Instant::now();
    while !is_hit(&visitor.read().await?) && begun.elapsed() < STORED_WITHIN {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    if !is_hit(&visitor.read().await?) {
        report.broken(
            claim,
            "X-Cache is not HIT: is the daemon running? May the page be cached (HAProxy stores none with Set-Cookie, or \
             with Vary on anything but Accept-Encoding), and is its URL in normal form?",
        );
        return Ok(report);
    }
    report.holds(claim);

    let url = visitor.url()?;
    let host = (Map::Host, url.host().to_owned());
    let tries = [
        ("a purge by URL takes it", (Map::Url, url.key().to_owned())),
        ("a purge by prefix takes it", (Map::Prefix, url.key().to_owned())),
        ("a purge by host takes it", host),
    ];
    // So that a cache behind it has had the page for a while.
    tokio::time::sleep(AGING).await;
    let mut fetched = http::HeaderMap::new();
    for (claim, bump) in tries {
        visitor.read().await?;
        let stored = is_hit(&visitor.read().await?);
        let mut book = haproxy.book.lock().await;
        let set = haproxy.put_in(&mut book, &Bumps::from([bump])).await;
        set.map_err(|error| CheckError(error.to_string()))?;
        let wrong = "it is still served: is every map part of batoff_generation, ahead of cache-use?";
        let reply = visitor.read().await?;
        report.note(stored && !is_hit(&reply), claim, wrong);
        fetched = reply.headers();
    }
    drop_last(&mut fetched, &X_CACHE);
    note_parents(&mut report, has_parents, &fetched, &[]);
    let dotted = visitor.read_as(&format!("{}.", url.host())).await?;
    report.note(
        is_hit(&dotted),
        "a dot behind the hostname makes no object of its own",
        "take over the line `http-request set-header Host` of deploy/haproxy/haproxy.cfg",
    );
    let stray = "no-site.batoff.invalid";
    visitor.read_as(stray).await?;
    report.note(
        !is_hit(&visitor.read_as(stray).await?),
        "nothing is stored under a hostname of no site",
        "take over batoff_owned of deploy/haproxy/haproxy.cfg: what is stored there can be purged by nobody",
    );
    Ok(report)
}

/// With values that nothing was ever stored under, in the process that the daemon knows.
async fn beside_the_daemon(section: &HaproxySection, report: &mut Report) -> Option<Link> {
    let index = Arc::new(Index::new(IndexConfig::default()));
    let (fence, path) = (Arc::new(Fence::new(LeasePolicy::Revalidate)), Arc::new(Path::new(false)));
    let haproxy = super::link(section, index, fence, path, None);
    let every = Map::EVERY.into_iter().chain(Map::OWNED).chain([Map::Lease, Map::Process]);
    let mut name = None;
    for map in every {
        let claim = format!("it has the map {}", map.file());
        let shown = haproxy.socket.run(&[haproxy.command("show map", map, "")]).await;
        let shown = shown.map_err(link::Failed::from).map(|mut answers| answers.pop().unwrap_or_default());
        if let (Map::Process, Ok(shown)) = (map, &shown) {
            name = link::id(shown).map(str::to_owned);
        }
        match shown.and_then(link::keys) {
            Ok(_) => report.holds(claim),
            Err(error) => {
                let socket = section.socket.display();
                report.broken(
                    claim,
                    format!("{socket}: {error}; are socket and maps those of its configuration?"),
                );
                return None;
            }
        }
    }
    let Some(name) = name else {
        report.broken(
            "the daemon knows this process",
            "it has no name in the map process: is the daemon running?",
        );
        return None;
    };
    *haproxy.charge.lock() = Some(Charge { name, told: Allowance::NOTHING });
    Some(haproxy)
}

/// The last `X-Cache` is this HAProxy's own; one before it came with the page.
fn is_hit(reply: &Reply) -> bool {
    reply.headers().get_all(X_CACHE).iter().next_back().is_some_and(|value| value == "HIT")
}
