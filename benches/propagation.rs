//! Propagation on loopback: from acceptance to arrival at every node, and to `completed`, with 3 and with 100 node streams
//! at 100 purges a second, or as many nodes as the arguments say. The nodes apply at once and acknowledge; all of them run
//! in this process, and the control plane in another.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use batoff_benches::{Control, follow, micros, percentiles};
use serde_json::json;
use tokio::sync::mpsc;

const PURGES: usize = 1_000;
const APART: Duration = Duration::from_millis(10);

fn main() -> anyhow::Result<()> {
    let mut asked: Vec<usize> = std::env::args().filter_map(|text| text.parse().ok()).collect();
    if asked.is_empty() {
        asked = vec![3, 100];
    }
    tokio::runtime::Runtime::new()?.block_on(async {
        for nodes in asked {
            measure(nodes).await?;
        }
        Ok(())
    })
}

async fn measure(nodes: usize) -> anyhow::Result<()> {
    let control = Control::start().await?;
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let streams: Vec<_> = (0..nodes)
        .map(|number| tokio::spawn(follow(control.grpc.clone(), number, arrived.clone())))
        .collect();
    drop(arrived);
    settle(&control, nodes).await;
    // What came before is the nodes' own registration.
    while arrivals.try_recv().is_ok() {}

    let mut accepted = Vec::new();
    let mut turn = tokio::time::interval(APART);
    for number in 0..PURGES {
        turn.tick().await;
        let url = format!("https://www.example.com/p/{number}");
        let sent = Instant::now();
        let reply = control.customer.purge(&json!({"urls": [url]})).await;
        accepted.push((reply.task(), sent, Instant::now()));
    }

    let mut propagation = micros();
    for (task, _, _) in &accepted {
        let task = control.customer.completed(task).await;
        let took = task["propagation_ms"].as_u64().unwrap_or_default();
        propagation.saturating_record((took * 1_000).max(1));
    }
    for stream in &streams {
        stream.abort();
    }

    let mut last_arrival: HashMap<_, (usize, Instant)> = HashMap::new();
    while let Ok((seq, at)) = arrivals.try_recv() {
        let entry = last_arrival.entry(seq).or_insert((0, at));
        *entry = (entry.0 + 1, at.max(entry.1));
    }
    let mut by_seq: Vec<_> = last_arrival.into_iter().collect();
    by_seq.sort_by_key(|(seq, _)| *seq);
    let (mut arrival, mut accept) = (micros(), micros());
    for ((_, sent, answered), (_, (count, at))) in accepted.iter().zip(&by_seq) {
        anyhow::ensure!(*count == nodes, "a record reached {count} of {nodes} nodes");
        accept.saturating_record(u64::try_from(answered.duration_since(*sent).as_micros())?);
        arrival.saturating_record(u64::try_from(at.saturating_duration_since(*sent).as_micros())?.max(1));
    }
    println!("{nodes} nodes, {PURGES} purges at {} a second:", 1_000 / APART.as_millis());
    println!("  request to 202             {}", percentiles(&accept));
    println!("  request to the last node   {}", percentiles(&arrival));
    println!("  durable to completed       {} (whole milliseconds)", percentiles(&propagation));
    Ok(())
}

/// Waits until a purge completes with all nodes confirmed.
async fn settle(control: &Control, nodes: usize) {
    batoff_tests::eventually("all nodes are there", || async {
        let reply = control.customer.purge(&json!({"tags": ["settle"]})).await;
        let task = control.customer.completed(&reply.task()).await;
        (task["nodes"]["confirmed"] == nodes).then_some(())
    })
    .await;
}
