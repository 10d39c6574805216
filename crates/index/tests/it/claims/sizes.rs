//! What the index takes.

use crate::fixture::*;

#[test]
fn what_is_stored_anew_again_and_again_takes_no_more_memory() {
    let node = node();
    let pages = 6_000_usize;
    let hold = |page: usize| {
        // A tag of its own, some that few share, and some that very many do.
        let carried = [
            format!("product:{page}"),
            format!("brand:{}", page % 700),
            format!("category:{}", page % 40),
            format!("language:{}", page % 3),
        ];
        let carried: Vec<&str> = carried.iter().map(String::as_str).collect();
        node.hold(&format!("one.test/{}/{page:05}", page % 300), &carried);
    };
    let store_anew = |rounds: std::ops::Range<usize>| {
        for round in rounds {
            // In another order each time.
            (0..pages).map(|at| at * [7, 11, 13, 17][round % 4] % pages).for_each(hold);
            assert_eq!(node.stats().entries, pages as u64);
        }
        node.stats().bytes.total()
    };
    // Memory comes in pieces that double at this size, so what is compared is what it takes when it has settled.
    let settled = store_anew(0..6);
    let later = store_anew(6..40);
    assert!(later < settled * 3 / 2, "{settled} bytes, and {later} when each page was stored 34 times more");
}
