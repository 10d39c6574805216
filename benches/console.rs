//! The console: what CPU a page takes with 10,000 purges and 1,000 nodes, and what a hundred browsers cost that look on
//! while 100 purges a second come. The second is measured in turns, with and without the browsers, in one run.
//!
//! ```sh
//! cargo bench -p batoff-benches --bench console -- --nodes 1000 --purges 10000 --consoles 100 --rounds 5
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use batoff_benches::{Control, Load, cpu_seconds, follow, machine_seconds, prepared, thread_cpu_seconds};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The threads that pages are rendered on.
const OBSERVERS: &str = "observers";

/// Times that each page is asked for.
const TIMES: usize = 50;

/// Purges a second while browsers look on.
const RATE: usize = 100;

/// How long each turn lasts.
const TURN: Duration = Duration::from_secs(10);

/// Browsers that one account may have open, with some room.
const BROWSERS_PER_ACCOUNT: usize = 10;

/// How a row begins.
const ROW: &[u8] = b"<tr id=";

const PASSWORD: &str = "seven quiet otters paddle north";

/// What was asked for.
struct Asked {
    nodes: usize,
    purges: usize,
    consoles: usize,
    rounds: usize,
}

impl Asked {
    fn parse(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut asked = Self { nodes: 1_000, purges: 10_000, consoles: 100, rounds: 5 };
        while let Some(argument) = arguments.next() {
            let mut number = || -> anyhow::Result<usize> {
                let value = arguments.next().with_context(|| format!("{argument} needs a value"))?;
                value.parse().with_context(|| format!("{argument} {value}"))
            };
            match argument.as_str() {
                "--nodes" => asked.nodes = number()?,
                "--purges" => asked.purges = number()?,
                "--consoles" => asked.consoles = number()?,
                "--rounds" => asked.rounds = number()?,
                // Given by cargo bench.
                "--bench" => {}
                other => bail!("{other}: expected --nodes 1000 --purges 10000 --consoles 100 --rounds 5"),
            }
        }
        ensure!(asked.purges > 0 && asked.rounds > 0, "--purges and --rounds are at least 1");
        Ok(asked)
    }
}

fn main() -> anyhow::Result<()> {
    let asked = Asked::parse(std::env::args().skip(1))?;
    tokio::runtime::Runtime::new()?.block_on(async {
        pages(&asked).await?;
        onlookers(&asked).await
    })
}

/// CPU of each page.
async fn pages(asked: &Asked) -> anyhow::Result<()> {
    let control = Control::start().await?;
    // Before there are nodes, so that they are completed at once.
    Load::drive(&control.api, prepared(&control.customer, &control.api, 0..asked.purges), 32, 202).await?;
    let _nodes = Nodes::start(&control, asked.nodes).await;
    let reply = control.customer.purge(&json!({"tags": ["console"]})).await;
    let task = reply.task();
    control.customer.completed(&task).await;
    let cookie = sign_in(&control, "admin", &control.console_password).await?;

    println!("{} purges, {} nodes; {TIMES} times each:", asked.purges, asked.nodes);
    let purge = format!("/sites/bench/purges/{task}");
    for path in [
        "/now",
        "/purges",
        "/purges?kind=tag",
        "/purges?state=partial",
        purge.as_str(),
        "/nodes",
        "/nodes?state=attention",
        "/sites",
        "/sites/bench",
        "/tokens",
        "/users",
        "/sla",
        "/audit",
        "/audit?action=token.issue",
        "/docs",
        "/account",
    ] {
        let get = |path: &str| {
            format!("GET {path} HTTP/1.1\r\nhost: bench\r\ncookie: {cookie}\r\nconnection: close\r\n\r\n")
        };
        // Once for what is made at the first time and kept.
        let (status, _, body) = ask(&control.console, &get(path)).await?;
        ensure!(status == 200, "{path} answers {status}");
        let (own, all, begun) =
            (thread_cpu_seconds(control.pid(), OBSERVERS)?, cpu_seconds(control.pid())?, Instant::now());
        for _ in 0..TIMES {
            ask(&control.console, &get(path)).await?;
        }
        let own = (thread_cpu_seconds(control.pid(), OBSERVERS)? - own) / TIMES as f64;
        let all = (cpu_seconds(control.pid())? - all) / TIMES as f64;
        let took = begun.elapsed() / u32::try_from(TIMES)?;
        println!(
            "  {path:<40} {:>6.1} ms of its thread, {:>6.1} ms of all (nodes included), {:>6.1} ms passed, {:>5} kB",
            own * 1e3,
            all * 1e3,
            took.as_secs_f64() * 1e3,
            body.len() / 1_000
        );
    }
    Ok(())
}

