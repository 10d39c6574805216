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
    (0..pages).for_each(hold);
    let filled = node.stats().bytes;
    for round in 1..=12 {
        // In another order each time.
        (0..pages).map(|at| at * [7, 11, 13, 17][round % 4] % pages).for_each(hold);
        assert_eq!(node.stats().entries, pages as u64);
    }
    let bytes = node.stats().bytes;
    assert!(
        bytes.total() < filled.total() * 5 / 4,
        "{} bytes after the fill, {} after each page was stored twelve times more: {bytes:?}",
        filled.total(),
        bytes.total()
    );
}
