use batoff_types::{Cursor, UnixMillis};

use super::subject::{Subject, record, seq};
use crate::error::ReadError;
use crate::purge_log::NewRecord;

/// Pages hold as many records and bytes as asked for, at least one record, and what was written.
pub async fn pages_respect_their_bounds(subject: Subject) {
    subject.fill(100).await;
    let log = subject.log();
    let page = log.read(seq(1), 10, usize::MAX).await.expect("the log can be read");
    assert_eq!(page.iter().map(|record| record.seq.get()).collect::<Vec<_>>(), (1..=10).collect::<Vec<_>>());
    assert_eq!(page[3].body, "3");
    assert_eq!(page[3].accepted_at, UnixMillis(1_000));
    // Records 11 to 13 have bodies of two bytes.
    assert_eq!(log.read(seq(11), 10, 5).await.map(|page| page.len()), Ok(2));
    assert_eq!(log.read(seq(11), 10, 0).await.map(|page| page.len()), Ok(1));
    assert_eq!(log.read(seq(11), 0, 100).await.map(|page| page.len()), Ok(1));
    assert_eq!(log.read(seq(95), 10, usize::MAX).await.map(|page| page.len()), Ok(6));
}

/// The next record to be written gives an empty page; what lies beyond it is an error.
pub async fn a_position_ahead_of_the_log_is_told(subject: Subject) {
    let log = subject.log();
    assert_eq!(log.read(seq(1), 10, 100).await, Ok(Vec::new()));
    assert_eq!(log.read(seq(2), 10, 100).await, Err(ReadError::AheadOfLog { tail: Cursor::START }));
    subject.fill(3).await;
    assert_eq!(log.read(seq(4), 10, 100).await, Ok(Vec::new()));
    assert_eq!(log.read(seq(5), 10, 100).await, Err(ReadError::AheadOfLog { tail: Cursor::new(3) }));
}

/// Trimming never goes back, may be repeated, and ends at the tail.
pub async fn trimming_is_monotone_and_bounded_by_the_tail(subject: Subject) {
    subject.fill(50).await;
    let log = subject.log();
    let first = log.trim(seq(20)).await.expect("trimming succeeds");
    assert!(first <= seq(20), "keeps at least what was asked to keep");
    assert_eq!(log.state().await.map(|state| state.first), Ok(first));
    assert_eq!(log.trim(seq(5)).await, Ok(first));
    if first > seq(1) {
        assert_eq!(log.read(seq(1), 1, 1).await, Err(ReadError::Trimmed { first }));
    }
    assert_eq!(log.read(first, 1, 1).await.map(|page| page[0].seq), Ok(first));
    let first = log.trim(seq(1_000)).await.expect("trimming succeeds");
    assert!(first <= seq(51), "nothing that was not written is trimmed");
    assert_eq!(log.state().await.map(|state| state.tail), Ok(Cursor::new(50)));
}

/// A log that was trimmed to nothing keeps its place.
pub async fn an_empty_log_goes_on_where_it_was_trimmed(subject: Subject) {
    subject.fill(7).await;
    let log = subject.log();
    log.trim(seq(8)).await.expect("trimming succeeds");
    assert_eq!(log.read(seq(8), 1, 1).await, Ok(Vec::new()));
    assert_eq!(subject.append_new(record("next")).await, seq(8));
    assert_eq!(log.read(seq(8), 1, 1).await.map(|page| page.len()), Ok(1));
}

/// The first record with a time of at least the one asked for, although times need not be in order.
pub async fn the_first_record_since_a_time_is_found(subject: Subject) {
    let log = subject.log();
    assert_eq!(log.find_by_time(UnixMillis(0)).await, Ok(seq(1)));
    let times = [100, 300, 200, 300, 500, 400, 600];
    let batch = times.map(|time| NewRecord { accepted_at: UnixMillis(time), ..record("x") });
    log.append(batch.to_vec()).await.expect("an append to a sound store succeeds");
    for at in [0, 100, 101, 200, 299, 300, 301, 450, 500, 501, 600, 601] {
        let expected = times.iter().position(|time| *time >= at).unwrap_or(times.len());
        assert_eq!(log.find_by_time(UnixMillis(at)).await, Ok(seq(expected as u64 + 1)), "at {at}");
    }
    let first = log.trim(seq(4)).await.expect("trimming succeeds");
    assert_eq!(log.find_by_time(UnixMillis(0)).await, Ok(first));
}
