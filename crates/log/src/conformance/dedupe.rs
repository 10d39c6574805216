//! Which repeat of a request is one.

use std::sync::Arc;

use batoff_types::UnixMillis;

use super::subject::{Subject, key, seq, task_id, task_record};
use crate::purge_log::{Appended, Dedupe, NewRecord};

fn keyed(task: u64, dedupe: Vec<Dedupe>) -> NewRecord {
    NewRecord { dedupe, ..task_record("purge", "shop", task) }
}

/// A repeat is not written; it is answered with what became of the first.
pub async fn a_repeat_gets_the_first_ones_place_and_task(subject: Subject) {
    let key = key(1, 1, subject.clock.now());
    assert_eq!(subject.append_new(keyed(1, vec![key.clone()])).await, seq(1));
    let repeat = subject.append_one(keyed(2, vec![key])).await;
    assert_eq!(repeat, Appended::Duplicate { seq: seq(1), task: task_id(1) });
    assert_eq!(subject.log().find_task(task_id(2)).await, Ok(None));
    let state = subject.log().state().await.expect("the state can be read");
    assert_eq!(state.tail.get(), 1);
}

/// Within `fresh_for_ms` after the first a repeat is a purge of its own; later ones are repeats of the first.
pub async fn a_repeat_while_the_first_is_fresh_is_new(subject: Subject) {
    let key = Dedupe { fresh_for_ms: 2_000, ..key(1, 1, subject.clock.now()) };
    assert_eq!(subject.append_new(keyed(1, vec![key.clone()])).await, seq(1));
    subject.clock.advance_ms(1_999);
    assert_eq!(subject.append_new(keyed(2, vec![key.clone()])).await, seq(2));
    subject.clock.advance_ms(1);
    let repeat = subject.append_one(keyed(3, vec![key])).await;
    assert_eq!(repeat, Appended::Duplicate { seq: seq(1), task: task_id(1) });
}

/// The same key with another body is told, and written neither then nor later.
pub async fn another_body_under_the_same_key_is_a_conflict(subject: Subject) {
    let now = subject.clock.now();
    subject.append_new(keyed(1, vec![key(1, 1, now)])).await;
    assert_eq!(subject.append_one(keyed(2, vec![key(1, 2, now)])).await, Appended::Conflict);
    let repeat = subject.append_one(keyed(3, vec![key(1, 1, now)])).await;
    assert_eq!(repeat, Appended::Duplicate { seq: seq(1), task: task_id(1) });
}

/// Of several keys, in whatever order, one conflict decides; then one duplicate.
pub async fn any_conflict_wins_over_any_duplicate(subject: Subject) {
    let now = subject.clock.now();
    let (signature, idempotency) = (key(1, 1, now), key(2, 2, now));
    subject.append_new(keyed(1, vec![signature.clone()])).await;
    subject.append_new(keyed(2, vec![idempotency])).await;
    let conflicting = key(2, 9, now);
    let absent = key(3, 3, now);
    for keys in [
        vec![signature.clone(), conflicting.clone(), absent.clone()],
        vec![absent.clone(), conflicting, signature.clone()],
    ] {
        assert_eq!(subject.append_one(keyed(3, keys)).await, Appended::Conflict);
    }
    let repeat = subject.append_one(keyed(3, vec![absent.clone(), signature])).await;
    assert_eq!(repeat, Appended::Duplicate { seq: seq(1), task: task_id(1) });
    // Neither answer has stored the key that was absent.
    assert_eq!(subject.append_new(keyed(4, vec![absent])).await, seq(3));
}

/// The second of two equal requests in one batch is a duplicate of the first.
pub async fn repeats_inside_one_batch_are_recognised(subject: Subject) {
    let now = subject.clock.now();
    let batch = vec![
        keyed(1, vec![key(1, 1, now)]),
        keyed(2, vec![key(1, 1, now)]),
        keyed(3, vec![key(1, 2, now)]),
        keyed(4, vec![key(2, 1, now)]),
    ];
    let answers = subject.log().append(batch).await.expect("an append to a sound store succeeds");
    assert_eq!(
        answers,
        [
            Appended::New { seq: seq(1) },
            Appended::Duplicate { seq: seq(1), task: task_id(1) },
            Appended::Conflict,
            Appended::New { seq: seq(2) },
        ]
    );
}