/// CPU of the control plane with and without browsers that look on.
async fn onlookers(asked: &Asked) -> anyhow::Result<()> {
    let control = Control::start().await?;
    let _nodes = Nodes::start(&control, 3).await;
    let mut cookies = Vec::new();
    for number in 0..asked.consoles.div_ceil(BROWSERS_PER_ACCOUNT) {
        let name = format!("looker{number}");
        let one_time = add_operator(&control, &name).await?;
        cookies.push(sign_in(&control, &name, &one_time).await?);
    }
    println!("{} consoles, {RATE} purges a second, turns of {} s:", asked.consoles, TURN.as_secs());
    let (mut without, mut with) = (Vec::new(), Vec::new());
    let mut next = 0;
    for _ in 0..asked.rounds {
        without.push(turn(&control, &mut next).await?);
        let browsers = Browsers::open(&control, &cookies, asked.consoles).await?;
        with.push(turn(&control, &mut next).await?);
        let heard = browsers.close();
        ensure!(heard.iter().all(|rows| *rows > 0), "a console heard nothing");
        let (before, after) =
            (without.last().copied().unwrap_or_default(), with.last().copied().unwrap_or_default());
        println!(
            "  {:>5.1} % of a core without, {:>5.1} % with: {:+.1} ({} rows heard by each, about)",
            before.0,
            after.0,
            after.0 - before.0,
            heard.iter().sum::<usize>() / heard.len().max(1)
        );
        println!("        (others and this bench: {:.0} % and {:.0} %)", before.1, after.1);
    }
    let mut differences: Vec<f64> =
        with.iter().zip(&without).map(|(with, without)| with.0 - without.0).collect();
    differences.sort_by(f64::total_cmp);
    println!("  median of the differences: {:+.1} % of a core", differences[differences.len() / 2]);
    Ok(())
}

/// Purges for a while; CPU of the control plane, and of everything else, in per cent of a core.
async fn turn(control: &Control, next: &mut usize) -> anyhow::Result<(f64, f64)> {
    let purges = RATE * usize::try_from(TURN.as_secs())?;
    let requests = prepared(&control.customer, &control.api, *next..*next + purges);
    *next += purges;
    let mut caller = batoff_benches::Caller::connect(&control.api).await?;
    let (own, all, begun) = (cpu_seconds(control.pid())?, machine_seconds()?, Instant::now());
    let mut due = tokio::time::interval(Duration::from_secs(1) / u32::try_from(RATE)?);
    for request in requests {
        due.tick().await;
        let (status, body) = caller.call(&request).await?;
        ensure!(status == 202, "answered {status}: {}", String::from_utf8_lossy(body));
    }
    let passed = begun.elapsed().as_secs_f64();
    let own = cpu_seconds(control.pid())? - own;
    let others = machine_seconds()? - all - own;
    Ok((own / passed * 100.0, others / passed * 100.0))
}

/// Nodes that apply everything at once, in this process.
struct Nodes(Vec<JoinHandle<anyhow::Result<()>>>);

