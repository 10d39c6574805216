//! Durable accept: requests a second over many connections, against a bare axum handler that reads the same body. Both run as
//! processes of their own, in turns, in the same run. Beside the rates it says what CPU a request takes in either process:
//! that hardly depends on who else is busy on the machine.
//!
//! ```sh
//! cargo bench -p batoff-benches --bench accept -- --rounds 5 --requests 20000 --connections 64
//! ```
//! The log is in `TMPDIR`; without one in memory, where a flush costs nothing.

use anyhow::{Context, bail, ensure};
use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use batoff_benches::{Control, Load, cpu_seconds, percentiles, prepared};

/// What was asked for.
struct Asked {
    rounds: usize,
    /// In each round, of either kind.
    requests: usize,
    /// Each with one request under way.
    connections: usize,
}

impl Asked {
    fn parse(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut asked = Self { rounds: 5, requests: 20_000, connections: 64 };
        while let Some(argument) = arguments.next() {
            let mut number = || -> anyhow::Result<usize> {
                let value = arguments.next().with_context(|| format!("{argument} needs a value"))?;
                value.parse().with_context(|| format!("{argument} {value}"))
            };
            match argument.as_str() {
                "--rounds" => asked.rounds = number()?,
                "--requests" => asked.requests = number()?,
                "--connections" => asked.connections = number()?,
                // Given by cargo bench.
                "--bench" => {}
                other => bail!("{other}: expected --rounds 5 --requests 20000 --connections 64"),
            }
        }
        let all = [asked.rounds, asked.requests, asked.connections];
        ensure!(!all.contains(&0), "--rounds, --requests and --connections are at least 1");
        Ok(asked)
    }
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.peek().is_some_and(|argument| argument == "--bare") {
        return runtime.block_on(bare());
    }
    runtime.block_on(compare(&Asked::parse(arguments)?))
}

/// What any axum program costs: the body is read, a small JSON is answered.
async fn bare() -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let answer =
        |body: Bytes| async move { (StatusCode::ACCEPTED, format!("{{\"length\":{}}}", body.len())) };
    Ok(axum::serve(listener, Router::new().route("/{*path}", post(answer))).await?)
}

async fn compare(asked: &Asked) -> anyhow::Result<()> {
    let Asked { rounds, requests: each, connections } = *asked;
    let mut child = tokio::process::Command::new(std::env::current_exe()?)
        .arg("--bare")
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut line = String::new();
    let stdout = child.stdout.take().context("piped")?;
    tokio::io::AsyncBufReadExt::read_line(&mut tokio::io::BufReader::new(stdout), &mut line).await?;
    let bare = line.trim().to_owned();
    let control = Control::start().await?;

    let bare_pid = child.id().context("it runs")?;
    let own = std::process::id();

    let (mut ratios, mut costs) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let numbers = round * each..(round + 1) * each;
        let requests = prepared(&control.customer, &control.api, numbers);
        let before = [cpu_seconds(bare_pid)?, cpu_seconds(control.pid())?, cpu_seconds(own)?];
        let plain = Load::drive(&bare, requests.clone(), connections, 202).await?;
        let between = cpu_seconds(own)?;
        let durable = Load::drive(&control.api, requests, connections, 202).await?;
        let after = [cpu_seconds(bare_pid)?, cpu_seconds(control.pid())?, cpu_seconds(own)?];
        let micros = |from: f64, to: f64| (to - from) * 1e6 / each as f64;
        let cost = [0, 1].map(|place| micros(before[place], after[place]));
        let client = [micros(before[2], between), micros(between, after[2])];
        let ratio = durable.rate() / plain.rate();
        let name = if round == 0 { "warm-up".to_owned() } else { format!("round {round}") };
        println!(
            "{name}: bare {:.0}/s ({}), durable {:.0}/s ({}), ratio {ratio:.2}; CPU a request: bare {:.1} µs, durable {:.1} µs, \
             and the client {:.1} and {:.1} µs",
            plain.rate(),
            percentiles(&plain.latency),
            durable.rate(),
            percentiles(&durable.latency),
            cost[0],
            cost[1],
            client[0],
            client[1]
        );
        if round > 0 {
            ratios.push(ratio);
            costs.push(cost);
        }
    }
    ratios.sort_by(f64::total_cmp);
    let median = |place: usize| {
        let mut all: Vec<f64> = costs.iter().map(|cost| cost[place]).collect();
        all.sort_by(f64::total_cmp);
        all[rounds / 2]
    };
    println!(
        "durable accept / bare handler, median of {rounds}: {:.2}; CPU a request: {:.1} µs beside {:.1} µs",
        ratios[rounds / 2],
        median(1),
        median(0)
    );
    Ok(())
}
