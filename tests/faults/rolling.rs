//! Everything restarted one after the other, as an upgrade does it, while purges go on; over and over when there is time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use batoff_tests::{Customer, Dice, Recorder, Service, System, SystemPlan, fault_time};
use serde_json::json;

/// How long a client waits before its one retry.
const RETRY_AFTER: Duration = Duration::from_secs(8);

/// Purges until `stop`, each sent at most twice, with one key; how many needed the second time.
async fn purge_until(
    stop: &AtomicBool,
    customer: &Customer,
    who: usize,
    retries: &AtomicUsize,
) -> Vec<String> {
    let mut tasks = Vec::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let body = json!({"urls": [System::url(&format!("/rolling/{who}/{number}"))]}).to_string();
        let path = "/v1/sites/demo/purge";
        let key = format!("{who}-{number}");
        let send = || customer.send(customer.keyed_request("POST", path, Some(body.as_bytes()), Some(&key)));
        let reply = match send().await {
            Ok(reply) if reply.status == 202 => reply,
            _ => {
                retries.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(RETRY_AFTER).await;
                send().await.unwrap_or_else(|error| panic!("one retry does not heal {key}: {error}"))
            }
        };
        assert_eq!(reply.status, 202, "one retry does not heal {key}: {}", reply.text);
        tasks.push(reply.task());
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    tasks
}

/// Stops a program in order, and starts it after what a package takes to be replaced, now and then.
async fn restart(service: &mut Service, dice: &mut Dice) {
    assert_eq!(service.stop().await, 0, "{} ends well", service.name);
    tokio::time::sleep(Duration::from_millis(dice.between(0, 500))).await;
    service.start().await.unwrap_or_else(|why| panic!("{why}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_under_load_fails_no_request_that_one_retry_does_not_heal() {
    let mut system = System::start(SystemPlan { nodes: 2, ..SystemPlan::default() }).await;
    let recorder = Recorder::of(&system);
    let mut dice = Dice::seeded("a rolling restart");
    let (stop, retries) = (Arc::new(AtomicBool::new(false)), AtomicUsize::new(0));
    let (customer, until) = (system.customer.clone(), Instant::now() + fault_time());
    let load = futures_util::future::join_all((0..2).map(|who| purge_until(&stop, &customer, who, &retries)));
    let (mut pauses, is_over) = (dice.fork(), Arc::clone(&stop));
    let visits = recorder.run_until(4, move || is_over.load(Ordering::Relaxed), &mut dice);
    let mut rounds = 0;
    let restarts = async {
        while rounds == 0 || Instant::now() < until {
            // Nodes first, as README has it; then the control plane, twice.
            for node in 0..system.nodes.len() {
                restart(&mut system.nodes[node].service, &mut pauses).await;
                system.settled().await;
            }
            for _ in 0..2 {
                restart(&mut system.control, &mut pauses).await;
                system.settled().await;
            }
            rounds += 1;
        }
        stop.store(true, Ordering::Relaxed);
    };
    let (tasks, (), ()) = tokio::join!(load, visits, restarts);
    let tasks = tasks.concat();
    assert!(tasks.len() > 20, "that was no load");
    for task in &tasks {
        system.customer.completed(task).await;
    }
    let retries = retries.load(Ordering::Relaxed);
    eprintln!("{rounds} rounds, {} purges, of which {retries} were sent twice", tasks.len());
    // No page that was purged was served, and the log holds each purge once.
    system.settled().await;
    recorder.visit_all().await;
    recorder.ledger().must_agree();
}
