//! What is counted of the caches of the local API.

use batoff_wire::local::pb::Verdict;
use metrics::{counter, describe_counter, describe_gauge, gauge};

const COMMITS: &str = "batoff_edge_local_commits_total";
const IN_SYNC: &str = "batoff_edge_local_in_sync";
const OBJECTS: &str = "batoff_edge_local_objects";
const FENCED: &str = "batoff_edge_local_fenced_total";

/// Declares a cache's figures at 0.
pub fn declare(cache: &str) {
    describe_counter!(COMMITS, "Objects that a cache wanted to store, by what it was told");
    describe_gauge!(IN_SYNC, "1 while a cache has a session and everything it holds has met the rules");
    describe_gauge!(OBJECTS, "Objects that a cache has registered");
    describe_counter!(FENCED, "Times a cache was fenced because it did not confirm, or did not come back");
    for verdict in [Verdict::Store, Verdict::StoreStale, Verdict::Discard] {
        commits(cache, verdict, 0);
    }
    in_sync(cache, false);
    objects(cache, 0);
    counter!(FENCED, "cache" => cache.to_owned()).absolute(0);
}

pub fn commit(cache: &str, verdict: Verdict) {
    commits(cache, verdict, 1);
}

pub fn in_sync(cache: &str, in_sync: bool) {
    gauge!(IN_SYNC, "cache" => cache.to_owned()).set(f64::from(u8::from(in_sync)));
}

pub fn objects(cache: &str, objects: u64) {
    gauge!(OBJECTS, "cache" => cache.to_owned()).set(objects as f64);
}

pub fn fenced(cache: &str) {
    counter!(FENCED, "cache" => cache.to_owned()).increment(1);
}

fn commits(cache: &str, verdict: Verdict, commits: u64) {
    let verdict = match verdict {
        Verdict::Store => "store",
        Verdict::StoreStale => "store_stale",
        Verdict::Discard | Verdict::Unspecified => "discard",
    };
    counter!(COMMITS, "cache" => cache.to_owned(), "verdict" => verdict).increment(commits);
}
