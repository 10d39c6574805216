use crate::origin::Plan;
use crate::rig::{Rig, Setup, prefix};

#[tokio::test]
async fn memory_stays_within_its_limit_and_what_leaves_leaves_the_index() {
    let rig = Rig::with(Setup { memory_bytes: 1 << 20, ..Setup::default() }).await;
    for n in 0..60 {
        let path = format!("/{n}");
        rig.origin.plan(&path, Plan::page(vec![b'x'; 50_000]));
        assert_eq!(rig.get(&path).await.body.len(), 50_000);
        assert!(rig.store.bytes() <= 1 << 20);
        assert_eq!(rig.index.stats().entries, rig.store.len());
    }
    assert!(rig.store.len() < 22 && rig.store.len() > 10, "{}", rig.store.len());
    assert_eq!(rig.get("/59").await.x_cache(), "HIT");
    let held = rig.store.len();
    assert_eq!(rig.purge(prefix("/")).await, held);
    assert_eq!((rig.store.len(), rig.store.bytes()), (0, 0));
}

#[tokio::test]
async fn a_page_that_is_too_large_is_passed_on_whole_and_not_stored() {
    for chunked in [false, true] {
        let rig = Rig::with(Setup { object_bytes_max: 1_000, ..Setup::default() }).await;
        rig.origin.plan("/a", Plan { chunked, ..Plan::page(vec![b'x'; 5_000]) });
        for _ in 0..2 {
            let answer = rig.get("/a").await;
            assert_eq!((answer.status, answer.body.len()), (200, 5_000), "chunked: {chunked}");
            assert_ne!(answer.x_cache(), "HIT");
        }
        assert_eq!(rig.store.len(), 0);
        rig.origin.plan("/b", Plan { chunked, ..Plan::page(vec![b'x'; 1_000]) });
        rig.get("/b").await;
        assert_eq!(rig.get("/b").await.x_cache(), "HIT");
    }
}
