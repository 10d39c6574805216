//! Disks that are full: of one member of etcd, of one replica, and etcd at its quota.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use batoff_tests::{
    Dice, HOST, PATIENCE, Recorder, System, SystemPlan, Visitor, eventually, isolated, mounted, scratch,
};
use serde_json::json;

use super::{Promise, RECOVERY, STEADY, nobody_notices, three};
use crate::disk::fill;

/// URLs of a thousand bytes with which a purge is made large.
const LARGE: usize = 150;

/// A member writes what it has accepted into a file that it has allocated before, and goes on for a while; then it ends.
#[test]
fn a_member_of_etcd_whose_disk_is_full_loses_nothing_and_comes_back_when_there_is_room() {
    isolated(&["etcd"], async || {
        // etcd allocates two files of 64 MB for its log.
        let disk = mounted(&["-t", "tmpfs", "-o", "size=200m", "none"]);
        let elsewhere = scratch();
        let dir = elsewhere.path().to_owned();
        let member_dirs = vec![dir.clone(), disk.path().to_owned(), dir];
        let system = System::start(SystemPlan { member_dirs, ..three() }).await;
        let story = "the disk of a member of etcd full";
        nobody_notices(story, system, Promise::Kept, async |strikes, _, mut dice| {
            let (filling, began) = (disk.path().join("filling"), Instant::now());
            fill(&filling);
            while strikes.system.members[1].ended().is_none() {
                assert!(began.elapsed() < PATIENCE, "etcd goes on for {PATIENCE:?} on a full disk");
                let (status, code) = strikes.recorder.try_submit(dice.throw(), LARGE).await;
                assert!([202, 503].contains(&status), "{status} {code}");
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            fs::remove_file(&filling).unwrap();
            strikes.system.members[1].start().await.unwrap_or_else(|why| panic!("{why}"));
            tokio::time::sleep(RECOVERY).await;
            // It is one of a majority again.
            strikes.system.members[0].kill();
            strikes.recorder.purge_one(dice.throw()).await;
            strikes.system.members[0].start().await.unwrap_or_else(|why| panic!("{why}"));
        })
        .await;
    });
}

/// A replica over etcd writes into its data folder which log is its own, once, and what it has last seen of it.
#[test]
fn a_replica_whose_data_folder_is_full_goes_on_and_starts_again() {
    isolated(&["etcd"], async || {
        let disk = mounted(&["-t", "tmpfs", "-o", "size=4m", "none"]);
        let data = disk.path().join("control");
        let system = System::start(SystemPlan { data_dir: Some(data.clone()), ..three() }).await;
        let story = "the data folder of a replica full";
        nobody_notices(story, system, Promise::InTime, async |strikes, _, _| {
            let fillings = ["filling", "more"].map(|name| disk.path().join(name));
            fill(&fillings[0]);
            let replica = strikes.system.replica(0);
            replica.kill();
            replica.start().await.unwrap_or_else(|why| panic!("{why}"));
            tokio::time::sleep(RECOVERY).await;

            // As at its first start, when it has to note which log it is that it has found.
            assert_eq!(replica.stop().await, 0);
            fs::remove_file(data.join("log.id")).unwrap();
            fill(&fillings[1]);
            let refused = replica.start().await.expect_err("it cannot note which log is its own");
            assert!(refused.contains("log.id") && refused.contains("No space left"), "{refused}");
            fillings.iter().for_each(|filling| fs::remove_file(filling).unwrap());
            replica.start().await.unwrap_or_else(|why| panic!("{why}"));
        })
        .await;
    });
}

/// Bytes that each member may hold at first, and after the operator has given it more.
const QUOTA: &str = "--quota-backend-bytes=16777216";
const MORE: &str = "--quota-backend-bytes=268435456";

/// Whether a member answers.
fn is_well(member: &str) -> bool {
    let health = Command::new("etcdctl").args(["--endpoints", member, "endpoint", "health"]).output();
    health.is_ok_and(|output| output.status.success())
}

#[tokio::test]
async fn at_its_quota_etcd_takes_no_purge_and_no_lease_and_goes_on_when_it_has_more_room() {
    let plan = SystemPlan { nodes: 2, member_arguments: vec![QUOTA.to_owned()], ..three() };
    let mut system = System::start(plan).await;
    let (recorder, began) = (Recorder::of(&system), Instant::now());
    let mut dice = Dice::seeded("etcd at its quota");
    for _ in 0..10 {
        recorder.purge_one(dice.throw()).await;
    }
    system.warm(STEADY).await;
    eventually("etcd is at its quota", || {
        let (recorder, choice) = (&recorder, dice.throw());
        async move {
            let (status, code) = recorder.try_submit(choice, LARGE).await;
            assert!([202, 503].contains(&status), "{status} {code}");
            (status == 503).then_some(())
        }
    })
    .await;

    for (replica, customer) in system.customers.iter().enumerate() {
        // Whoever meets a doubt first says so, and tells the reason from then on.
        eventually("the reason is told", || async {
            let refused = customer.purge(&json!({"urls": [System::url("/small")]})).await;
            assert_eq!((refused.status, refused.code()), (503, "unavailable"), "{}", refused.text);
            assert!(!refused.header("Retry-After").is_empty(), "every 503 has one");
            refused.text.contains("storage is full").then_some(())
        })
        .await;
        eventually("the replica says what to do", || async {
            let (status, reason) = system.readiness(replica).await;
            (status == 503 && reason.contains("alarm disarm") && reason.contains("--quota-backend-bytes"))
                .then_some(())
        })
        .await;
    }
    // Leases need no room.
    system.settled().await;
    let visitor = Visitor::default();
    for node in &system.nodes {
        assert_eq!(visitor.read(&node.proxy, HOST, STEADY).await.x_cache, "HIT", "{}", node.pop);
    }

    // The operator gives the members more, one after the other, and takes back the alarm.
    for member in 0..3 {
        let service = &mut system.members[member];
        service.add_arguments(&[MORE]);
        service.kill();
        service.start().await.unwrap_or_else(|why| panic!("{why}"));
        let client = &system.member_clients[member];
        // A member with an alarm is not well for etcdctl, which says so after it has been answered.
        eventually("the member answers", || async {
            let status = Command::new("etcdctl").args(["--endpoints", client, "endpoint", "status"]).output();
            status.is_ok_and(|output| output.status.success()).then_some(())
        })
        .await;
    }
    let everywhere = system.member_clients.join(",");
    eventually("the alarm is disarmed", || async {
        let disarmed = Command::new("etcdctl").args(["--endpoints", &everywhere, "alarm", "disarm"]).output();
        (disarmed.is_ok_and(|output| output.status.success()) && is_well(&system.member_clients[0]))
            .then_some(())
    })
    .await;
    eventually("purges are accepted again", || {
        let (recorder, choice) = (&recorder, dice.throw());
        async move { (recorder.try_submit(choice, 0).await.0 == 202).then_some(()) }
    })
    .await;
    for replica in 0..3 {
        eventually("each replica is ready", || async {
            (system.readiness(replica).await.0 == 200).then_some(())
        })
        .await;
    }
    recorder.follow_all(began).await;
    recorder.settle(system).await;
}
