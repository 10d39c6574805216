//! A customer of the control plane: submits, and watches the event stream of its site.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use batoff_benches::{Caller, Control, prepared};
use batoff_tests::Customer;
use std::sync::Mutex;
use tokio::sync::mpsc;

use super::arguments::Offered;
use super::tally::now_ns;

/// Requests on their way at one time, at most.
const CONNECTIONS: usize = 64;

/// How long what was accepted is waited for after the last answer.
const COMPLETION_PATIENCE: Duration = Duration::from_secs(30);

/// What one load led to, in nanoseconds of the clock.
#[derive(Default)]
pub struct Submitted {
    /// When each was sent, by its name.
    pub sent: HashMap<String, u64>,
    /// From sending to the answer.
    pub answers: Vec<u64>,
    /// From sending to a refusal for want of capacity.
    pub refusals: Vec<u64>,
    /// When each was told to be completed, by its name.
    pub completed: HashMap<String, u64>,
}

/// How many events a load has.
pub fn events(load: Offered, seconds: u32) -> u32 {
    match load {
        Offered::Rate(rate) => rate * seconds,
        Offered::Burst(count) => count,
    }
}

/// Submits a load, and waits until all of it is completed, or the patience is over.
pub async fn submit(control: &Control, load: Offered, seconds: u32) -> anyhow::Result<Submitted> {
    let watch = EventWatch::start(control)?;
    let count = usize::try_from(events(load, seconds))?;
    let (jobs, queue) = mpsc::unbounded_channel::<(u64, Vec<u8>)>();
    let queue = Arc::new(tokio::sync::Mutex::new(queue));
    let mut workers = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut caller = Caller::connect(&control.api).await?;
        let queue = Arc::clone(&queue);
        workers.push(tokio::spawn(async move {
            let mut done = Submitted::default();
            loop {
                let Some((due, request)) = queue.lock().await.recv().await else { return Ok(done) };
                let sent = if due == 0 { now_ns() } else { due };
                let (status, body) = caller.call(&request).await?;
                let took = now_ns() - sent;
                match status {
                    202 => {
                        done.answers.push(took);
                        done.sent.insert(task_of(body)?.to_owned(), sent);
                    }
                    503 => done.refusals.push(took),
                    _ => bail!("answered {status}: {}", String::from_utf8_lossy(body)),
                }
            }
        }));
    }
    let requests = prepared(&control.customer, &control.api, 0..count);
    let begun = tokio::time::Instant::now();
    for (number, request) in requests.into_iter().enumerate() {
        let due = match load {
            Offered::Rate(rate) => {
                let at = begun + Duration::from_secs(1) * u32::try_from(number)? / rate;
                tokio::time::sleep_until(at).await;
                now_ns()
            }
            // As soon as somebody is free.
            Offered::Burst(_) => 0,
        };
        jobs.send((due, request)).context("the workers have ended")?;
    }
    drop(jobs);
    let mut all = Submitted::default();
    for worker in workers {
        let done = worker.await??;
        all.sent.extend(done.sent);
        all.answers.extend(done.answers);
        all.refusals.extend(done.refusals);
    }
    all.completed = watch.completed(all.sent.len()).await?;
    Ok(all)
}

fn task_of(body: &[u8]) -> anyhow::Result<&str> {
    let text = std::str::from_utf8(body)?;
    let (_, rest) = text.split_once("\"task_id\":\"").context("a 202 has a task_id")?;
    Ok(rest.split_once('"').context("a text")?.0)
}

/// The event stream of the site, read by a thread of its own.
struct EventWatch {
    stream: TcpStream,
    completed: Arc<Mutex<HashMap<String, u64>>>,
    reader: std::thread::JoinHandle<anyhow::Result<()>>,
}

impl EventWatch {
    fn start(control: &Control) -> anyhow::Result<Self> {
        let customer = &control.customer;
        let path = format!("/v1/sites/{}/purges/stream", customer.site);
        let timestamp = Customer::timestamp();
        let signature = customer.signature(&timestamp, "GET", &path, &[], None);
        let mut stream = TcpStream::connect(&control.api)?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nX-Batoff-Timestamp: {timestamp}\r\n\
             X-Batoff-Signature: {signature}\r\n\r\n",
            control.api, customer.token
        )?;
        let mut lines = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        lines.read_line(&mut line)?;
        ensure!(line.starts_with("HTTP/1.1 200 "), "the event stream answers {line}");
        let completed = Arc::new(Mutex::new(HashMap::new()));
        let heard = Arc::clone(&completed);
        let reader = std::thread::spawn(move || -> anyhow::Result<()> {
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line)? > 0 {
                let text = std::str::from_utf8(&line)?;
                if text.starts_with("data:") && text.contains("\"state\":\"completed\"") {
                    let task = task_of(&line)?.to_owned();
                    heard.lock().map_err(|_| anyhow::anyhow!("poisoned"))?.insert(task, now_ns());
                }
                line.clear();
            }
            Ok(())
        });
        Ok(Self { stream, completed, reader })
    }

    async fn completed(self, count: usize) -> anyhow::Result<HashMap<String, u64>> {
        let begun = Instant::now();
        while begun.elapsed() < COMPLETION_PATIENCE {
            if self.completed.lock().map_err(|_| anyhow::anyhow!("poisoned"))?.len() >= count {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.stream.shutdown(Shutdown::Both)?;
        self.reader.join().map_err(|_| anyhow::anyhow!("the reader of events panicked"))??;
        let completed = self.completed.lock().map_err(|_| anyhow::anyhow!("poisoned"))?;
        Ok(completed.clone())
    }
}