impl Nodes {
    async fn start(control: &Control, count: usize) -> Self {
        let (arrived, mut arrivals) = mpsc::unbounded_channel();
        let streams =
            (0..count).map(|number| tokio::spawn(follow(control.grpc.clone(), number, arrived.clone())));
        let nodes = Self(streams.collect());
        tokio::spawn(async move { while arrivals.recv().await.is_some() {} });
        batoff_tests::eventually("all nodes are there", || async {
            let reply = control.customer.purge(&json!({"tags": ["settle"]})).await;
            let task = control.customer.completed(&reply.task()).await;
            (task["nodes"]["confirmed"] == count).then_some(())
        })
        .await;
        nodes
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// Consoles that are open: each reads its stream, and counts the rows that come.
struct Browsers(Vec<(JoinHandle<()>, Arc<AtomicUsize>)>);

impl Browsers {
    async fn open(control: &Control, cookies: &[String], count: usize) -> anyhow::Result<Self> {
        let mut all = Vec::new();
        for number in 0..count {
            let mut stream = TcpStream::connect(&control.console).await?;
            let cookie = &cookies[number % cookies.len()];
            let request = format!("GET /live HTTP/1.1\r\nhost: bench\r\ncookie: {cookie}\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut buffer = vec![0; 64 * 1_024];
            let read = stream.read(&mut buffer).await?;
            let head = String::from_utf8_lossy(&buffer[..read]).into_owned();
            ensure!(head.starts_with("HTTP/1.1 200 "), "{head}");
            let rows = Arc::new(AtomicUsize::new(0));
            let heard = Arc::clone(&rows);
            let reading = tokio::spawn(async move {
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    let came = buffer[..read].windows(ROW.len()).filter(|bytes| *bytes == ROW).count();
                    heard.fetch_add(came, Ordering::Relaxed);
                }
            });
            all.push((reading, rows));
        }
        // What opening costs is not looked at.
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(Self(all))
    }

    /// Closes them; the rows that each has heard, but for one that came in two pieces.
    fn close(self) -> Vec<usize> {
        let close = |(reading, rows): (JoinHandle<()>, Arc<AtomicUsize>)| {
            reading.abort();
            rows.load(Ordering::Relaxed)
        };
        self.0.into_iter().map(close).collect()
    }
}

/// Adds an operator; its one-time password.
async fn add_operator(control: &Control, name: &str) -> anyhow::Result<String> {
    let request = batoff_tests::http().post(format!("{}/admin/v1/users", control.admin));
    let request = request.bearer_auth(&control.admin_token).header("content-type", "application/json");
    let reply = request.body(json!({"name": name, "role": "operator"}).to_string()).send().await?;
    let added: Value = serde_json::from_str(&reply.text().await?)?;
    Ok(added["password"].as_str().context("a one-time password")?.to_owned())
}

/// Signs in for the first time, and chooses a password: the cookie of the session.
async fn sign_in(control: &Control, name: &str, one_time: &str) -> anyhow::Result<String> {
    let form = format!("name={name}&password={one_time}&code=&next=%2F");
    let cookie = cookie(&post(control, "/sign-in", "", &form).await?)?;
    let new = PASSWORD.replace(' ', "+");
    let form = format!("present={one_time}&new={new}&repeat={new}");
    self::cookie(&post(control, "/account/password", &cookie, &form).await?)
}

/// The head of the answer to a form, which must lead on.
async fn post(control: &Control, path: &str, cookie: &str, form: &str) -> anyhow::Result<String> {
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: bench\r\ncookie: {cookie}\r\nconnection: close\r\nsec-fetch-site: same-origin\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
        form.len()
    );
    let (status, head, body) = ask(&control.console, &request).await?;
    ensure!(status == 303, "{path} answers {status}: {body}");
    Ok(head)
}

fn cookie(head: &str) -> anyhow::Result<String> {
    let line = head.lines().find_map(|line| line.strip_prefix("set-cookie: batoff="));
    let value = line.and_then(|line| line.split(';').next()).context("a session")?;
    Ok(format!("batoff={value}"))
}

/// Status, head and body of the answer to one request.
async fn ask(address: &str, request: &str) -> anyhow::Result<(u16, String, String)> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8(answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer")?;
    let status = head.split(' ').nth(1).context("a status")?.parse()?;
    Ok((status, head.to_owned(), body.to_owned()))
}
