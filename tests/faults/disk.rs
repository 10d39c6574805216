//! The disk under the control plane full, failing, or damaged.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use batoff_tests::{
    Dice, Program, Recorder, System, SystemPlan, eventually, isolated, mounted, read_log, run, scratch,
    try_read_log, unmounted,
};

/// Purges that are carried out before the disk fails.
const BEFORE: usize = 20;

/// While the disk is away, for so long nothing may be accepted.
const AWAY: Duration = Duration::from_secs(2);

async fn system_on(disk: &Path) -> (System, Recorder, Dice) {
    let data_dir = Some(disk.join("control"));
    let system = System::start(SystemPlan { nodes: 1, data_dir, ..SystemPlan::default() }).await;
    let recorder = Recorder::of(&system);
    let mut dice = Dice::seeded("disk");
    for _ in 0..BEFORE {
        recorder.purge_one(dice.throw()).await;
    }
    (system, recorder, dice)
}

/// Refuses purges, serves status and pages, keeps the leases, and says why.
async fn refuses_and_serves(system: &System, recorder: &Recorder, may_be_in_doubt: bool, dice: &mut Dice) {
    let until = Instant::now() + AWAY;
    let mut refused = 0;
    while Instant::now() < until {
        let (status, code) = recorder.try_submit(dice.throw(), 0).await;
        assert!(
            status == 503 && ["unavailable", "outcome_unknown"].contains(&code.as_str()),
            "{status} {code} while the disk is away"
        );
        refused += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(refused > 0, "nobody asked");
    let tasks = recorder.ledger().tasks();
    for task in tasks {
        let shown = system.customer.task(&task, 0).await;
        let is_served = shown.status == 200 && shown.json["state"] == "completed";
        // A store whose last commit is in doubt shows nothing; it says so.
        assert!(is_served || (may_be_in_doubt && shown.code() == "unavailable"), "{}", shown.text);
    }
    recorder.visit_all().await;
    assert_eq!(system.node(0).await.unwrap()["state"], "leased", "leases need no disk");

    let http = batoff_tests::http();
    let base = system.metrics.trim_end_matches("/metrics");
    let ready = http.get(format!("{base}/readyz")).send().await.unwrap();
    assert_eq!(ready.status().as_u16(), 503);
    let why = ready.text().await.unwrap();
    assert!(why.contains("purge log"), "{why}");
    assert_eq!(http.get(format!("{base}/healthz")).send().await.unwrap().status().as_u16(), 200);
}

async fn accepts_again(recorder: &Recorder, began: Instant, dice: &mut Dice) {
    eventually("purges are accepted again, without anybody's help", || {
        let choice = dice.throw();
        async move { (recorder.try_submit(choice, 0).await.0 == 202).then_some(()) }
    })
    .await;
    for _ in 0..BEFORE {
        recorder.purge_one(dice.throw()).await;
    }
    recorder.follow_all(began).await;
}

#[test]
fn a_full_disk_refuses_purges_serves_status_and_recovers_when_there_is_room() {
    isolated(&[], async || {
        let disk = mounted(&["-t", "tmpfs", "-o", "size=16m", "none"]);
        let began = Instant::now();
        let (system, recorder, mut dice) = system_on(disk.path()).await;
        let filling = disk.path().join("filling");
        fill(&filling);
        // The store's file has room of its own, for a while.
        eventually("the disk is really full", || {
            let (recorder, choice) = (&recorder, dice.throw());
            async move { (recorder.try_submit(choice, 150).await.0 == 503).then_some(()) }
        })
        .await;
        refuses_and_serves(&system, &recorder, false, &mut dice).await;
        fs::remove_file(&filling).unwrap();
        accepts_again(&recorder, began, &mut dice).await;
        recorder.settle(system).await;
    });
}

#[test]
fn dev_on_a_full_disk_names_the_disk_and_says_that_it_is_temporary() {
    isolated(&[], async || {
        let disk = mounted(&["-t", "tmpfs", "-o", "size=1m", "none"]);
        fill(&disk.path().join("filling"));
        let data = disk.path().join("dev").display().to_string();
        let output =
            Program::run("batoff", &["dev", "--json", "--base-port", "0", "--data-dir", &data], disk.path());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(75), "{said}");
        assert!(said.contains(&data) && said.contains("make room") && !said.contains("code 64"), "{said}");
        // And the program below it, where the folder was there before.
        let data = disk.path().join("control").display().to_string();
        let output = Program::run("batoff-control", &["init", "--data-dir", &data], disk.path());
        assert_eq!(output.status.code(), Some(75), "{}", String::from_utf8_lossy(&output.stderr));
    });
}

/// Writes a file until the disk is full.
pub(crate) fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
}

