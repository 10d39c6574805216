//! The time of day of one replica and of one node stepped by hours, while the others have the right time.

use std::time::Duration;

use batoff_tests::{Place, System, SystemPlan};
use serde_json::json;

use super::{Promise, nobody_notices, three};
use crate::wall_clock::{HOUR, TimeOfDay, now, seconds};

/// The replica whose clock is wrong, counted from 0.
const WRONG: usize = 1;

/// Between two steps.
const PAUSE: Duration = Duration::from_millis(1_500);

#[tokio::test]
async fn a_replica_and_a_node_with_a_clock_that_is_hours_off_make_nothing_late_and_no_task_untrue() {
    let (Some(replica), Some(node)) = (TimeOfDay::new(), TimeOfDay::new()) else { return };
    let own_environment =
        vec![(Place::Replica(WRONG), replica.environment()), (Place::Node(0), node.environment())];
    let mut system = System::start(SystemPlan { own_environment, ..three() }).await;
    // Customers have the right time, so it refuses them; all that it does among the replicas it goes on doing.
    let there = system.customers.remove(WRONG);
    let here = system.customer.clone();
    let story = "clocks of a replica and a node hours off";
    nobody_notices(story, system, Promise::InTime, async |strikes, _, _| {
        strikes.own_time = Some("pop0");
        for step in [2 * HOUR, -2 * HOUR, 26 * HOUR, 0] {
            replica.step(step);
            node.step(-step);
            if step != 0 {
                let refused = there.purge(&json!({"tags": ["refused"]})).await;
                assert_eq!((refused.status, refused.code()), (401, "bad_signature"), "{}", refused.text);
                let side = if step > 0 { "behind" } else { "ahead of" };
                let reason = format!("{side} the server's clock");
                assert!(refused.text.contains(&reason), "which clock is off, and where: {}", refused.text);
            }
            // Of a customer who has its time, as the others tell it.
            let task = there.ahead(step).purge(&json!({"urls": [System::url("/stepped")]})).await.task();
            let shown = here.completed(&task).await;
            let off = seconds(&shown, "started_at") - (now() + step);
            assert!(off.abs() < 60, "{off} s off the time of the replica that accepted it: {shown}");
            let took = seconds(&shown, "completed_at") - seconds(&shown, "started_at");
            assert!((0..60).contains(&took), "{took} s between its two times: {shown}");
            assert!(shown["propagation_ms"].as_u64().unwrap() < 60_000, "{shown}");
            tokio::time::sleep(PAUSE).await;
        }
    })
    .await;
}
