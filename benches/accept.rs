//! Durable accept: requests a second at 64 connections, against a bare axum handler that reads the same body. Both run as
//! processes of their own, in turns, in the same run.

use anyhow::Context;
use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use batoff_benches::{Control, Load, percentiles, prepared};

const CONNECTIONS: usize = 64;
const REQUESTS: usize = 20_000;
const ROUNDS: usize = 5;

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    if std::env::args().any(|argument| argument == "--bare") {
        runtime.block_on(bare())
    } else {
        runtime.block_on(compare())
    }
}

/// What any axum program costs: the body is read, a small JSON is answered.
async fn bare() -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let answer =
        |body: Bytes| async move { (StatusCode::ACCEPTED, format!("{{\"length\":{}}}", body.len())) };
    Ok(axum::serve(listener, Router::new().route("/{*path}", post(answer))).await?)
}

async fn compare() -> anyhow::Result<()> {
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

    let mut ratios = Vec::new();
    for round in 0..=ROUNDS {
        let numbers = round * REQUESTS..(round + 1) * REQUESTS;
        let requests = prepared(&control.customer, &control.api, numbers);
        let plain = Load::drive(&bare, requests.clone(), CONNECTIONS, 202).await?;
        let durable = Load::drive(&control.api, requests, CONNECTIONS, 202).await?;
        let ratio = durable.rate() / plain.rate();
        let name = if round == 0 { "warm-up".to_owned() } else { format!("round {round}") };
        println!(
            "{name}: bare {:.0}/s ({}), durable {:.0}/s ({}), ratio {ratio:.2}",
            plain.rate(),
            percentiles(&plain.latency),
            durable.rate(),
            percentiles(&durable.latency)
        );
        if round > 0 {
            ratios.push(ratio);
        }
    }
    ratios.sort_by(f64::total_cmp);
    println!("durable accept / bare handler, median of {ROUNDS}: {:.2}", ratios[ROUNDS / 2]);
    Ok(())
}
