//! The simulation for people: one seed with its story, or many with their figures.

use std::process::ExitCode;
use std::time::Instant;

use batoff_simulation::{Options, Summary, Switch, run};
use clap::Parser;

#[derive(Debug, Parser)]
#[command(about = "Control plane, nodes and caches in virtual time, with an oracle")]
struct Arguments {
    /// Make this one run and print what happens in it.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Make so many runs and print their figures.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first seed of many.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Leave out one rule, to see that it is noticed.
    #[arg(long)]
    without: Option<Switch>,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let without = arguments.without;
    if without.is_some_and(Switch::needs_feature) && cfg!(not(feature = "mutations")) {
        anyhow::bail!("rules of the roster can be left out only in a build with --features mutations");
    }
    let mut summary = Summary::default();
    if let Some(seed) = arguments.seed {
        summary += run(seed, Options { without, trace: true });
    } else {
        let begun = Instant::now();
        for seed in arguments.first..arguments.first.saturating_add(arguments.seeds) {
            let outcome = run(seed, Options { without, trace: false });
            if let Some(violation) = outcome.violations.first() {
                println!("seed {seed}: {violation}");
            }
            summary += outcome;
        }
        println!("{:.1} s\n", begun.elapsed().as_secs_f64());
    }
    print!("{summary}");
    Ok(if summary.bad.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