/// Of equal requests that arrive at once, one is new.
pub async fn concurrent_repeats_are_recognised(subject: Subject) {
    let now = subject.clock.now();
    let subject = Arc::new(subject);
    let appenders: Vec<_> = (1..=32)
        .map(|task| {
            let subject = Arc::clone(&subject);
            tokio::spawn(async move { subject.append_one(keyed(task, vec![key(1, 1, now)])).await })
        })
        .collect();
    let mut news = 0;
    for appender in appenders {
        match appender.await.expect("no appender panics") {
            Appended::New { .. } => news += 1,
            Appended::Duplicate { seq: first, .. } => assert_eq!(first, seq(1)),
            Appended::Conflict => panic!("the same request is no conflict"),
        }
    }
    assert_eq!(news, 1);
}

/// A look-up says what an append would be answered, and leaves everything as it is.
pub async fn a_repeat_is_recognised_without_an_append(subject: Subject) {
    let now = subject.clock.now();
    let signature = Dedupe { fresh_for_ms: 2_000, ..key(1, 1, now) };
    let (idempotency, absent) = (key(2, 1, now), key(3, 1, now));
    let recognise = async |keys: &[Dedupe]| {
        subject.log().recognise(keys.to_vec()).await.expect("a sound store looks keys up")
    };
    assert_eq!(recognise(&[signature.clone(), idempotency.clone()]).await, None);
    // It has stored none of them.
    assert_eq!(subject.append_new(keyed(1, vec![signature.clone(), idempotency.clone()])).await, seq(1));
    let first = Some(Appended::Duplicate { seq: seq(1), task: task_id(1) });
    assert_eq!(recognise(&[absent.clone(), idempotency.clone()]).await, first);
    assert_eq!(recognise(std::slice::from_ref(&signature)).await, None, "the first is fresh");
    subject.clock.advance_ms(2_000);
    assert_eq!(recognise(std::slice::from_ref(&signature)).await, first);
    assert_eq!(recognise(&[signature, key(2, 2, now)]).await, Some(Appended::Conflict));
    assert_eq!(recognise(&[absent]).await, None);
    assert_eq!(recognise(&[]).await, None);
    let state = subject.log().state().await.expect("the state can be read");
    assert_eq!(state.tail.get(), 1);
    subject.clock.advance_ms(600_000);
    assert_eq!(recognise(&[idempotency]).await, None, "it has expired");
}

/// From `expires_at` on the key is as if it had never been seen, also for another body; and is remembered anew.
pub async fn a_key_can_be_used_again_once_it_has_expired(subject: Subject) {
    let begin = subject.clock.now();
    subject.append_new(keyed(1, vec![key(1, 1, begin)])).await;
    subject.clock.advance_ms(599_999);
    let repeat = subject.append_one(keyed(2, vec![key(1, 1, begin)])).await;
    assert!(matches!(repeat, Appended::Duplicate { .. }), "{repeat:?}");
    subject.clock.advance_ms(1);
    let again = key(1, 2, subject.clock.now());
    assert_eq!(subject.append_new(keyed(3, vec![again.clone()])).await, seq(2));
    let repeat = subject.append_one(keyed(4, vec![again])).await;
    assert_eq!(repeat, Appended::Duplicate { seq: seq(2), task: task_id(3) });
    // Forgetting what has expired leaves what has not.
    subject.log().forget_tasks(UnixMillis(0)).await.expect("forgetting succeeds");
    let repeat = subject.append_one(keyed(5, vec![key(1, 2, begin)])).await;
    assert_eq!(repeat, Appended::Duplicate { seq: seq(2), task: task_id(3) });
}

/// A new record stores the keys that were absent, and leaves those that were there to their first.
pub async fn keys_that_were_absent_are_stored_with_a_new_record(subject: Subject) {
    let now = subject.clock.now();
    let fresh = Dedupe { fresh_for_ms: 2_000, ..key(1, 1, now) };
    subject.append_new(keyed(1, vec![fresh.clone()])).await;
    let second = subject.append_new(keyed(2, vec![fresh.clone(), key(2, 2, now)])).await;
    let repeat = subject.append_one(keyed(3, vec![key(2, 2, now)])).await;
    assert_eq!(repeat, Appended::Duplicate { seq: second, task: task_id(2) });
    subject.clock.advance_ms(2_000);
    let repeat = subject.append_one(keyed(4, vec![fresh])).await;
    assert_eq!(repeat, Appended::Duplicate { seq: seq(1), task: task_id(1) });
}
