//! Shows on a running HAProxy that its configuration keeps what the daemon promises.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use batoff_index::{Index, IndexConfig};
use batoff_types::SiteTable;
use tokio::sync::{Mutex, Notify};

use super::bumps::{Bumps, Map};
use super::socket::Socket;
use super::{Book, Haproxy, HaproxySection, show};
use crate::caches::http::{Reply, VisitArgs, Visitor};
use crate::check::{CheckError, Report};

/// Makes the check.
pub async fn check(args: &VisitArgs, section: &HaproxySection) -> Result<Report, CheckError> {
    let mut report = Report::default();
    let mut visitor = Visitor::new(args)?;
    let socket = Socket::new(section.socket.clone());
    for map in Map::EVERY {
        let claim = format!("it has the map {}", map.file());
        match show(&socket, &section.maps, map).await {
            Ok(_) => report.holds(claim),
            Err(error) => {
                let socket = section.socket.display();
                report.broken(
                    claim,
                    format!("{socket}: {error}; are socket and maps those of its configuration?"),
                );
                return Ok(report);
            }
        }
    }
    visitor.read().await?;
    let claim = "a page is stored and served again";
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
    let haproxy = with_own_values(section, socket);
    for (claim, bump) in tries {
        visitor.read().await?;
        let stored = is_hit(&visitor.read().await?);
        let mut book = haproxy.book.lock().await;
        let set = haproxy.set(&mut book, Bumps::from([bump])).await;
        set.map_err(|error| CheckError(error.to_string()))?;
        let wrong = "it is still served: is every map part of what set-pathq puts before the URL, ahead of cache-use?";
        report.note(stored && !is_hit(&visitor.read().await?), claim, wrong);
    }
    Ok(report)
}

/// Beside the daemon's: values that nothing was ever stored under.
fn with_own_values(section: &HaproxySection, socket: Socket) -> Haproxy {
    let book = Book {
        instance: format!("{:016x}", rand::random::<u64>()),
        bumps: 0,
        set: BTreeMap::new(),
        sites: SiteTable::default(),
    };
    Haproxy {
        socket,
        maps: section.maps.clone(),
        keep: Duration::from_secs(section.max_age_secs),
        index: Arc::new(Index::new(IndexConfig::default())),
        renewed: Arc::new(Notify::new()),
        book: Mutex::new(book),
    }
}

fn is_hit(reply: &Reply) -> bool {
    reply.header("x-cache") == Some("HIT")
}