#[test]
fn a_disk_that_turned_read_only_refuses_purges_and_has_lost_nothing() {
    isolated(&["mkfs.ext4", "umount", "findmnt", "/dev/loop-control"], async || {
        let images = scratch();
        let image = images.path().join("image").display().to_string();
        File::create(&image).unwrap().set_len(64 << 20).unwrap();
        run("mkfs.ext4", &["-q", &image]);
        let options = ["-o", "loop,errors=remount-ro", image.as_str()];
        let disk = mounted(&options);
        let at = disk.path().display().to_string();
        let began = Instant::now();
        let (mut system, recorder, mut dice) = system_on(disk.path()).await;

        // What the kernel does when a file system finds an error: no more writes, what is written can be read.
        let device = run("findmnt", &["-n", "-o", "SOURCE", &at]);
        let device = device.trim().trim_start_matches("/dev/");
        fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "the test says so").unwrap();
        eventually("the failure is noticed", || {
            let (recorder, choice) = (&recorder, dice.throw());
            async move { (recorder.try_submit(choice, 0).await.0 == 503).then_some(()) }
        })
        .await;
        refuses_and_serves(&system, &recorder, true, &mut dice).await;
        // No file system takes writes again after that before it was unmounted and checked.
        assert_eq!(system.control.stop().await, 0, "it ends well although nothing can be written");
        unmounted(disk.path()).await;
        run("mount", &[&options[..], &[at.as_str()]].concat());
        system.control.start().await.unwrap_or_else(|why| panic!("{why}"));
        accepts_again(&recorder, began, &mut dice).await;
        recorder.settle(system).await;
    });
}

/// What is done to a file of the store.
#[derive(Debug)]
enum Damage {
    /// It ends earlier, by so many bytes.
    Cut(u64),
    /// Random bytes in place of a block of 4,096, so many thousandths of the file from its beginning.
    Spoiled(u64),
    /// Nothing but zeros.
    Empty,
    /// No file at all.
    Missing,
}

/// Everything is there as it was written, or the start is refused, or the record is named when it is read.
#[tokio::test]
async fn a_damaged_log_stops_the_start_with_its_name_or_has_lost_nothing() {
    let mut system = System::start(SystemPlan { nodes: 0, ..SystemPlan::default() }).await;
    let recorder = Recorder::of(&system);
    let mut dice = Dice::seeded("a damaged log");
    for _ in 0..60 {
        recorder.submit(dice.throw()).await;
    }
    system.control.kill();
    let kept = scratch();
    // Where the records are, what follows from them, and what lies beside them.
    let files = ["log-0000000000000001.seg", "purge.redb", "pairs.redb"];
    copy_files(&system.data_dir, kept.path());
    let written = read_log(&system.data_dir).await;
    recorder.ledger().compare_log(&written);
    recorder.ledger().must_agree();

    let mut damages = Vec::new();
    for file in files {
        let store = kept.path().join(file);
        let mut of_file = vec![Damage::Empty, Damage::Missing, Damage::Cut(1), Damage::Cut(4096)];
        of_file.push(Damage::Cut(fs::metadata(&store).unwrap().len() / 2));
        of_file.extend((0..6).map(|_| Damage::Spoiled(dice.between(0, 1000))));
        damages.extend(of_file.into_iter().map(|damage| (file, damage)));
    }
    let (mut refused, mut whole, mut named) = (0, 0, 0);
    for (file, damage) in damages {
        // With what lies beside it: a store that is older than its directory says is refused as such.
        fs::remove_dir_all(&system.data_dir).unwrap();
        fs::create_dir(&system.data_dir).unwrap();
        copy_files(kept.path(), &system.data_dir);
        inflict(&damage, &system.data_dir.join(file), &mut dice);
        if let Err(why) = system.control.start().await {
            assert!(why.contains(file), "{damage:?}: {file} is not named: {why}");
            let remedies = ["restore a backup", "put it", "name another data directory"];
            assert!(remedies.iter().any(|remedy| why.contains(remedy)), "{damage:?}: no remedy: {why}");
            refused += 1;
            continue;
        }
        system.control.kill();
        match try_read_log(&system.data_dir).await {
            Err(_) => named += 1,
            Ok(found) => {
                assert_eq!(found, written, "{damage:?} of {file}: not what was written");
                whole += 1;
            }
        }
    }
    eprintln!("starts: {refused} refused, {named} with a named record, {whole} with nothing lost");
    assert!(refused >= 9, "what is empty, missing or half cannot be started from");
}

fn copy_files(from: &Path, to: &Path) {
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        // Not the socket that backups are asked for by: a kill leaves it.
        if file.file_type().unwrap().is_file() {
            fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
}

fn inflict(damage: &Damage, store: &Path, dice: &mut Dice) {
    let file = OpenOptions::new().write(true).open(store).unwrap();
    let length = file.metadata().unwrap().len();
    match damage {
        Damage::Cut(bytes) => file.set_len(length - bytes).unwrap(),
        Damage::Spoiled(thousandths) => {
            let block: Vec<u8> = (0..512).flat_map(|_| dice.throw().to_le_bytes()).collect();
            file.write_all_at(&block, length * thousandths / 1000 / 4096 * 4096).unwrap();
        }
        Damage::Empty => {
            file.set_len(0).unwrap();
            file.set_len(length).unwrap();
        }
        Damage::Missing => fs::remove_file(store).unwrap(),
    }
}
