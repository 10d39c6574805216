use batoff_types::Cursor;
use batoff_types::message::{LeasePolicy, Parents, ToNode};

use super::node::{Intro, Node};
use super::plane::Plane;

/// Waits until the node is told that its parents are so far; the reason when that is not known.
async fn until_told(node: &mut Node, through: u64) -> String {
    loop {
        match node.next().await {
            ToNode::Parents(Parents { through: told, why }) if told.get() == through => return why,
            ToNode::Records(records) => {
                for record in records {
                    node.cursor = Cursor::after(record.seq);
                }
            }
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_told_at_once_how_far_its_parents_are() {
    let plane = Plane::start().await;
    let parents = vec!["lon1".parse().unwrap()];
    let intro = Intro { parents, ..Intro::new("fra1/edge-1", LeasePolicy::Serve) };
    let mut child = Node::connect(&plane, intro.clone()).await;
    let why = until_told(&mut child, 0).await;
    assert_eq!(why, "no node is registered in lon1");
    let status = || plane.tracker().nodes().into_iter().find(|node| node.node == child.name).unwrap();
    assert_eq!(status().path, Some(Parents { through: Cursor::START, why }));

    let mut shield = Node::available(&plane, "lon1/shield-1").await;
    shield.ack(&[]);
    let stands_at = shield.cursor.get();
    assert_eq!(until_told(&mut child, stands_at).await, "");
    let accepted = plane.purge("/a").await;
    child.receive_through(accepted.seq).await;
    shield.receive_through(accepted.seq).await;
    shield.ack(&[]);
    until_told(&mut child, accepted.seq.get()).await;
    child.beat();
    loop {
        if let ToNode::LeaseGrant(grant) = child.next().await {
            assert_eq!(grant.parents_through.map(|through| through.get()), Some(accepted.seq.get()));
            break;
        }
    }
    // One without parents is told nothing of this.
    shield.beat();
    assert!(matches!(shield.next().await, ToNode::LeaseGrant(grant) if grant.parents_through.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_behind_a_node_is_known_after_a_restart_of_the_control_plane() {
    let mut plane = Plane::start().await;
    let parents = vec!["lon1/shield-1".parse().unwrap()];
    let intro = Intro { parents: parents.clone(), ..Intro::new("fra1/edge-1", LeasePolicy::Serve) };
    let mut child = Node::connect(&plane, intro).await;
    until_told(&mut child, 0).await;
    drop(child);
    plane.crash().await;
    let nodes = plane.tracker().nodes();
    let known = nodes.iter().find(|node| node.node == "fra1/edge-1".parse().unwrap()).unwrap();
    assert_eq!(known.parents, parents);
}
