//! The power cut off under the control plane: its data lies on a disk that remembers every write and flush, so the disk
//! can be had as it was at any moment, with or without what had not been flushed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use batoff_tests::{
    Dice, Ledger, Loss, Promise, RecordedDisk, System, SystemPlan, isolated, mounted, run, scratch,
    try_read_log, unmounted,
};
use serde_json::json;

/// Bytes of the disk.
const DISK: usize = 48 << 20;
/// Customers that purge at one time: their purges share flushes.
const CUSTOMERS: usize = 8;
/// For so long.
const LOAD: Duration = Duration::from_secs(3);
/// Moments at which the power is cut; each with every [`Loss`]. `BATOFF_FAULTS_CUTS` changes the number.
const CUTS: u64 = 6;

/// A purge that was answered 202 before `moment`.
#[derive(Clone)]
struct Acknowledged {
    moment: usize,
    mark: String,
    task: String,
}

/// Purges until `stop`; what was acknowledged, and when by the disk's own count.
async fn purge_until(
    stop: Arc<AtomicBool>,
    system: &System,
    disk: &RecordedDisk,
    who: usize,
) -> Vec<Acknowledged> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let mark = format!("mark:{who}-{number}");
        let body = json!({"urls": [System::url(&format!("/{who}/{number}"))], "tags": [mark]});
        let task = system.customer.purge(&body).await.task();
        // Read after the answer came: what made it true was written before this moment.
        acknowledged.push(Acknowledged { moment: disk.moment(), mark, task });
    }
    acknowledged
}

/// What is missing or wrong on the disk as it was after a cut; the control plane is started on it.
async fn complaints(system: &System, image: &[u8], acknowledged: &[Acknowledged]) -> Vec<String> {
    let images = scratch();
    let copy = images.path().join("copy");
    std::fs::write(&copy, image).unwrap();
    let place = mounted(&["-o", "loop", copy.to_str().unwrap()]);
    let data_dir = place.path().join("control");
    let mut ledger = Ledger::default();
    for purge in acknowledged {
        ledger.accepted(&purge.task, Promise::new(&purge.mark, Vec::new(), 0));
    }
    let mut complaints = Vec::new();
    let mut control = system.control_on(&data_dir);
    match control.start().await {
        Err(why) => complaints.push(why),
        Ok(_) => {
            let listed = system.customer.tasks().await;
            let is_listed =
                |purge: &&Acknowledged| listed.iter().any(|task| task["task_id"] == purge.task.as_str());
            let lost = acknowledged.iter().filter(|purge| !is_listed(purge));
            complaints.extend(lost.map(|purge| format!("task {} is not listed", purge.task)));
            control.kill();
            match try_read_log(&data_dir).await {
                Ok(records) => ledger.compare_log(&records),
                Err(error) => complaints.push(format!("{error:#}")),
            }
        }
    }
    unmounted(place.path()).await;
    complaints.extend_from_slice(ledger.violations());
    complaints
}

#[test]
fn every_202_is_in_the_log_after_a_power_cut_at_any_moment_whatever_was_not_flushed() {
    isolated(&["mkfs.ext4", "umount", "/dev/fuse", "/dev/loop-control"], async || {
        let disk = RecordedDisk::new(DISK);
        let image = disk.image();
        let image = image.to_str().unwrap();
        run("mkfs.ext4", &["-q", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", image]);
        let place = mounted(&["-o", "loop", image]);
        let data_dir = Some(place.path().join("control"));
        let mut system = System::start(SystemPlan { nodes: 0, data_dir, ..SystemPlan::default() }).await;
        run("sync", &["-f", place.path().to_str().unwrap()]);
        disk.begin();

        let mut dice = Dice::seeded("power cuts");
        let stop = Arc::new(AtomicBool::new(false));
        let load = (0..CUSTOMERS).map(|who| purge_until(Arc::clone(&stop), &system, &disk, who));
        let (acknowledged, ()) = tokio::join!(futures_util::future::join_all(load), async {
            tokio::time::sleep(LOAD).await;
            stop.store(true, Ordering::Relaxed);
        });
        let end = disk.moment();
        system.control.kill();
        let acknowledged = acknowledged.concat();
        eprintln!(
            "{} purges acknowledged, {end} writes and flushes, {} flushes",
            acknowledged.len(),
            disk.flushes()
        );
        assert!(acknowledged.len() > 2 * CUSTOMERS && disk.flushes() > CUSTOMERS, "that was no load");

        let cuts =
            std::env::var("BATOFF_FAULTS_CUTS").map_or(CUTS, |cuts| cuts.parse().expect("a number of cuts"));
        let (mut looked_for, mut starts) = (0, 0);
        for _ in 0..cuts {
            let moment = usize::try_from(dice.between(1, end as u64 + 1)).unwrap();
            let before: Vec<_> =
                acknowledged.iter().filter(|purge| purge.moment <= moment).cloned().collect();
            for loss in [Loss::Nothing, Loss::Unflushed, Loss::SomeUnflushed] {
                let after = disk.after_cut(moment, loss, &mut dice);
                let found = complaints(&system, &after, &before).await;
                assert!(found.is_empty(), "cut at {moment} of {end}, {loss:?}: {}", found.join("\n"));
                (looked_for, starts) = (looked_for + before.len(), starts + 1);
            }
        }
        eprintln!("{starts} starts after a cut, {looked_for} acknowledged purges looked for and found");

        // A disk that says it has flushed and has not: that must be noticed, or nothing above means anything.
        let lying = disk.after_cut(end / 2, Loss::Nothing, &mut dice);
        let found = complaints(&system, &lying, &acknowledged).await;
        assert!(!found.is_empty(), "half of the writes are gone, and nothing is missing");
        unmounted(place.path()).await;
    });
}
