use anyhow::Context;

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Arguments {
    /// Objects in the index.
    pub entries: usize,
    /// Objects in the peers, some of which need ten times the memory.
    pub peer_entries: usize,
    /// Run the mixed workload for so long, instead of the table.
    pub minutes: Option<f64>,
    /// One subject, in this process.
    pub only: Option<String>,
}

impl Arguments {
    pub fn parse() -> anyhow::Result<Self> {
        let mut read = Self { entries: 200_000, peer_entries: 0, minutes: None, only: None };
        if let Ok(entries) = std::env::var("BATOFF_BENCH_ENTRIES") {
            read.entries = entries.parse().context("BATOFF_BENCH_ENTRIES")?;
        }
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--entries" => read.entries = value()?.parse().context("--entries")?,
                "--peer-entries" => read.peer_entries = value()?.parse().context("--peer-entries")?,
                "--minutes" => read.minutes = Some(value()?.parse().context("--minutes")?),
                "--only" => read.only = Some(value()?),
                // Given by cargo bench.
                "--bench" => {}
                other => anyhow::bail!("{other}: expected --entries, --peer-entries, --minutes or --only"),
            }
        }
        anyhow::ensure!(read.entries >= 10_000, "--entries must be at least 10000");
        if read.peer_entries == 0 {
            read.peer_entries = read.entries.min(1_000_000);
        }
        Ok(read)
    }
}
