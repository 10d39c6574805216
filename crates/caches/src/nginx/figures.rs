//! The figures of nginx's cache, and what each of them counts.

use metrics::{describe_counter, describe_gauge};

/// States.
const GAUGES: [(&str, &str); 9] = [
    ("batoff_edge_nginx_files", "Files of nginx's cache that are known"),
    ("batoff_edge_nginx_in_flight", "Files of nginx's cache that are being written"),
    (
        "batoff_edge_nginx_spoiled_files",
        "Files of nginx's cache that cannot be served any more and are still to be unlinked",
    ),
    ("batoff_edge_nginx_odd_files", "Files in nginx's cache folder that cannot be purged one by one"),
    (
        "batoff_edge_nginx_held_shares",
        "Parts of the key space in which nginx asks the origin until a purge is through",
    ),
    (
        "batoff_edge_nginx_awaiting_shares",
        "Parts of the key space in which nginx stores nothing until the parents are there",
    ),
    ("batoff_edge_nginx_scan_progress", "Share of the cache folder that the scan has read, 0 to 1"),
    ("batoff_edge_nginx_scan_seconds", "Seconds that the last scan of the cache folder took"),
    ("batoff_edge_nginx_scanning", "1 while the cache folder is being scanned"),
];

/// Counters, which begin with what they first count.
const COUNTERS: [(&str, &str); 7] = [
    ("batoff_edge_nginx_events_total", "Events of files in nginx's cache folder"),
    ("batoff_edge_nginx_overflows_total", "Times that events were lost because there were too many"),
    (
        "batoff_edge_nginx_rescans_total",
        "Scans of the cache folder after the first, each because events may be missing",
    ),
    ("batoff_edge_nginx_scanned_files_total", "Files that scans have read"),
    (
        "batoff_edge_nginx_odd_files_total",
        "Files in nginx's cache folder that were no cached objects of a known kind",
    ),
    ("batoff_edge_nginx_without_owner_total", "Objects of hostnames that no site has, each taken out"),
    ("batoff_edge_nginx_taken_back_total", "Stale files taken out because the origin did not confirm them"),
];

/// To be called before any of them is recorded.
pub(super) fn describe() {
    GAUGES.into_iter().for_each(|(name, help)| describe_gauge!(name, help));
    COUNTERS.into_iter().for_each(|(name, help)| describe_counter!(name, help));
}
