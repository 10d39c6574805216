//! The process of the subscribers, as the one that drives them sees it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, ensure};
use serde_json::Value;

use super::arguments::Contender;
use super::subscribers::SUBSCRIBERS;

/// Subscribers in a process of their own; killed when dropped.
pub struct FleetProcess {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    count: usize,
}

/// What they have received.
pub struct Received {
    /// Of each event by its name: how many subscribers have it, when the last one had read it, and when it had come there.
    pub arrivals: HashMap<String, (u64, u64, u64)>,
    /// Messages with events.
    pub messages: u64,
    /// Leases that ended, by [`Late`](super::tally::Late).
    pub leases_lost: [u64; 3],
    /// From when bytes could be read until they were, in nanoseconds: on average, and the longest.
    pub late_ns: (u64, u64),
}

impl FleetProcess {
    /// Starts it, and waits until all follow.
    pub fn start(
        contender: Contender,
        address: &str,
        count: usize,
        certificates: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([SUBSCRIBERS, contender.name(), address, &count.to_string()])
            .args(certificates)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (commands, answers) = child.stdin.take().zip(child.stdout.take()).context("piped")?;
        let mut fleet = Self { child, commands, answers: BufReader::new(answers), count };
        if count > 0 {
            fleet.expect("ready")?;
        }
        Ok(fleet)
    }

    /// What comes from now on is counted.
    pub fn begin(&mut self) -> anyhow::Result<()> {
        writeln!(self.commands, "begin")?;
        self.expect("begun")
    }

    /// What has come since.
    pub fn report(&mut self) -> anyhow::Result<Received> {
        writeln!(self.commands, "report")?;
        let report: Value = serde_json::from_str(&self.line()?)?;
        let number = |value: &Value| value.as_u64().context("a number");
        let arrivals = report["arrivals"].as_array().context("arrivals")?;
        let arrivals = arrivals.iter().map(|one| {
            let name = one[0].as_str().context("a name")?.to_owned();
            anyhow::Ok((name, (number(&one[1])?, number(&one[2])?, number(&one[3])?)))
        });
        Ok(Received {
            arrivals: arrivals.collect::<Result<_, _>>()?,
            messages: number(&report["messages"])?,
            leases_lost: serde_json::from_value(report["leases_lost"].clone())?,
            late_ns: (number(&report["late_mean_ns"])?, number(&report["late_most_ns"])?),
        })
    }

    /// How many they are.
    pub fn count(&self) -> usize {
        self.count
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn expect(&mut self, word: &str) -> anyhow::Result<()> {
        let line = self.line()?;
        ensure!(line == word, "the subscribers said {line:?} instead of {word:?}");
        Ok(())
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        ensure!(!line.is_empty(), "the subscribers ended: {:?}", self.child.try_wait());
        Ok(line.trim().to_owned())
    }
}

impl Drop for FleetProcess {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
