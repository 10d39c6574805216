//! Links between the control plane and its nodes cut, in a network of namespaces.

use std::time::{Duration, Instant};

use batoff_tests::{Cut, Dice, HOST, Network, Recorder, System, SystemPlan, Visitor, eventually, isolated};
use serde_json::json;

/// Purges a second while links are cut.
const RATE: u32 = 15;

/// Records that the control plane keeps in memory for its nodes, where there are meant to be few.
const KEPT_IN_MEMORY: usize = 16;

/// The node whose links are cut.
const VICTIM: usize = 1;

async fn apart() -> (Network, System) {
    let plan = SystemPlan { apart: true, ..SystemPlan::default() };
    let network = Network::lay(plan.nodes);
    (network, System::start(plan).await)
}

/// A purge while the victim is cut off completes without it, and the victim, which visitors still reach, does not serve
/// the page; when the link is whole again it catches up without a gap.
async fn a_purge_completes_without_the_node(cut: Cut) {
    let (network, system) = apart().await;
    let visitor = Visitor::default();
    system.warm("/run/0/0").await;
    network.cut(VICTIM, cut);
    let began = Instant::now();
    let body = json!({"urls": [System::url("/run/0/0")]});
    let last_old = system.origin.edit(&["/run/0/0".to_owned()]);
    let task = system.customer.purge(&body).await.task();
    let shown = system.customer.completed(&task).await;
    eprintln!("{cut:?}: completed after {:?}: {shown}", began.elapsed());
    assert_eq!(shown["nodes"]["unreachable"], 0, "a strict node is never unreachable: {shown}");
    if cut == Cut::ToControl || cut == Cut::Both {
        assert_eq!(shown["nodes"]["fenced"], 1, "it could not confirm: {shown}");
    }
    let victim = &system.nodes[VICTIM];
    let answer = visitor.read(&victim.proxy, HOST, "/run/0/0").await;
    let number =
        answer.body.lines().next().and_then(|line| line.strip_prefix("answer ")?.parse::<u64>().ok());
    assert!(number > Some(last_old), "served after it was completed: {} {}", answer.x_cache, answer.body);

    // Without any news from the control plane it stays fenced, whatever it fetches.
    eventually("the control plane has given the node up", || async {
        (system.node(VICTIM).await?["state"] != "leased").then_some(())
    })
    .await;
    let kept = visitor.read(&victim.proxy, HOST, "/run/0/0").await;
    assert_ne!(kept.x_cache, "HIT", "it has no lease");

    network.heal();
    system.settled().await;
    visitor.warm(&victim.proxy, HOST, "/run/0/0").await;
    no_gap(&system).await;
}

/// No node ever saw a record before the one ahead of it.
async fn no_gap(system: &System) {
    for node in &system.nodes {
        let http = batoff_tests::http();
        let metrics = http.get(&node.metrics).send().await.unwrap().text().await.unwrap();
        assert!(metrics.contains("\nbatoff_edge_gaps_total 0\n"), "{}: a gap, or no such metric", node.pop);
    }
}

#[test]
fn a_purge_completes_while_a_node_cannot_be_heard() {
    isolated(&["nft"], || a_purge_completes_without_the_node(Cut::ToControl));
}

#[test]
fn a_purge_completes_while_a_node_cannot_hear() {
    isolated(&["nft"], || a_purge_completes_without_the_node(Cut::FromControl));
}

#[test]
fn a_purge_completes_while_a_node_is_cut_off() {
    isolated(&["nft"], || a_purge_completes_without_the_node(Cut::Both));
}

#[test]
fn a_purge_says_who_is_missing_while_an_available_node_is_cut_off_and_completes_when_it_is_back() {
    isolated(&["nft"], async || {
        let plan = SystemPlan { apart: true, on_lease_lost: "serve", ..SystemPlan::default() };
        let network = Network::lay(plan.nodes);
        let system = System::start(plan).await;
        system.warm("/run/0/0").await;
        network.cut(VICTIM, Cut::Both);
        let task = system.customer.purge(&json!({"urls": [System::url("/run/0/0")]})).await.task();
        let shown = eventually("the purge is partial", || async {
            let shown = system.customer.task(&task, 1).await.json;
            assert_ne!(shown["state"], "completed", "the node may serve: {shown}");
            (shown["state"] == "partial").then_some(shown)
        })
        .await;
        assert_eq!(shown["nodes"], json!({"total": 3, "confirmed": 2, "fenced": 0, "unreachable": 1}));
        let served = Visitor::default().read(&system.nodes[VICTIM].proxy, HOST, "/run/0/0").await;
        assert_eq!(served.x_cache, "HIT", "it goes on serving, as it was told to");
        network.heal();
        let shown = system.customer.completed(&task).await;
        assert_eq!(shown["nodes"]["confirmed"], 3, "{shown}");
        let served = Visitor::default().read(&system.nodes[VICTIM].proxy, HOST, "/run/0/0").await;
        assert_eq!(served.x_cache, "MISS", "and then no longer");
        no_gap(&system).await;
    });
}

#[test]
fn a_node_that_was_cut_off_for_longer_than_memory_reaches_is_given_every_record_from_the_log() {
    isolated(&["nft"], async || {
        let few = ("BATOFF_LIMITS_TAIL_RECORDS".to_owned(), KEPT_IN_MEMORY.to_string());
        let plan =
            SystemPlan { apart: true, nodes: 2, control_environment: vec![few], ..SystemPlan::default() };
        let network = Network::lay(plan.nodes);
        let system = System::start(plan).await;
        let recorder = Recorder::of(&system);
        let mut dice = Dice::seeded("cut off for long");
        let began = Instant::now();
        network.cut(VICTIM, Cut::Both);
        for _ in 0..10 * KEPT_IN_MEMORY {
            recorder.submit(dice.throw()).await;
        }
        recorder.follow_all(began).await;
        let resets = || system.nodes[VICTIM].service.log().matches("everything cached is dropped").count();
        let before = resets();
        network.heal();
        system.settled().await;
        assert_eq!(resets(), before, "what it missed was sent, not replaced by a reset");
        no_gap(&system).await;
        recorder.settle(system).await;
    });
}

#[test]
fn every_202_is_kept_while_links_are_cut_either_way_and_flap() {
    isolated(&["nft"], async || {
        let (network, system) = apart().await;
        let recorder = Recorder::of(&system);
        let mut dice = Dice::seeded("links cut");
        let (mut load, time) = (dice.fork(), batoff_tests::fault_time());
        let until = Instant::now() + time;
        let cutting = async {
            while Instant::now() < until {
                let node = usize::try_from(dice.between(0, 3)).unwrap();
                let cut = [Cut::ToControl, Cut::FromControl, Cut::Both]
                    [usize::try_from(dice.between(0, 3)).unwrap()];
                network.cut(node, cut);
                // Half of them flap, the others are long enough for a lease to run out.
                let longest = if dice.one_in(2) { 300 } else { 2_500 };
                tokio::time::sleep(Duration::from_millis(dice.between(20, longest))).await;
                network.heal();
                tokio::time::sleep(Duration::from_millis(dice.between(20, 900))).await;
            }
        };
        tokio::join!(recorder.run(RATE, time, &mut load), cutting);
        system.settled().await;
        no_gap(&system).await;
        recorder.settle(system).await;
    });
}
