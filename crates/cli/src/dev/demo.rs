//! `batoff dev --demo`: one purge of each kind, and what every PoP serves before and after it.

pub mod kills;

use std::net::SocketAddr;
use std::time::Duration;

use batoff_client::{Client, Credentials, Endpoint, Include, PurgeRequest, Task};
use tokio::time::sleep;

use super::announcement::{Running, RunningNode};
use super::http;
use crate::exit::Failure;
use crate::output::{self, Narrow};

/// The longest wait for a purge; two seconds are promised, and a debug build gets some more.
const COMPLETED_WITHIN: Duration = Duration::from_secs(10);

/// Requests after which a page must be a hit; the first one only fills the cache.
const HIT_TRIES_MAX: u32 = 20;

/// One purge of the demonstration.
struct Scene {
    kind: &'static str,
    path: &'static str,
    what: String,
    purge: PurgeRequest,
}

/// What one PoP did in it.
struct Row {
    pop: String,
    before: String,
    after: String,
    slowest_ms: Option<u64>,
}

/// One purge of each kind: the page is a hit everywhere, is purged, and is a miss everywhere. A failure if any PoP did
/// anything else. `quiet` keeps standard output clean.
pub async fn run(running: &Running, quiet: bool) -> Result<(), Failure> {
    let endpoint = Endpoint::new(&running.api)?;
    let client = Client::new(endpoint, Credentials::new(&running.token, &running.secret))?;
    let host = running.hosts.first().map_or("www.example.test", String::as_str);
    let mut table = output::table([
        ("PURGE", Narrow::Stay),
        ("OF", Narrow::Stay),
        ("POP", Narrow::Stay),
        ("BEFORE", Narrow::Stay),
        ("AFTER", Narrow::Stay),
        ("SLOWEST NODE", Narrow::Go(1)),
        ("COMPLETED AFTER", Narrow::Go(2)),
    ]);
    let mut wrong = Vec::new();
    for scene in scenes(host) {
        let (task, rows) = play(&scene, running, host, &client).await?;
        for row in rows {
            if (row.before.as_str(), row.after.as_str()) != ("HIT", "MISS") || !task.is_completed() {
                wrong.push(format!(
                    "{} purge in {}: {} before, {} after, task {} {}",
                    scene.kind, row.pop, row.before, row.after, task.task_id, task.state
                ));
            }
            table.add_row([
                scene.kind.to_owned(),
                scene.what.clone(),
                row.pop,
                row.before,
                row.after,
                output::or_dash(row.slowest_ms.map(|ms| format!("{ms} ms"))),
                output::or_dash(task.propagation_ms.map(|ms| format!("{ms} ms"))),
            ]);
        }
    }
    if quiet {
        output::note(&table.text());
    } else {
        table.print("no nodes")?;
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Failure::Failed(format!("not as it should be:\n  {}", wrong.join("\n  "))))
    }
}

fn scenes(host: &str) -> [Scene; 3] {
    let url = format!("http://{host}/demo/url/index.html");
    let prefix = format!("http://{host}/demo/prefix/");
    let empty = PurgeRequest::default;
    [
        Scene { kind: "url", path: "/demo/url/index.html", what: url.clone(), purge: empty().url(url) },
        Scene {
            kind: "prefix",
            path: "/demo/prefix/a/b.css",
            what: prefix.clone(),
            purge: empty().prefix(prefix),
        },
        Scene {
            kind: "tag",
            path: "/product/42",
            what: "product:42".into(),
            purge: empty().tag("product:42"),
        },
    ]
}

async fn play(
    scene: &Scene,
    running: &Running,
    host: &str,
    client: &Client,
) -> Result<(Task, Vec<Row>), Failure> {
    let mut rows = Vec::with_capacity(running.nodes.len());
    for node in &running.nodes {
        let before = cached(node, host, scene.path).await?;
        rows.push(Row { pop: node.pop.clone(), before, after: String::new(), slowest_ms: None });
    }
    let task = client.submit(&running.site, &scene.purge).await?;
    let include = Include { pops: true, ..Include::default() };
    let task = client.wait_for(&running.site, &task.task_id, COMPLETED_WITHIN, include).await?;
    for (node, row) in running.nodes.iter().zip(&mut rows) {
        row.after = x_cache(node, host, scene.path).await?;
        row.slowest_ms =
            task.pops.iter().flatten().find(|pop| pop.pop == node.pop).and_then(|pop| pop.slowest_ms);
    }
    Ok((task, rows))
}

/// Asks until the page comes from the cache; what the last answer said.
async fn cached(node: &RunningNode, host: &str, path: &str) -> Result<String, Failure> {
    let mut seen = x_cache(node, host, path).await?;
    for _ in 0..HIT_TRIES_MAX {
        if seen == "HIT" {
            break;
        }
        sleep(Duration::from_millis(50)).await;
        seen = x_cache(node, host, path).await?;
    }
    Ok(seen)
}

async fn x_cache(node: &RunningNode, host: &str, path: &str) -> Result<String, Failure> {
    let failed = |why: &dyn std::fmt::Display| Failure::Failed(format!("{} {path}: {why}", node.proxy));
    let address: SocketAddr = node.proxy.trim_start_matches("http://").parse().map_err(|e| failed(&e))?;
    let answer = http::get(address, host, path).await.map_err(|e| failed(&e))?;
    if !answer.status.is_success() {
        return Err(failed(&answer.status));
    }
    Ok(answer.header("x-cache").to_owned())
}
