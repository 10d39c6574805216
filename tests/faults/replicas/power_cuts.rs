//! The power of all members of etcd cut at one moment: each has a disk that remembers every write and flush, and comes back
//! with what had been flushed, or with some of the rest besides. The replicas go on running meanwhile.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use batoff_tests::{
    Dice, Loss, RecordedDisk, Recorder, Service, System, SystemPlan, eventually, isolated, read_log_in_etcd,
    run, scratch, unmounted,
};

use super::{Promise, RECOVERY, nobody_notices, three};

/// Bytes of each disk: etcd allocates two files of 64 MB for its log.
const DISK: usize = 176 << 20;

/// How often the power is cut; `BATOFF_FAULTS_CUTS` changes it.
const CUTS: u64 = 2;

/// Until whoever was stopped has certainly stopped.
const STOPS_WITHIN: Duration = Duration::from_millis(50);

/// What is needed of the machine.
const TOOLS: [&str; 5] = ["etcd", "mkfs.ext4", "umount", "/dev/fuse", "/dev/loop-control"];

/// Where a member of etcd has its data.
struct MemberDisk {
    disk: RecordedDisk,
    place: tempfile::TempDir,
}

impl MemberDisk {
    fn new() -> Self {
        let disk = RecordedDisk::new(DISK);
        let options = "nodiscard,lazy_itable_init=0,lazy_journal_init=0";
        run("mkfs.ext4", &["-q", "-E", options, disk.image().to_str().unwrap()]);
        let new = Self { disk, place: scratch() };
        new.mount();
        new
    }

    fn path(&self) -> &Path {
        self.place.path()
    }

    fn mount(&self) {
        let (image, place) = (self.disk.image(), self.path().to_str().unwrap());
        run("mount", &["-o", "loop", image.to_str().unwrap(), place]);
    }

    /// It is as it was after a cut at that moment.
    async fn go_back(&mut self, moment: usize, loss: Loss, dice: &mut Dice) {
        let image = self.disk.after_cut(moment, loss, dice);
        unmounted(self.path()).await;
        self.disk = RecordedDisk::holding(image);
        self.mount();
    }
}

/// Cuts the power of all members at once; each starts on what its disk holds after a cut at the moment that `choose` picks,
/// given the present one.
async fn cut(
    members: &mut [Service],
    disks: &mut [MemberDisk],
    loss: Loss,
    dice: &mut Dice,
    choose: impl Fn(usize) -> usize,
) {
    // From here on nobody is told anything, so all that anybody was told was before these moments.
    members.iter().for_each(Service::freeze);
    tokio::time::sleep(STOPS_WITHIN).await;
    let moments: Vec<_> = disks.iter().map(|member| choose(member.disk.moment())).collect();
    members.iter_mut().for_each(Service::kill);
    for (disk, moment) in disks.iter_mut().zip(moments) {
        disk.go_back(moment, loss, dice).await;
    }
    for member in members {
        member.start().await.unwrap_or_else(|why| panic!("{why}"));
    }
}

async fn start_on(disks: &[MemberDisk]) -> System {
    let member_dirs = disks.iter().map(|disk| disk.path().to_owned()).collect();
    System::start(SystemPlan { member_dirs, ..three() }).await
}

#[test]
fn every_202_is_in_the_log_after_the_power_of_all_members_was_cut_and_no_node_begins_anew() {
    isolated(&TOOLS, async || {
        let mut disks = [(); 3].map(|()| MemberDisk::new());
        let system = start_on(&disks).await;
        let cuts =
            std::env::var("BATOFF_FAULTS_CUTS").map_or(CUTS, |cuts| cuts.parse().expect("a number of cuts"));
        let story = "the power of all members of etcd cut";
        nobody_notices(story, system, Promise::Kept, async |strikes, _, mut dice| {
            let before = strikes.system.resets().await;
            for number in 0..cuts {
                tokio::time::sleep(Duration::from_millis(dice.between(500, 2_000))).await;
                let loss = if number % 2 == 0 { Loss::Unflushed } else { Loss::SomeUnflushed };
                cut(&mut strikes.system.members, &mut disks, loss, &mut dice, |moment| moment).await;
                strikes.recorder.purge_one(dice.throw()).await;
                let acknowledged = strikes.recorder.ledger().tasks();
                let records = read_log_in_etcd(&strikes.system.member_clients).await;
                let there: HashSet<_> = records.iter().map(|record| record.task.to_string()).collect();
                let lost: Vec<_> = acknowledged.iter().filter(|task| !there.contains(*task)).collect();
                assert!(lost.is_empty(), "answered 202, and not in the log after a cut: {lost:?}");
                tokio::time::sleep(RECOVERY).await;
            }
            assert_eq!(strikes.system.resets().await, before, "nodes go on where they were");
        })
        .await;
    });
}

/// Disks that say that they have flushed and have not: the log is shorter than what the replicas have seen of it.
#[test]
fn a_log_that_has_become_shorter_is_served_by_no_replica() {
    isolated(&TOOLS, async || {
        let mut disks = [(); 3].map(|()| MemberDisk::new());
        let mut system = start_on(&disks).await;
        let recorder = Recorder::of(&system);
        let mut dice = Dice::seeded("disks that lie");
        disks.iter().for_each(|member| member.disk.begin());
        for _ in 0..40 {
            recorder.purge_one(dice.throw()).await;
        }
        system.settled().await;
        let (written, resets) = (read_log_in_etcd(&system.member_clients).await, system.resets().await);
        cut(&mut system.members, &mut disks, Loss::Nothing, &mut dice, |moment| moment / 2).await;

        for (replica, customer) in system.customers.iter().enumerate() {
            eventually("the replica says what has become of the log", || async {
                let body = serde_json::json!({"urls": [System::url("/lost")]});
                let answer = customer.purge(&body).await;
                assert_eq!(answer.status, 503, "nothing is accepted behind what is gone: {}", answer.text);
                let (status, reason) = system.readiness(replica).await;
                assert_eq!(status, 503, "{reason}");
                reason.contains("an older copy was put back").then_some(())
            })
            .await;
        }
        assert_eq!(system.resets().await, resets, "no node was sent back");
        let left = read_log_in_etcd(&system.member_clients).await;
        assert!(left.len() < written.len() && written.starts_with(&left), "nothing was written behind it");

        // Nor by one that was started again, which knows it from its folder.
        for replica in 0..3 {
            system.replica(replica).kill();
        }
        for replica in 0..3 {
            let refused = system.replica(replica).start().await.expect_err("it has seen more");
            assert!(refused.contains("an older copy") && refused.contains("--new-log-id"), "{refused}");
        }
        assert_eq!(system.resets().await, resets, "no node was sent back");

        // As the runbook has it: one makes it a log of its own, the others forget the old one.
        let mut once = system.control_once(&["--new-log-id"]);
        once.start().await.unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(once.stop().await, 0);
        for replica in 1..3 {
            let refused = system.replica(replica).start().await.expect_err("it belongs to the old log");
            let file = refused.split_whitespace().find(|word| word.ends_with("/log.id"));
            std::fs::remove_file(file.unwrap_or_else(|| panic!("{refused}"))).unwrap();
        }
        for replica in 0..3 {
            system.replica(replica).start().await.unwrap_or_else(|why| panic!("{why}"));
        }
        system.settled().await;
        assert_ne!(system.resets().await, resets, "every node has begun anew");
        recorder.purge_one(dice.throw()).await;
    });
}
