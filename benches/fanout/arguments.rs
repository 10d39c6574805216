use anyhow::{Context, bail, ensure};

/// Who delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// `batoff-control`, durable.
    Batoff,
    /// Redis pub/sub, from Debian's package `redis-server`.
    Redis,
    /// NATS core, from Debian's package `nats-server`.
    Nats,
}

impl Contender {
    /// As it is named in arguments and in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Batoff => "batoff",
            Self::Redis => "redis",
            Self::Nats => "nats",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> anyhow::Result<Self> {
        [Self::Batoff, Self::Redis, Self::Nats]
            .into_iter()
            .find(|one| one.name() == name)
            .with_context(|| format!("{name}: expected batoff, redis or nats"))
    }
}

/// How purges are submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// So many a second, each at its time, whether earlier ones are answered or not.
    Rate(u32),
    /// So many, over 64 connections, as fast as they are answered.
    Burst(u32),
}

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// Numbers of subscribers, one table row each.
    pub nodes: Vec<usize>,
    /// Loads, one table row each.
    pub loads: Vec<Offered>,
    /// How long a rate is kept up.
    pub seconds: u32,
    /// How often everything is measured, the contenders in turns.
    pub rounds: u32,
    /// Who is measured.
    pub contenders: Vec<Contender>,
    /// Whether `batoff-control` and its nodes speak mutual TLS.
    pub tls: bool,
}

/// What `cargo bench -p batoff-benches --bench fanout -- …` takes.
const USAGE: &str = "--nodes 0,10,100,1000 --rates 10,100 --burst 10000 --seconds 10 --rounds 2 --against batoff,redis,nats --tls";

impl Request {
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut read = Self {
            nodes: vec![10, 100, 1_000],
            loads: Vec::new(),
            seconds: 10,
            rounds: 2,
            contenders: vec![Contender::Batoff, Contender::Redis, Contender::Nats],
            tls: false,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--nodes" => read.nodes = list(&value()?)?,
                "--rates" => {
                    let rates: Vec<u32> = list(&value()?)?;
                    ensure!(!rates.contains(&0), "--rates: at least 1 a second");
                    read.loads.extend(rates.into_iter().map(Offered::Rate));
                }
                "--burst" => read.loads.push(Offered::Burst(value()?.parse().context("--burst")?)),
                "--seconds" => read.seconds = value()?.parse().context("--seconds")?,
                "--rounds" => read.rounds = value()?.parse().context("--rounds")?,
                "--against" => {
                    read.contenders = value()?.split(',').map(Contender::named).collect::<Result<_, _>>()?;
                }
                "--tls" => read.tls = true,
                // Given by cargo bench.
                "--bench" => {}
                other => bail!("{other}: expected {USAGE}"),
            }
        }
        if read.loads.is_empty() {
            read.loads = vec![Offered::Rate(10), Offered::Rate(100)];
        }
        ensure!(read.seconds > 0 && read.rounds > 0, "--seconds and --rounds are at least 1");
        Ok(read)
    }
}

fn list<T: std::str::FromStr>(text: &str) -> anyhow::Result<Vec<T>>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text.split(',').map(|one| one.parse().with_context(|| format!("{one:?} in a list of numbers"))).collect()
}
