use anyhow::{Context, bail, ensure};

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Requests a second.
    Accept,
    /// Until every node has it, and until it is completed; CPU and bytes beside.
    Completion,
    /// How long nothing is accepted.
    FailOver,
}

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Arguments {
    pub parts: Vec<Part>,
    /// How often everything is measured, in turns.
    pub rounds: usize,
    /// For each contender of each round of accepting.
    pub requests: usize,
    /// Each with one request under way.
    pub connections: usize,
    pub nodes: usize,
    /// `control.feeds` of the nodes; empty: as it is when nothing is said.
    pub feeds: String,
    /// Purges a second for completion.
    pub rate: u32,
    /// How long the rate is kept up, and how long nothing is done before.
    pub seconds: u32,
}

/// What `cargo bench -p batoff-benches --bench replicas -- …` takes.
const USAGE: &str = "--quick --only accept|completion|fail-over --rounds 3 --requests 10000 --connections 64 --nodes 100 \
                     --feeds all --rate 100 --seconds 10";

impl Arguments {
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut read = Self {
            parts: vec![Part::Accept, Part::Completion, Part::FailOver],
            rounds: 3,
            requests: 10_000,
            connections: 64,
            nodes: 100,
            feeds: String::new(),
            rate: 100,
            seconds: 10,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--quick" => (read.rounds, read.requests, read.seconds) = (1, 5_000, 5),
                "--only" => {
                    read.parts = vec![match value()?.as_str() {
                        "accept" => Part::Accept,
                        "completion" => Part::Completion,
                        "fail-over" => Part::FailOver,
                        other => bail!("--only {other}: expected accept, completion or fail-over"),
                    }];
                }
                "--rounds" => read.rounds = value()?.parse().context("--rounds")?,
                "--requests" => read.requests = value()?.parse().context("--requests")?,
                "--connections" => read.connections = value()?.parse().context("--connections")?,
                "--nodes" => read.nodes = value()?.parse().context("--nodes")?,
                "--feeds" => read.feeds = value()?,
                "--rate" => read.rate = value()?.parse().context("--rate")?,
                "--seconds" => read.seconds = value()?.parse().context("--seconds")?,
                // Given by cargo bench.
                "--bench" => {}
                other => bail!("{other}: expected {USAGE}"),
            }
        }
        let least = read.rounds.min(read.requests).min(read.nodes).min(read.rate.min(read.seconds) as usize);
        ensure!(least > 0 && read.connections >= 3, "at least 1 of each, and 3 connections: {USAGE}");
        Ok(read)
    }
}
