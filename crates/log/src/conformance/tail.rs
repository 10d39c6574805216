//! A reader that follows the log gets every record, once, in order.

use std::sync::Arc;

use batoff_types::{Cursor, Seq};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use super::subject::{Subject, record, seq, soon};
use crate::error::{ReadError, StoreError};
use crate::kv::Key;
use crate::purge_log::StoredRecord;

type Tail = BoxStream<'static, Result<Arc<[StoredRecord]>, ReadError>>;

/// Reads on from `next` until `end` has been seen; panics on a gap, a repeat, or an empty item.
async fn follow(tail: &mut Tail, mut next: Seq, end: Seq) -> Seq {
    while next <= end {
        let item = soon("the next record of a tail", tail.next()).await;
        let records = item.expect("a tail does not end").expect("a tail does not fail");
        assert!(!records.is_empty(), "a tail's items are never empty");
        for record in records.iter() {
            assert_eq!(record.seq, next, "a tail has no gap and no repeat");
            next = next.next();
        }
    }
    next
}

/// What was there, what comes while it is read, and what comes later: in order, each once.
pub async fn a_tail_is_gapless_from_the_past_to_the_present(subject: Subject) {
    subject.fill(500).await;
    let mut tails: Vec<Tail> = [1, 250, 501].map(|from| subject.log().tail(seq(from))).into();
    let subject = Arc::new(subject);
    let appender = tokio::spawn({
        let subject = Arc::clone(&subject);
        async move {
            for number in 0..300 {
                subject.append_new(record(&number.to_string())).await;
            }
        }
    });
    for (tail, from) in tails.iter_mut().zip([1, 250, 501]) {
        assert_eq!(follow(tail, seq(from), seq(800)).await, seq(801));
    }
    appender.await.expect("the appender does not panic");
    subject.append_new(record("later")).await;
    for tail in &mut tails {
        follow(tail, seq(801), seq(801)).await;
    }
}

/// A tail that sleeps through more commits than any feed holds is given them all the same.
pub async fn a_slow_tail_misses_nothing(subject: Subject) {
    subject.fill(1).await;
    let mut tail = subject.log().tail(seq(1));
    follow(&mut tail, seq(1), seq(1)).await;
    for number in 0..600 {
        subject.append_new(record(&number.to_string())).await;
    }
    let large = vec![record(&"x".repeat(300_000)); 3];
    subject.log().append(large).await.expect("an append to a sound store succeeds");
    follow(&mut tail, seq(2), seq(604)).await;
}

/// A tail that stands before the new beginning is told so, and ends; one that stands after it goes on.
pub async fn a_trim_overtakes_a_slow_tail(subject: Subject) {
    subject.fill(600).await;
    let mut slow = subject.log().tail(seq(1));
    let mut fast = subject.log().tail(seq(1));
    follow(&mut fast, seq(1), seq(600)).await;
    // Enough for the feed to have lost the slow one.
    for number in 0..600 {
        subject.append_new(record(&number.to_string())).await;
    }
    let first = subject.log().trim(seq(1_201)).await.expect("trimming succeeds");
    subject.append_new(record("after")).await;
    let mut next = seq(1);
    loop {
        match soon("the next item of a slow tail", slow.next()).await.expect("a tail ends with a reason") {
            Ok(records) => {
                for record in records.iter() {
                    assert_eq!(record.seq, next, "a tail has no gap and no repeat");
                    next = next.next();
                }
                if next > seq(1_201) {
                    // This engine had them all in flight already, or keeps more than asked.
                    return;
                }
            }
            Err(error) => {
                assert_eq!(error, ReadError::Trimmed { first });
                break;
            }
        }
    }
    assert!(slow.next().await.is_none(), "a tail ends after an error");
}

/// A tail from beyond the next record is refused.
pub async fn a_tail_ahead_of_the_log_ends(subject: Subject) {
    subject.fill(3).await;
    let mut tail = subject.log().tail(seq(5));
    let item = soon("the refusal", tail.next()).await;
    assert_eq!(item, Some(Err(ReadError::AheadOfLog { tail: Cursor::new(3) })));
    assert!(tail.next().await.is_none(), "a tail ends after an error");
}

/// A tail from the next record waits for it, in a new log too.
pub async fn a_tail_begins_at_the_next_record(subject: Subject) {
    let mut tail = subject.log().tail(seq(1));
    let (records, _) = tokio::join!(tail.next(), subject.append_new(record("first")));
    let records = records.expect("a tail does not end").expect("a tail does not fail");
    assert_eq!(records[0].body, "first");
}

/// After a close everything is refused as not done, and streams end.
pub async fn a_closed_store_refuses_and_ends_its_streams(subject: Subject) {
    subject.fill(2).await;
    let mut tail = subject.log().tail(seq(3));
    let mut watch = subject.store.kv().watch(&Key::from(""));
    soon("the snapshot", watch.next()).await;
    soon("closing", subject.store.close()).await;
    assert!(soon("the tail's end", tail.next()).await.is_none());
    assert!(soon("the watch's end", watch.next()).await.is_none());
    let refused = subject.log().append(vec![record("late")]).await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
    assert!(subject.log().state().await.is_err());
    soon("closing twice", subject.store.close()).await;
}
