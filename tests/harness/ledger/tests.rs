use std::sync::Arc;

use batoff_types::{Purge, SEMANTICS_VERSION, Seq, Tag, TaskId, UnixMillis};
use serde_json::json;

use super::*;

const TASK: &str = "01JF7M2KZ7YH9Q4K0P2BDH9W3Y";

fn shown(propagation_ms: u64) -> Value {
    json!({
        "task_id": TASK, "state": "completed", "started_at": "2026-04-20T08:12:31Z",
        "completed_at": "2026-04-20T08:12:31Z", "propagation_ms": propagation_ms,
        "nodes": { "total": 2, "confirmed": 1, "fenced": 1, "unreachable": 0 },
    })
}

fn record(seq: u64, task: &str, mark: &str) -> Record {
    Record {
        seq: Seq::new(seq).unwrap(),
        accepted_at: UnixMillis(0),
        task: task.parse::<TaskId>().unwrap(),
        request_id: Arc::from("r"),
        semantics: SEMANTICS_VERSION,
        trace: None,
        body: Body::Purge(Purge {
            site: "demo".parse().unwrap(),
            selectors: vec![Selector::Tag(mark.parse::<Tag>().unwrap())],
            soft: false,
        }),
    }
}

/// A purge of `/a` that took back the answers up to 7, and is completed.
fn kept() -> Ledger {
    let mut ledger = Ledger::default();
    ledger.accepted(TASK, Promise::new("mark:1", vec!["/a".to_owned()], 7));
    assert_eq!(ledger.completed(TASK, &shown(40), Duration::from_millis(60)), ["/a"]);
    ledger
}

fn complaints(ledger: &Ledger) -> String {
    ledger.violations().join("\n")
}

#[test]
fn a_kept_promise_is_no_violation() {
    let mut ledger = kept();
    let gone = ledger.asks("/a");
    ledger.answered("pop0", "/a", gone, 8, "HIT");
    ledger.compare_log(&[record(1, TASK, "mark:1")]);
    ledger.compare_tasks(&[shown(40)]);
    ledger.must_agree();
}

#[test]
fn an_old_answer_after_completion_is_a_violation() {
    let mut ledger = kept();
    let gone = ledger.asks("/a");
    ledger.answered("pop0", "/a", gone, 7, "HIT");
    assert!(complaints(&ledger).contains("I1: pop0 served answer 7 of /a"), "{ledger:?}");
}

#[test]
fn an_old_answer_to_a_visitor_who_asked_before_completion_is_none() {
    let mut ledger = Ledger::default();
    let gone = ledger.asks("/a");
    ledger.accepted(TASK, Promise::new("mark:1", vec!["/a".to_owned()], 7));
    ledger.completed(TASK, &shown(40), Duration::from_millis(60));
    ledger.answered("pop0", "/a", gone, 7, "HIT");
    ledger.must_agree();
}

#[test]
fn a_lost_a_doubled_and_a_misnumbered_record_are_violations() {
    let other = "01JF7M2KZ7YH9Q4K0P2BDH9W3Z";
    for (records, complaint) in [
        (vec![], "the log has None"),
        (vec![record(1, other, "mark:1")], "was answered 202 as"),
        (vec![record(1, TASK, "mark:1"), record(2, other, "mark:1")], "in the log twice"),
        (vec![record(2, TASK, "mark:1")], "record 2 is number 1"),
    ] {
        let mut ledger = kept();
        ledger.compare_log(&records);
        assert!(complaints(&ledger).contains(complaint), "{complaint}: {ledger:?}");
    }
}

#[test]
fn a_task_that_changes_after_its_completion_is_a_violation() {
    for listed in [vec![], vec![shown(41)], vec![json!({"task_id": TASK, "state": "in_progress"})]] {
        let mut ledger = kept();
        ledger.compare_tasks(&listed);
        assert!(complaints(&ledger).contains("and is listed as"), "{ledger:?}");
    }
}

#[test]
fn a_completion_that_cannot_be_true_is_a_violation() {
    let mut ledger = Ledger::default();
    ledger.accepted(TASK, Promise::new("mark:1", vec![], 7));
    ledger.completed(TASK, &shown(500), Duration::from_millis(60));
    assert!(complaints(&ledger).contains("claims Some(500) ms"), "{ledger:?}");

    let mut waits = shown(40);
    waits["nodes"] = json!({ "total": 2, "confirmed": 1, "fenced": 0, "unreachable": 1 });
    let mut ledger = Ledger::default();
    ledger.accepted(TASK, Promise::new("mark:1", vec![], 7));
    ledger.completed(TASK, &waits, Duration::from_millis(60));
    assert!(complaints(&ledger).contains("not on every node"), "{ledger:?}");

    let mut ledger = kept();
    ledger.on_its_way(TASK, &json!({"state": "partial"}));
    assert!(complaints(&ledger).contains("waits for a node that is fenced"), "{ledger:?}");
}
