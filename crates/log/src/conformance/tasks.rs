//! Tasks: found, listed, completed and forgotten.

use batoff_types::{SiteId, TaskId, UnixMillis};
use bytes::Bytes;
use futures_util::future::join_all;

use super::subject::{Subject, seq, site, task_id, task_record};
use crate::purge_log::{CompletionChange, NewRecord};

async fn list(subject: &Subject, site: &SiteId, before: Option<TaskId>, limit: usize) -> Vec<TaskId> {
    let rows = subject.log().list_tasks(site, before, limit).await.expect("tasks can be listed");
    assert!(rows.windows(2).all(|pair| pair[0].seq > pair[1].seq), "newest first");
    assert!(rows.iter().all(|row| row.site == *site), "of the site that was asked for");
    rows.iter().map(|row| row.task).collect()
}

/// Each site's tasks, newest first; a page continues strictly before the last of the page before it.
pub async fn tasks_are_listed_newest_first_in_pages(subject: Subject) {
    // Names that are prefixes of one another must not mix.
    for number in 0..25 {
        subject.append_new(task_record("a", "shop", 1_000 - number)).await;
        subject.append_new(task_record("b", "shop-2", 2_000 + number)).await;
    }
    let shop = site("shop");
    let all = list(&subject, &shop, None, 100).await;
    let expected: Vec<_> = (0..25).rev().map(|number| task_id(1_000 - number)).collect();
    assert_eq!(all, expected);

    let mut paged = Vec::new();
    let mut before = None;
    loop {
        let page = list(&subject, &shop, before, 7).await;
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 7);
        before = Some(*last);
        paged.extend(page);
    }
    assert_eq!(paged, expected);
    assert_eq!(list(&subject, &site("unknown"), None, 7).await, []);
    assert_eq!(list(&subject, &shop, Some(task_id(77)), 7).await, []);
    assert_eq!(list(&subject, &shop, None, 0).await, []);
}

/// What became of a task stands in its row; the last one counts; unknown tasks are passed over.
pub async fn completions_are_found_with_their_tasks(subject: Subject) {
    subject.append_new(task_record("a", "shop", 1)).await;
    subject.append_new(task_record("b", "shop", 2)).await;
    let row = subject.log().find_task(task_id(1)).await.expect("a task can be found").expect("it is there");
    assert_eq!((row.seq, row.completion.clone()), (seq(1), None));
    assert_eq!((row.meta, row.accepted_at), (Bytes::from("meta of a"), UnixMillis(1_000)));

    let rows = vec![
        (task_id(1), Bytes::from("early")),
        (task_id(9), Bytes::from("?")),
        (task_id(1), Bytes::from("late")),
    ];
    subject.log().put_completions(rows).await.expect("completions can be written");
    let row = subject.log().find_task(task_id(1)).await.expect("a task can be found").expect("it is there");
    assert_eq!(row.completion, Some(Bytes::from("late")));
    assert_eq!(subject.log().find_task(task_id(9)).await, Ok(None));
    let rows = subject.log().list_tasks(&site("shop"), None, 10).await.expect("tasks can be listed");
    assert_eq!(
        rows.iter().map(|row| row.completion.clone()).collect::<Vec<_>>(),
        [None, Some(Bytes::from("late"))]
    );
    assert_eq!(subject.log().put_completions(Vec::new()).await, Ok(()));
}

/// Of several that write what became of a task the first does, and the others are told that they did not.
pub async fn a_completion_is_changed_only_by_who_knows_what_it_says(subject: Subject) {
    subject.append_new(task_record("a", "shop", 1)).await;
    subject.append_new(task_record("b", "shop", 2)).await;
    let change = |task, before: Option<&'static str>, after: &'static str| CompletionChange {
        task: task_id(task),
        before: before.map(Bytes::from),
        after: Bytes::from(after),
    };
    let written =
        async |changes| subject.log().change_completions(changes).await.expect("rows can be changed");
    assert_eq!(written(vec![change(1, None, "one"), change(9, None, "?")]).await, [true, false]);
    // In one request, too.
    let second = vec![change(1, None, "two"), change(2, None, "first"), change(2, None, "second")];
    assert_eq!(written(second).await, [false, true, false]);
    assert_eq!(
        written(vec![change(2, Some("second"), "?"), change(2, Some("first"), "third")]).await,
        [false, true]
    );
    subject.log().put_completions(vec![(task_id(1), Bytes::from("put"))]).await.expect("it can be written");
    assert_eq!(written(vec![change(1, Some("one"), "late")]).await, [false]);
    let at_once = (0..8).map(|_| written(vec![change(1, Some("put"), "last")]));
    let winners = join_all(at_once).await.into_iter().filter(|written| written[0]).count();
    assert_eq!(winners, 1, "one of those that write at once");
    for (task, says) in [(1, "last"), (2, "third")] {
        let row = subject.log().find_task(task_id(task)).await.expect("a task can be found");
        assert_eq!(row.and_then(|row| row.completion), Some(Bytes::from(says)), "{task}");
    }
    assert_eq!(subject.log().find_task(task_id(9)).await, Ok(None));
    assert_eq!(written(Vec::new()).await, Vec::<bool>::new());
}

/// Trimming leaves tasks; forgetting removes those that are older than asked, and counts them.
pub async fn tasks_outlive_trimming_until_they_are_forgotten(subject: Subject) {
    for number in 1..=10 {
        let accepted_at = UnixMillis(number * 1_000);
        subject.append_new(NewRecord { accepted_at, ..task_record("x", "shop", number) }).await;
    }
    subject.log().put_completions(vec![(task_id(4), Bytes::from("done"))]).await.expect("it can be written");
    subject.log().trim(seq(11)).await.expect("trimming succeeds");
    assert_eq!(list(&subject, &site("shop"), None, 100).await.len(), 10);

    assert_eq!(subject.log().forget_tasks(UnixMillis(5_000)).await, Ok(4));
    assert_eq!(subject.log().forget_tasks(UnixMillis(5_000)).await, Ok(0));
    assert_eq!(subject.log().find_task(task_id(4)).await, Ok(None));
    let left: Vec<_> = (5..=10).rev().map(task_id).collect();
    assert_eq!(list(&subject, &site("shop"), None, 100).await, left);
}

/// A task that is appended again keeps its first place.
pub async fn the_first_record_of_a_task_keeps_it(subject: Subject) {
    subject.append_new(task_record("first", "shop", 1)).await;
    assert_eq!(subject.append_new(task_record("second", "other", 1)).await, seq(2));
    let row = subject.log().find_task(task_id(1)).await.expect("a task can be found").expect("it is there");
    assert_eq!((row.seq, row.site), (seq(1), site("shop")));
    assert_eq!(list(&subject, &site("other"), None, 10).await, []);
}
