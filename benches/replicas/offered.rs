//! A customer who submits at a rate, whatever the answers take, to each control plane in turn.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use batoff_benches::{Caller, now_ns, prepared};
use tokio::sync::{Mutex, mpsc};

use super::planes::Planes;

/// Requests on their way to one control plane at one time, at most.
const CONNECTIONS: usize = 16;

/// One purge.
pub struct Accepted {
    pub task: String,
    /// When it was due to be sent, and when its 202 was there, in nanoseconds of the clock.
    pub sent_ns: u64,
    pub answered_ns: u64,
}

/// Submits, and waits for every 202.
pub async fn offer(planes: &Planes, rate: u32, seconds: u32) -> anyhow::Result<Vec<Accepted>> {
    let (mut queues, mut workers) = (Vec::new(), Vec::new());
    for api in &planes.apis {
        let (jobs, queue) = mpsc::unbounded_channel::<(u64, Vec<u8>)>();
        let queue = Arc::new(Mutex::new(queue));
        queues.push(jobs);
        for _ in 0..CONNECTIONS {
            let mut caller = Caller::connect(api).await?;
            let queue = Arc::clone(&queue);
            workers.push(tokio::spawn(async move {
                let mut all = Vec::new();
                loop {
                    let job = queue.lock().await.recv().await;
                    let Some((sent_ns, request)) = job else { return anyhow::Ok(all) };
                    let (status, body) = caller.call(&request).await?;
                    let answered_ns = now_ns();
                    ensure!(status == 202, "answered {status}: {}", String::from_utf8_lossy(body));
                    let body: serde_json::Value = serde_json::from_slice(body)?;
                    let task = body["task_id"].as_str().context("a 202 has a task_id")?.to_owned();
                    all.push(Accepted { task, sent_ns, answered_ns });
                }
            }));
        }
    }
    let count = usize::try_from(rate * seconds)?;
    let requests = prepared(&planes.customers[0], &planes.apis[0], 0..count);
    let begun = tokio::time::Instant::now();
    for (number, request) in requests.into_iter().enumerate() {
        tokio::time::sleep_until(begun + Duration::from_secs(1) * u32::try_from(number)? / rate).await;
        queues[number % queues.len()].send((now_ns(), request)).context("the workers have ended")?;
    }
    drop(queues);
    let mut all = Vec::with_capacity(count);
    for worker in workers {
        all.extend(worker.await??);
    }
    Ok(all)
}
