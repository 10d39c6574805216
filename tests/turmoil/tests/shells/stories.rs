use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use batoff_control::tracker::TaskState;
use batoff_types::message::{FromNode, LeasePolicy};
use batoff_wire::grpc::client::PurgeStreamClient;
use tonic::transport::Endpoint;

use crate::network;
use crate::node::Node;
use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);

/// A node is back this long after its way to the control plane is: three seconds to notice that nothing is heard, five
/// until it tries again, three for an attempt that was under way, and its lease.
const BACK: Duration = Duration::from_secs(12);

fn calm(nodes: usize, policy: LeasePolicy) -> World {
    let mut world = World::new(nodes, policy);
    world.until("all nodes have leases", 20 * SECOND, |world| {
        world.nodes.iter().all(Node::is_leased) && world.control.last().is_some()
    });
    world.pass(2 * SECOND);
    world
}

/// Cuts the first of two strict nodes off for a while and mends it; the other must not notice.
fn a_cut(cut: impl Fn(&World), mend: impl Fn(&World)) -> World {
    let mut world = calm(2, LeasePolicy::Revalidate);
    cut(&world);
    world.pass(10 * SECOND);
    assert!(!world.nodes[0].is_leased(), "it is fenced");
    assert!(world.nodes[1].is_leased(), "the other notices nothing");
    mend(&world);
    world.until("it is back", BACK, |world| world.nodes[0].is_leased());
    world.settle();
    world.judge(None);
    world
}

#[test]
fn a_node_resumes_after_a_partition_without_a_gap() {
    a_cut(|world| world.sim.partition("control", "edge-1"), |world| world.sim.repair("control", "edge-1"));
}

#[test]
fn a_node_that_hears_and_is_not_heard_is_fenced_and_resumes() {
    a_cut(
        |world| world.sim.partition_oneway("edge-1", "control"),
        |world| world.sim.repair_oneway("edge-1", "control"),
    );
}

#[test]
fn a_node_that_is_heard_and_does_not_hear_is_fenced_and_resumes() {
    a_cut(
        |world| world.sim.partition_oneway("control", "edge-1"),
        |world| world.sim.repair_oneway("control", "edge-1"),
    );
}

#[test]
fn what_was_held_back_on_its_way_comes_late_and_does_no_harm() {
    a_cut(|world| world.sim.hold("control", "edge-1"), |world| world.sim.release("control", "edge-1"));
}

#[test]
fn a_flapping_link_loses_nothing() {
    let mut world = calm(2, LeasePolicy::Revalidate);
    for round in 0..12 {
        world.sim.partition("control", "edge-1");
        world.pass(Duration::from_millis(300 + 170 * round));
        world.sim.repair("control", "edge-1");
        world.pass(Duration::from_millis(2_000 - 150 * round));
    }
    world.until("it is back", BACK, |world| world.nodes[0].is_leased());
    world.settle();
    world.judge(None);
}

#[test]
fn a_control_plane_that_dies_goes_on_with_the_same_data() {
    let mut world = calm(2, LeasePolicy::Revalidate);
    for away in [0, 3, 8] {
        world.crash_control();
        world.pass(away * SECOND);
        world.sim.bounce("control");
        world.until("all nodes have leases again", BACK, |world| world.nodes.iter().all(Node::is_leased));
        world.pass(2 * SECOND);
    }
    world.settle();
    // What was accepted right before a crash waits for the start, and then for the leases of before.
    let end = world.sim.elapsed();
    world.judge(Some((Duration::ZERO, end)));
}

#[test]
fn a_daemon_that_dies_goes_on_where_it_was_stored() {
    let mut world = calm(2, LeasePolicy::Revalidate);
    for away in [0, 1, 4] {
        world.crash_node(0);
        world.pass(away * SECOND);
        world.sim.bounce("edge-1");
        world.until("it has a lease again", BACK, |world| world.nodes[0].is_leased());
        world.pass(2 * SECOND);
    }
    world.settle();
    world.judge(None);
}

#[test]
fn an_available_node_that_is_cut_off_makes_purges_partial_until_it_is_back() {
    let mut world = calm(2, LeasePolicy::Serve);
    let from = world.sim.elapsed();
    world.sim.partition("control", "edge-1");
    world.pass(10 * SECOND);
    world.sim.repair("control", "edge-1");
    world.until("it is back", BACK, |world| world.nodes[0].is_leased());
    let to = world.sim.elapsed();
    world.settle();
    // Those accepted right before the cut were on their way.
    world.judge(Some((from - SECOND, to)));
    let told = world.control.told.lock();
    assert!(!told.late.is_empty() && told.late.values().all(|state| *state == TaskState::Partial));
}

#[test]
fn after_a_cut_neither_side_keeps_a_stream_that_hangs() {
    let mut world = calm(1, LeasePolicy::Revalidate);
    let connected = |world: &World| world.control.with(|services| services.tracker.nodes()[0].connected);
    assert!(connected(&world));
    world.sim.partition("control", "edge-1");
    // Nobody tells either side; pings that stay unanswered do.
    world.until("the control plane lets go of the stream", 6 * SECOND, |world| !connected(world));
    world.pass(30 * SECOND);
    world.sim.repair("control", "edge-1");
    world.until("the node has let go of it too, and is back", BACK, |world| world.nodes[0].is_leased());
    assert!(connected(&world));
    world.settle();
    world.judge(None);
}

#[test]
fn a_stream_without_a_hello_is_ended() {
    let mut world = calm(1, LeasePolicy::Revalidate);
    let ended = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&ended);
    world.sim.client("mute", async move {
        let channel = network::dial()(Endpoint::from_static("http://control:7443")).await?;
        let silence = futures_util::stream::pending::<FromNode>();
        let mut stream = PurgeStreamClient::new(channel).connect(silence).await?.into_inner();
        let status = stream.message().await.expect_err("nothing was said");
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
        seen.store(true, Ordering::Relaxed);
        Ok(())
    });
    world.until("the stream is ended", 6 * SECOND, |_| ended.load(Ordering::Relaxed));
}

#[test]
fn nodes_that_lost_the_same_control_plane_come_back_apart_and_all_of_them() {
    let mut world = calm(12, LeasePolicy::Revalidate);
    world.control.stopped.store(true, Ordering::Relaxed);
    world.crash_control();
    world.sim.bounce("control");
    world.pass(10 * SECOND);
    world.control.stopped.store(false, Ordering::Relaxed);
    world.sim.crash("control");
    world.sim.bounce("control");
    let mut back = vec![None; world.nodes.len()];
    let begun = world.sim.elapsed();
    world.until("all of them are back", BACK, |world| {
        for (node, back) in world.nodes.iter().zip(&mut back) {
            if node.is_leased() {
                back.get_or_insert(world.sim.elapsed() - begun);
            }
        }
        back.iter().all(Option::is_some)
    });
    // With the longest delay at five seconds, twelve that drew theirs at random are not all within half a second of one
    // another: that would happen once in ten billion runs.
    let (first, last) = (back.iter().flatten().min(), back.iter().flatten().max());
    assert!(*last.unwrap() - *first.unwrap() > SECOND / 2, "{back:?}");
    world.settle();
}
