//! The simulation for people: one seed with its story, or many with their figures.

use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use batoff_delivery::PromptFeeds;
use batoff_simulation::globe::{ComparedFeeds, Globe};
use batoff_simulation::{
    Options, Profile, SeveralOptions, SeveralSummary, Summary, Switch, Temper, run, run_several,
};
use clap::{Args, Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(about = "Control plane, nodes and caches in virtual time, with an oracle")]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    runs: RunArgs,
    /// Which faults; otherwise each seed chooses.
    #[arg(long)]
    profile: Option<Profile>,
}

/// Which runs.
#[derive(Debug, Args)]
struct RunArgs {
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

impl RunArgs {
    fn seeds(&self) -> Range<u64> {
        let many = self.first..self.first.saturating_add(self.seeds);
        self.seed.map_or(many, |seed| seed..seed.saturating_add(1))
    }

    /// One run tells what happens in it.
    fn is_traced(&self) -> bool {
        self.seed.is_some()
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Several control planes beside one log.
    Several {
        /// How many, in the first set.
        #[arg(long, default_value_t = 3)]
        replicas: u8,
        #[command(flatten)]
        runs: RunArgs,
        /// How cruel; otherwise each seed chooses.
        #[arg(long)]
        temper: Option<Temper>,
        /// How many streams of a node bring records at once, a number or "all"; otherwise each seed chooses.
        #[arg(long)]
        feeds: Option<PromptFeeds>,
        /// Stop at so many seeds with a violation.
        #[arg(long)]
        stop: Option<usize>,
    },
    /// How long a purge takes to 335 PoPs around the world: Markdown, and a picture.
    World {
        /// Write an SVG there.
        #[arg(long)]
        svg: Option<PathBuf>,
        /// The city where the control plane stands.
        #[arg(long, default_value = "Frankfurt")]
        control: String,
        /// How many purges.
        #[arg(long, default_value_t = 2_100)]
        purges: usize,
        /// Share of messages that are lost.
        #[arg(long, default_value_t = 0.001)]
        loss: f64,
        /// How many control planes stand there.
        #[arg(long, default_value_t = 1)]
        replicas: u8,
        /// Of how many the streams bring records at once, a number or "all".
        #[arg(long, default_value_t = PromptFeeds::default())]
        feeds: PromptFeeds,
        /// Decides everything else.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// One feed against several in that world, at 0.1 and 1 % of messages lost: a Markdown table, and a picture.
    Feeds {
        /// Write an SVG there.
        #[arg(long)]
        svg: Option<PathBuf>,
        /// The city where the control planes stand.
        #[arg(long, default_value = "Frankfurt")]
        control: String,
        /// How many purges.
        #[arg(long, default_value_t = 2_100)]
        purges: usize,
        /// Decides everything else.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::World { svg, control, purges, loss, replicas, feeds, seed }) => {
            let world = Globe { control, purges, loss, replicas, feeds, seed }.run()?;
            print!("{}", world.to_markdown());
            draw(svg, || world.to_svg())
        }
        Some(Command::Feeds { svg, control, purges, seed }) => {
            // Each case has a loss and feeds of its own.
            let (loss, replicas, feeds) = (0.0, 1, PromptFeeds::default());
            let compared = ComparedFeeds::run(&Globe { control, purges, loss, replicas, feeds, seed })?;
            print!("{}", compared.to_markdown());
            draw(svg, || compared.to_svg())
        }
        Some(Command::Several { replicas, runs, temper, feeds, stop }) => {
            let (without, trace) = (runs.without, runs.is_traced());
            simulate_several(runs.seeds(), stop, SeveralOptions { replicas, without, temper, feeds, trace })
        }
        None => simulate(&arguments.runs, arguments.profile),
    }
}

fn draw(svg: Option<PathBuf>, picture: impl FnOnce() -> String) -> anyhow::Result<ExitCode> {
    if let Some(path) = svg {
        std::fs::write(&path, picture()).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn can_leave_out(without: Option<Switch>) -> anyhow::Result<()> {
    if without.is_some_and(Switch::needs_feature) && cfg!(not(feature = "mutations")) {
        anyhow::bail!(
            "rules of the state machines can be left out only in a build with --features mutations"
        );
    }
    Ok(())
}

fn simulate_several(
    seeds: Range<u64>,
    stop: Option<usize>,
    options: SeveralOptions,
) -> anyhow::Result<ExitCode> {
    can_leave_out(options.without)?;
    let (mut summary, begun) = (SeveralSummary::default(), Instant::now());
    for seed in seeds {
        let outcome = run_several(seed, options);
        if let Some(violation) = outcome.violations.first() {
            println!("seed {seed}: {violation}");
        }
        summary += outcome;
        if stop.is_some_and(|stop| summary.bad.len() >= stop) {
            break;
        }
    }
    println!("{:.1} s\n", begun.elapsed().as_secs_f64());
    print!("{summary}");
    Ok(if summary.bad.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn simulate(runs: &RunArgs, profile: Option<Profile>) -> anyhow::Result<ExitCode> {
    let (without, trace) = (runs.without, runs.is_traced());
    can_leave_out(without)?;
    let (mut summary, begun) = (Summary::default(), Instant::now());
    for seed in runs.seeds() {
        let outcome = run(seed, Options { without, profile, trace });
        if let Some(violation) = outcome.violations.first() {
            println!("seed {seed}: {violation}");
        }
        summary += outcome;
    }
    println!("{:.1} s\n", begun.elapsed().as_secs_f64());
    print!("{summary}");
    Ok(if summary.bad.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
