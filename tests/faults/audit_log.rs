//! The control plane killed while it accepts purges: what each 202 was for stands in the audit log, once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use batoff_tests::{Customer, Dice, System, SystemPlan, fault_time};
use serde_json::{Value, json};

/// Customers that purge at one time.
const CUSTOMERS: usize = 4;

/// How often the control plane is killed at least.
const KILLS: usize = 5;

/// How long a life may last before the audit log has written for the first time, in milliseconds, and until it has.
const BEFORE_A_WRITE_MS: [u64; 2] = [200, 1_200];
const ABOUT_A_WRITE_MS: [u64; 2] = [4_500, 6_500];

/// Purges until `stop`; the tasks of those that were accepted.
async fn purge_until(stop: &AtomicBool, customer: &Customer, who: usize) -> Vec<String> {
    let mut accepted = Vec::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let body = json!({"urls": [System::url(&format!("/{who}/{number}"))]});
        accepted.push(customer.purge_once_accepted(&body, &format!("{who}-{number}")).await.task());
        // Within the site's quota.
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    accepted
}

#[tokio::test]
async fn every_202_has_its_entry_in_the_audit_log_after_kills_in_the_middle_of_it() {
    let mut system = System::start(SystemPlan { nodes: 0, ..SystemPlan::default() }).await;
    let mut dice = Dice::seeded("the audit log");
    let mut accepted = Vec::new();
    let mut head = None;
    let (until, mut kills) = (Instant::now() + fault_time(), 0);
    while kills < KILLS || Instant::now() < until {
        let kill = kills;
        kills += 1;
        let stop = AtomicBool::new(false);
        let (customer, control) = (&system.customer, &mut system.control);
        let load = (0..CUSTOMERS).map(|who| purge_until(&stop, customer, kill * CUSTOMERS + who));
        // One life is about as long as the audit log waits: there are entries that are written, others on their way. The
        // others are shorter: there are none yet.
        let [least, most] = if kill % KILLS == 0 { ABOUT_A_WRITE_MS } else { BEFORE_A_WRITE_MS };
        let (tasks, ()) = tokio::join!(futures_util::future::join_all(load), async {
            tokio::time::sleep(Duration::from_millis(dice.between(least, most))).await;
            control.kill();
            control.start().await.unwrap_or_else(|why| panic!("{why}"));
            tokio::time::sleep(Duration::from_millis(100)).await;
            stop.store(true, Ordering::Relaxed);
        });
        accepted.extend(tasks.concat());
        let known: Vec<&str> = head.iter().flat_map(|head: &String| ["--head", head]).collect();
        let verdict = system.batoff(&[&["audit", "verify"], known.as_slice()].concat()).await;
        let verdict = verdict.unwrap_or_else(|why| panic!("{why}")).remove(0);
        head = verdict["head"].as_str().map(str::to_owned);
    }
    assert!(accepted.len() > kills * CUSTOMERS, "that was no load");

    let lines = system.batoff(&["audit", "export"]).await.unwrap_or_else(|why| panic!("{why}"));
    let mut told: HashMap<&str, usize> = HashMap::new();
    for entry in lines.iter().filter(|entry| entry["action"] == "purge" && entry["result"] == "done") {
        assert!(entry["actor"].as_str().is_some_and(|actor| actor.starts_with("token:")), "{entry}");
        assert_eq!(entry["address"], "127.0.0.1", "{entry}");
        *told.entry(entry["object"].as_str().unwrap_or_default()).or_default() += 1;
    }
    for task in &accepted {
        assert_eq!(told.get(task.as_str()), Some(&1), "{task} of {} purges", accepted.len());
    }
    eprintln!(
        "{} purges accepted over {kills} kills, each with one entry of {}",
        accepted.len(),
        lines.len() - 1
    );

    // A site was created and a token issued when the system was set up.
    let changes: Vec<&Value> = lines.iter().filter(|entry| entry["actor"] == "admin").collect();
    let actions: Vec<_> = changes.iter().map(|entry| entry["action"].as_str().unwrap_or_default()).collect();
    assert_eq!(actions, ["site.create", "token.issue"]);
}
