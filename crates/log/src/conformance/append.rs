//! Records get numbers without a gap, and what was answered is durable.

use std::collections::BTreeSet;
use std::sync::Arc;

use batoff_types::Cursor;

use super::subject::{Subject, key, record, seq, soon, task_record};
use crate::error::StoreError;
use crate::purge_log::{Appended, BATCH_RECORDS_MAX, READ_RECORDS_MAX, RECORD_BYTES_MAX};

const APPENDERS: u64 = 64;
const APPENDS_EACH: u64 = 20;

/// 64 appenders at once get 1, 2, 3, … between them, each its own in rising order.
pub async fn numbers_are_contiguous_under_64_appenders(subject: Subject) {
    let subject = Arc::new(subject);
    let appenders: Vec<_> = (0..APPENDERS)
        .map(|appender| {
            let subject = Arc::clone(&subject);
            tokio::spawn(async move {
                let mut mine = Vec::new();
                for number in 0..APPENDS_EACH {
                    mine.push(subject.append_new(record(&format!("{appender}/{number}"))).await);
                }
                assert!(mine.is_sorted(), "a later append gets a larger number");
                mine
            })
        })
        .collect();
    let mut all = BTreeSet::new();
    for appender in appenders {
        all.extend(appender.await.expect("no appender panics"));
    }
    let total = APPENDERS * APPENDS_EACH;
    assert_eq!(all.len() as u64, total, "no number is given twice");
    assert_eq!(all.first().map(|seq| seq.get()), Some(1));
    assert_eq!(all.last().map(|seq| seq.get()), Some(total));
    let read = subject.log().read(seq(1), READ_RECORDS_MAX, usize::MAX).await.expect("the log can be read");
    assert!(read.iter().zip(1..).all(|(record, number)| record.seq.get() == number));
    assert_eq!(read.len() as u64, total);
}

/// Between the new records of a batch there is no other, however many append at once.
pub async fn a_batch_is_contiguous(subject: Subject) {
    let subject = Arc::new(subject);
    let appenders: Vec<_> = (0..16)
        .map(|_| {
            let subject = Arc::clone(&subject);
            tokio::spawn(async move {
                let batch = (0..7).map(|number| record(&number.to_string())).collect();
                subject.log().append(batch).await.expect("an append to a sound store succeeds")
            })
        })
        .collect();
    for appender in appenders {
        let answers = appender.await.expect("no appender panics");
        let numbers: Vec<u64> = answers
            .iter()
            .map(|answer| match answer {
                Appended::New { seq } => seq.get(),
                other => panic!("expected a new record, got {other:?}"),
            })
            .collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "contiguous: {numbers:?}");
    }
}

/// A batch with a record that cannot be taken leaves no record, no task and no key behind.
pub async fn a_refused_batch_leaves_nothing(subject: Subject) {
    let now = subject.clock.now();
    let mut good = task_record("good", "shop", 1);
    good.dedupe = vec![key(1, 1, now)];
    let mut oversized = record("");
    oversized.body = vec![0; RECORD_BYTES_MAX + 1].into();
    let refused = subject.log().append(vec![good.clone(), oversized]).await;
    assert_eq!(refused, Err(StoreError::TooLarge { limit: RECORD_BYTES_MAX }));
    let mut keyless_task = record("keys without a task");
    keyless_task.dedupe = vec![key(2, 2, now)];
    let refused = subject.log().append(vec![good.clone(), keyless_task]).await;
    assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
    let too_many = vec![record("x"); BATCH_RECORDS_MAX + 1];
    assert!(matches!(subject.log().append(too_many).await, Err(StoreError::Invalid(_))));

    let state = subject.log().state().await.expect("the state can be read");
    assert_eq!(state.tail, Cursor::START);
    assert_eq!(subject.append_new(good).await, seq(1));
}

/// No records, no number used.
pub async fn an_empty_batch_writes_nothing(subject: Subject) {
    assert_eq!(subject.log().append(Vec::new()).await, Ok(Vec::new()));
    assert_eq!(subject.append_new(record("first")).await, seq(1));
}

/// An append that was dropped half-way may or may not be there; repeated with the same keys it is there once.
pub async fn a_cancelled_append_can_be_repeated(subject: Subject) {
    let now = subject.clock.now();
    for round in 0..40u8 {
        let mut record = task_record(&round.to_string(), "shop", u64::from(round) + 1);
        record.dedupe = vec![key(round, 1, now)];
        {
            let append = subject.log().append(vec![record.clone()]);
            tokio::pin!(append);
            tokio::select! {
                biased;
                _ = &mut append => {}
                () = yield_times(round) => {}
            }
        }
        match subject.append_one(record).await {
            Appended::New { .. } | Appended::Duplicate { .. } => {}
            Appended::Conflict => panic!("the same request is no conflict"),
        }
    }
    let records = subject.log().read(seq(1), 1_000, usize::MAX).await.expect("the log can be read");
    let mut bodies: Vec<_> = records.iter().map(|record| record.body.clone()).collect();
    bodies.sort();
    bodies.dedup();
    assert_eq!((records.len(), bodies.len()), (40, 40), "each once");
}

async fn yield_times(times: u8) {
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}

/// Whoever has an answer, or hears of it from someone who has, finds it in the state and can read the record.
pub async fn the_state_includes_every_answered_append(subject: Subject) {
    let subject = Arc::new(subject);
    let appenders: Vec<_> = (0..8)
        .map(|_| {
            let subject = Arc::clone(&subject);
            tokio::spawn(async move {
                for _ in 0..25 {
                    let appended = subject.append_new(record("x")).await;
                    let state = subject.log().state().await.expect("the state can be read");
                    assert!(state.tail.covers(appended), "{appended} is in {state:?}");
                    let page = subject.log().read(appended, 1, 1).await.expect("the log can be read");
                    assert_eq!(page.first().map(|record| record.seq), Some(appended));
                }
            })
        })
        .collect();
    for appender in appenders {
        soon("an append", appender).await.expect("no appender panics");
    }
}
