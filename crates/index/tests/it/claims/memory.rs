//! What survives a restart.

use batoff_index::Verdict::{Fresh, Gone, Stale};
use batoff_index::{Index, IndexConfig};

use crate::fixture::*;

#[test]
fn a_restored_index_meets_a_scanned_object_with_the_rules() {
    let node = node();
    let token = node.begin_fill();
    node.purge("one", by_tag("gone"));
    node.soft_purge("one", by_prefix("one.test/s"));
    let restored: Node = Index::restore(IndexConfig::default(), node.snapshot());
    assert_eq!(restored.begin_fill(), node.begin_fill());
    assert_eq!(restored.task(), node.task());
    assert!(!restored.hold_from("one.test/a", &["gone"], token));
    assert!(restored.hold_from("one.test/s", &[], token));
    assert!(restored.hold_from("one.test/a", &["kept"], token));
    assert_eq!(restored.verdict("one.test/s"), Some(Stale));
    assert_eq!(restored.verdict("one.test/a"), Some(Fresh));
}

#[test]
fn a_purge_during_the_scan_is_not_missed() {
    let node = node();
    let token = node.begin_fill();
    let restored: Node = Index::restore(IndexConfig::default(), node.snapshot());
    assert!(restored.hold_from("one.test/scanned-before", &["t"], token));
    assert_eq!(restored.purge("one", by_tag("t")), 1);
    assert!(!restored.hold_from("one.test/scanned-after", &["t"], token));
}

#[test]
fn a_snapshot_of_the_changes_completes_an_earlier_one() {
    let config = IndexConfig { rules_max: 6, ..IndexConfig::default() };
    let node = node_with(config.clone());
    let token = node.begin_fill();
    node.purge("one", by_url("one.test/a"));
    let mut whole = node.snapshot();
    node.purge("one", by_tag("t"));
    node.soft_purge("one", by_url("one.test/a"));
    node.purge("two", by_prefix("two.test/x"));
    let changes = node.snapshot_since(whole.cursor);
    assert!(changes.rules.len() < node.snapshot().rules.len());
    whole = batoff_index::Snapshot { rules: [whole.rules, changes.rules.clone()].concat(), ..changes };
    let restored: Node = Index::restore(config, whole);
    assert_eq!(restored.applied(), node.applied());
    for (text, carried) in [("one.test/a", &[][..]), ("one.test/b", &["t"]), ("two.test/xy", &[])] {
        assert_eq!(restored.check(&url(text), &tags(carried), token), Gone, "{text}");
    }
}
