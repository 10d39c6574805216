//! The time of day stepped under running programs, as a wrong time server or an operator steps it. Only the time of day:
//! the clocks that leases are measured with cannot be set on a real machine either.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use batoff_tests::{Customer, Dice, Recorder, System, SystemPlan, Visitor, eventually, scratch};
use serde_json::Value;

/// Where Debian's package `faketime` keeps what is loaded into the programs.
const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];

pub(crate) const HOUR: i64 = 3_600;

/// Purges a second while clocks step.
const RATE: u32 = 15;

/// A time of day that the test can step, for programs that are started with its environment.
pub(crate) struct TimeOfDay {
    dir: tempfile::TempDir,
    library: &'static str,
}

impl TimeOfDay {
    /// Right at first. `None`, said aloud, without the library.
    pub(crate) fn new() -> Option<Self> {
        let found = LIBRARIES.into_iter().find(|library| Path::new(library).exists());
        let Some(library) = found else {
            let required = std::env::var("BATOFF_REQUIRE_NAMESPACES").is_ok_and(|value| value == "1");
            assert!(!required, "libfaketime is missing; ./tests/run installs it when it runs as root");
            eprintln!("SKIPPED: libfaketime is missing (Debian's package faketime)");
            return None;
        };
        let time = Self { dir: scratch(), library };
        time.step(0);
        Some(time)
    }

    /// From now on so many seconds ahead of the right time.
    pub(crate) fn step(&self, seconds: i64) {
        // In one step: a half-written file would be another time.
        let next = self.dir.path().join("next");
        std::fs::write(&next, format!("{seconds:+}\n")).unwrap();
        std::fs::rename(&next, self.file()).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("offset")
    }

    /// What a program that is to believe it needs in its environment.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let file = self.file().display().to_string();
        [
            ("LD_PRELOAD", self.library),
            ("FAKETIME_TIMESTAMP_FILE", file.as_str()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
    }
}

/// A control plane and nodes whose times of day are in the test's hands.
struct Stepped {
    system: System,
    control: TimeOfDay,
    nodes: TimeOfDay,
}

/// `None` without the library.
async fn stepped() -> Option<Stepped> {
    let (control, nodes) = (TimeOfDay::new()?, TimeOfDay::new()?);
    let plan = SystemPlan {
        control_environment: control.environment(),
        node_environment: nodes.environment(),
        ..SystemPlan::default()
    };
    Some(Stepped { system: System::start(plan).await, control, nodes })
}

/// A member of a task that is a time, in seconds since the epoch.
pub(crate) fn seconds(shown: &Value, member: &str) -> i64 {
    let text = shown[member].as_str().unwrap_or_else(|| panic!("{member} of {shown}"));
    let time: humantime::Timestamp = text.parse().unwrap();
    i64::try_from(SystemTime::from(time).duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// By this machine's clock, in seconds since the epoch.
pub(crate) fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// A purge by a customer whose clock agrees with the control plane's; the task.
async fn purge(customer: &Customer, path: &str) -> Value {
    let body = serde_json::json!({"urls": [System::url(path)]});
    let task = customer.purge(&body).await.task();
    customer.completed(&task).await
}

#[tokio::test]
async fn tasks_stay_in_order_and_tell_the_time_that_the_control_plane_has_when_its_clock_steps() {
    let Some(Stepped { mut system, control, .. }) = stepped().await else { return };
    system.warm("/a").await;
    let mut tasks = Vec::new();
    for step in [0, HOUR, -HOUR, 20 * 24 * HOUR, 0] {
        control.step(step);
        let wrong = system.customer.ahead(step + 2 * HOUR).purge(&serde_json::json!({"tags": ["x"]})).await;
        assert_eq!((wrong.status, wrong.code()), (401, "bad_signature"), "two hours off are too much");
        let shown = purge(&system.customer.ahead(step), "/a").await;
        let off = seconds(&shown, "started_at") - (now() + step);
        assert!(off.abs() < 60, "{off} s off after a step to {step} s: {shown}");
        let took = seconds(&shown, "completed_at") - seconds(&shown, "started_at");
        assert!((0..60).contains(&took), "took {took} s by the clock: {shown}");
        assert!(shown["propagation_ms"].as_u64().unwrap() < 60_000, "{shown}");
        tasks.push(shown["task_id"].as_str().unwrap().to_owned());
        // Under its lease a node serves from its cache; a step must not take the lease away for good.
        system.settled().await;
        system.warm("/a").await;
    }
    assert!(tasks.is_sorted(), "task ids rise whatever the clock does: {tasks:?}");

    // Killed while its clock is an hour behind what it wrote: nothing of before is lost, and purges go on.
    control.step(-HOUR);
    system.control.kill();
    system.control.start().await.unwrap_or_else(|why| panic!("{why}"));
    let customer = system.customer.ahead(-HOUR);
    purge(&customer, "/a").await;
    for task in &tasks {
        assert_eq!(customer.task(task, 0).await.json["state"], "completed", "{task}");
    }
}

#[tokio::test]
async fn a_lease_is_not_longer_and_not_shorter_for_a_step_of_the_time_of_day() {
    let Some(Stepped { system, control, nodes, .. }) = stepped().await else { return };
    let visitor = Visitor::default();
    system.warm("/a").await;
    // A day back: whoever counts by the time of day would go on for a day.
    for (whose, step) in [("control plane", -24 * HOUR), ("nodes", -24 * HOUR), ("nodes", 24 * HOUR)] {
        system.settled().await;
        system.warm("/a").await;
        if whose == "nodes" {
            nodes.step(step)
        } else {
            control.step(step)
        }
        system.control.freeze();
        eventually("the nodes are fenced", || async {
            let mut all = Vec::new();
            for node in &system.nodes {
                all.push(visitor.read(&node.proxy, batoff_tests::HOST, "/a").await.x_cache);
            }
            (!all.iter().any(|x_cache| x_cache == "HIT")).then_some(())
        })
        .await;
        system.control.thaw();
        nodes.step(0);
        control.step(0);
    }
    system.settled().await;
}

#[tokio::test]
async fn every_202_is_kept_while_clocks_step() {
    let Some(Stepped { system, control, nodes, .. }) = stepped().await else { return };
    let recorder = Recorder::of(&system);
    let mut dice = Dice::seeded("clocks step");
    let time = batoff_tests::fault_time();
    let mut load = dice.fork();
    let until = std::time::Instant::now() + time;
    let stepping = async {
        while std::time::Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(dice.between(50, 900))).await;
            let step = i64::try_from(dice.between(0, 240)).unwrap() - 120;
            // The customer's clock is right, so the control plane's may be off by less than what is let pass.
            control.step(step);
            nodes.step(step * 1_000);
        }
        control.step(0);
        nodes.step(0);
    };
    tokio::join!(recorder.run(RATE, time, &mut load), stepping);
    recorder.settle(system).await;
}
