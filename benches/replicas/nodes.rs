//! Nodes in a process of their own: the real daemon of `batoff-edge` with its streams, leases, index and state folder, and in
//! place of a cache one that only notes when it is told of a purge.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, ensure};
use async_trait::async_trait;
use batoff_benches::now_ns;
use batoff_edge::DaemonConfig;
use batoff_edge::cache::{Cache, CacheTrouble, Needs, Proof};
use batoff_edge::config::ControlSection;
use batoff_index::IndexConfig;
use batoff_types::message::LeasePolicy;
use batoff_types::{NodeName, Record, TaskId};
use std::sync::Mutex;

/// The first argument of this process; how many, `control.feeds` or nothing, and the ports of the control
/// planes follow.
pub const NODES: &str = "--nodes-process";

/// Of each purge: how many nodes were told of it, and when the last one was.
type Arrivals = HashMap<TaskId, (usize, u64)>;

/// Nodes in a process of their own; killed when dropped.
pub struct Nodes {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Nodes {
    /// Starts so many that follow control planes on these ports.
    pub fn start(count: usize, feeds: &str, ports: &[u16]) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([NODES, &count.to_string(), feeds])
            .args(ports.iter().map(u16::to_string))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (commands, answers) = child.stdin.take().zip(child.stdout.take()).context("piped")?;
        Ok(Self { child, commands, answers: BufReader::new(answers) })
    }

    /// Of each purge by its name: how many nodes have it, and when the last one had.
    pub fn report(&mut self) -> anyhow::Result<HashMap<String, (usize, u64)>> {
        writeln!(self.commands, "report")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        ensure!(!line.is_empty(), "the nodes ended: {:?}", self.child.try_wait());
        Ok(serde_json::from_str(&line)?)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The whole process. It ends when nobody asks any more.
pub async fn run(arguments: &[String]) -> anyhow::Result<()> {
    let [count, feeds, ports @ ..] = arguments else { anyhow::bail!("{NODES} COUNT FEEDS PORT…") };
    let count: usize = count.parse().context("a number of nodes")?;
    let endpoints: Vec<_> = ports.iter().map(|port| format!("http://127.0.0.1:{port}")).collect();
    // As an operator writes it, so that what is not said is as it is for him.
    let feeds = if feeds.is_empty() { String::new() } else { format!("feeds = {feeds:?}\n") };
    let control: ControlSection =
        toml::from_str(&format!("endpoints = {endpoints:?}\nplaintext = true\n{feeds}"))?;
    let dir = batoff_tests::scratch();
    let arrivals = Arc::new(Mutex::new(Arrivals::new()));
    let mut running = Vec::with_capacity(count);
    for number in 0..count {
        let config = DaemonConfig {
            node: NodeName::new(&format!("pop{}", number % 10), &format!("edge-{number}"))?,
            policy: LeasePolicy::Revalidate,
            control: control.clone(),
            state_dir: dir.path().join(number.to_string()),
            parents: Vec::new(),
        };
        let opened = config.open::<()>(IndexConfig::default())?;
        running.push(opened.start(vec![Box::new(Told(Arc::clone(&arrivals)))]));
    }
    let asked = tokio::task::spawn_blocking(move || -> anyhow::Result<()> {
        for line in std::io::stdin().lines() {
            ensure!(line? == "report", "the only command is report");
            let arrivals = arrivals.lock().map_err(|_| anyhow::anyhow!("poisoned"))?;
            let report: HashMap<_, _> =
                arrivals.iter().map(|(task, arrival)| (task.to_string(), arrival)).collect();
            println!("{}", serde_json::to_string(&report)?);
        }
        Ok(())
    });
    asked.await?
}

/// A cache that holds nothing.
struct Told(Arc<Mutex<Arrivals>>);

#[async_trait]
impl Cache<()> for Told {
    fn name(&self) -> &'static str {
        "told"
    }

    fn needs(&self) -> Needs {
        Needs::Selectors
    }

    fn proof(&self) -> Proof {
        Proof::Eviction
    }

    async fn purge(&self, records: &[Arc<Record>]) -> Result<(), CacheTrouble> {
        let now = now_ns();
        let mut arrivals = self.0.lock().map_err(|_| CacheTrouble("poisoned".to_owned()))?;
        for record in records {
            let (count, last) = arrivals.entry(record.task).or_default();
            *count += 1;
            *last = (*last).max(now);
        }
        Ok(())
    }

    async fn flush(&self) -> Result<(), CacheTrouble> {
        Ok(())
    }
}
