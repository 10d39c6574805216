//! More purges than the log can take: refused, not queued.

use std::sync::Arc;
use std::time::{Duration, Instant};

use batoff_control::tracker::TaskState;

use crate::fake_node::FakeNode;
use crate::rig::Rig;

/// Clients that submit one purge after the other. Were all of them let in, the last would wait for two seconds.
const CLIENTS: usize = 160;

/// What one append takes, and with it what the log can do: some 80 a second.
const EACH: Duration = Duration::from_millis(12);

/// How long it goes on.
const FOR: Duration = Duration::from_secs(4);

/// A refused client tries again after so long, so that together they offer many times what the log can take.
const AGAIN: Duration = Duration::from_millis(100);

/// A refusal comes within a second; the rest of it is for a machine that has other things to do.
const REFUSED_WITHIN: Duration = Duration::from_millis(1_900);

/// What one client was answered.
#[derive(Default)]
struct Answered {
    accepted: Vec<String>,
    refused_after: Vec<Duration>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_more_than_the_log_can_take_is_refused_in_time_and_what_was_accepted_is_completed() {
    let rig = Arc::new(Rig::start().await);
    let _node = FakeNode::connect(rig.grpc(), "fra1/edge-1", 1).await;
    rig.wait_for_nodes(1).await;
    let before = rig.services.hub.tail();
    rig.faults.append_one_each(EACH);
    let begun = Instant::now();
    let clients = (0..CLIENTS).map(|client| {
        let rig = Arc::clone(&rig);
        tokio::spawn(async move {
            let mut answered = Answered::default();
            let mut number = 0;
            while begun.elapsed() < FOR {
                number += 1;
                let request = rig.post(&format!(r#"{{"tags":["client-{client}-{number}"]}}"#));
                let sent = Instant::now();
                let reply = request.send().await;
                match reply.status {
                    202 => answered.accepted.push(reply.task()),
                    _ => {
                        answered.refused_after.push(sent.elapsed());
                        assert_eq!((reply.status, reply.json()["code"].as_str()), (503, Some("unavailable")));
                        assert!(reply.header("retry-after").is_some(), "{reply:?}");
                        tokio::time::sleep(AGAIN).await;
                    }
                }
            }
            answered
        })
    });
    let (mut accepted, mut refused_after) = (Vec::new(), Vec::new());
    for client in clients.collect::<Vec<_>>() {
        let answered = client.await.unwrap();
        accepted.extend(answered.accepted);
        refused_after.extend(answered.refused_after);
    }
    rig.faults.append_one_each(Duration::ZERO);

    let offered = accepted.len() + refused_after.len();
    assert!(
        offered >= 3 * accepted.len(),
        "{} of {offered} were accepted: that is no overload",
        accepted.len()
    );
    assert!(
        accepted.len() as u32 > FOR.as_millis() as u32 / EACH.as_millis() as u32 / 4,
        "hardly any was accepted"
    );
    let longest = refused_after.iter().max().unwrap();
    assert!(*longest < REFUSED_WITHIN, "a client waited {longest:?} to be refused");

    let site = "shop".parse().unwrap();
    for task in &accepted {
        let view = rig.services.tracker.wait(&site, task.parse().unwrap(), Duration::from_secs(20)).await;
        let view = view.unwrap().unwrap();
        assert_eq!(view.state, TaskState::Completed, "{view:?}");
    }
    let records = rig.services.hub.tail().get() - before.get();
    assert_eq!(records, accepted.len() as u64, "what was refused is not in the log");
}
