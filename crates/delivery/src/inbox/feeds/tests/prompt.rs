//! Which streams bring records at once, and that nothing depends on it.

use super::*;
use crate::{Outbox, OutboxLimits, PromptFeeds, RecentTails, Resume};

const ALL: [FeedLine; 3] = [A, B, C];

fn node(name: &str, prompt_feeds: PromptFeeds) -> Feeds {
    let mut config = InboxConfig::new(name.parse().unwrap(), LeasePolicy::Revalidate);
    config.set = set(&[1, 2, 3]);
    config.prompt_feeds = prompt_feeds;
    let terms = [1, 2, 3].map(|replica| (Replica(replica), Term(1)));
    let mut feeds = Feeds::new(config, InstanceId::from_bytes([1; 16]), position(4), terms);
    ALL.into_iter().for_each(|line| welcomed(&mut feeds, line));
    feeds
}

fn welcomed(feeds: &mut Feeds, line: FeedLine) {
    feeds.hello(line);
    feeds.handle(at(1_000), line, welcome(LOG, 4)).unwrap();
}

/// Whatever heartbeats are due go to these, and are answered after so many milliseconds by somebody who has read the log
/// through `tail`.
fn beat(feeds: &mut Feeds, now: u64, lines: &[(FeedLine, u64)], tail: u64) {
    for (line, took) in lines {
        let Some(sent) = feeds.poll_heartbeat(at(now), line.replica) else { continue };
        let grant = LeaseGrant {
            echo: sent.sent_at,
            duration: Duration::from_secs(1),
            term: Term(1),
            parents_through: None,
            tail: Some(Cursor::new(tail)),
        };
        feeds.handle(at(now + took), *line, ToNode::LeaseGrant(grant)).unwrap();
    }
}

fn near(lines: &[FeedLine]) -> Vec<(FeedLine, u64)> {
    lines.iter().map(|line| (*line, 5)).collect()
}

/// Who is to bring records at once, and who is to fill in.
fn chosen(feeds: &mut Feeds, now: u64) -> (Vec<FeedLine>, Vec<FeedLine>) {
    feeds.choose_prompt(at(now));
    ALL.into_iter().partition(|line| !feeds.fills_in(line.replica))
}

/// A node that follows all three, with the two that it has chosen and the third.
fn following() -> (Feeds, [FeedLine; 2], FeedLine) {
    let mut feeds = node("fra1/edge-1", PromptFeeds::default());
    beat(&mut feeds, 1_000, &near(&ALL), 4);
    beat(&mut feeds, 1_250, &near(&ALL), 4);
    let (prompt, rest) = chosen(&mut feeds, 1_300);
    (feeds, prompt.try_into().unwrap(), rest[0])
}

#[test]
fn two_streams_bring_records_at_once_and_the_third_is_told_to_fill_in() {
    let (mut feeds, prompt, rest) = following();
    assert!(feeds.next_heartbeat_of(rest.replica).unwrap() <= at(1_300) || feeds.fills_in(rest.replica));
    for line in prompt {
        assert_eq!(feeds.poll_heartbeat(at(1_600), line.replica).unwrap().fill_in_after, None);
    }
    let told = feeds.poll_heartbeat(at(1_600), rest.replica).unwrap().fill_in_after;
    assert_eq!(told, Some(Duration::from_millis(155)), "beside a round trip of 5 ms");
}

#[test]
fn as_many_are_chosen_as_the_configuration_says() {
    for (setting, expected) in [("1", 1), ("2", 2), ("3", 3), ("9", 3), ("all", 3)] {
        let mut feeds = node("fra1/edge-1", setting.parse().unwrap());
        beat(&mut feeds, 1_000, &near(&ALL), 4);
        assert_eq!(chosen(&mut feeds, 1_300).0.len(), expected, "{setting}");
    }
    for wrong in ["0", "256", "some", ""] {
        assert!(wrong.parse::<PromptFeeds>().is_err(), "{wrong}");
    }
}

#[test]
fn not_all_nodes_choose_the_same_two() {
    let mut fills_in = [0; 3];
    for number in 0..300 {
        let mut feeds = node(&format!("fra1/edge-{number}"), PromptFeeds::default());
        beat(&mut feeds, 1_000, &near(&ALL), 4);
        let (_, rest) = chosen(&mut feeds, 1_300);
        fills_in[usize::from(rest[0].replica.0) - 1] += 1;
    }
    assert!(fills_in.iter().all(|nodes| *nodes > 60), "{fills_in:?}");
}

#[test]
fn a_stream_that_ends_is_replaced_at_once_and_a_new_one_takes_its_turn_only_when_it_follows() {
    let (mut feeds, [gone, stays], rest) = following();
    feeds.handle_disconnected(gone);
    let told = feeds.poll_heartbeat(at(1_310), rest.replica);
    assert!(told.is_none_or(|told| told.fill_in_after.is_none()));
    let told = feeds.poll_heartbeat(at(1_310), rest.replica);
    assert!(told.is_none() && !feeds.fills_in(rest.replica), "it is told before its next heartbeat is due");
    let again = line(gone.replica.0, 2);
    feeds.hello(again);
    feeds.handle(at(1_400), again, welcome(LOG, 4)).unwrap();
    let hello = feeds.poll_heartbeat(at(1_400), again.replica).unwrap();
    assert!(hello.fill_in_after.is_some(), "two others are there");
    assert!(!feeds.fills_in(stays.replica));
}

#[test]
fn one_that_does_not_answer_is_replaced_and_is_not_chosen_again_for_a_while() {
    let (mut feeds, [frozen, stays], rest) = following();
    let others = near(&[stays, rest]);
    for now in (1_500..2_100).step_by(250) {
        feeds.poll_heartbeat(at(now), frozen.replica);
        beat(&mut feeds, now, &others, 4);
    }
    assert_eq!(chosen(&mut feeds, 2_100).1, [frozen]);
    beat(&mut feeds, 2_250, &near(&ALL), 4);
    assert_eq!(chosen(&mut feeds, 2_300).1, [frozen], "it may do so again");
    for now in (2_500..13_000).step_by(250) {
        beat(&mut feeds, now, &near(&ALL), 4);
    }
    assert_eq!(chosen(&mut feeds, 13_000).1, [rest], "the node's own order");
}

/// With all three, too, there is nobody better than the two that were chosen first.
#[test]
fn a_node_that_stood_still_itself_holds_nothing_against_anybody() {
    let (mut feeds, prompt, _) = following();
    feeds.poll_heartbeat(at(1_600), prompt[0].replica);
    assert_eq!(chosen(&mut feeds, 9_000).0, {
        let mut sorted = prompt;
        sorted.sort_by_key(|line| line.replica);
        sorted
    });
}

#[test]
fn what_both_chosen_ones_fail_to_bring_the_third_fills_in_and_takes_the_place_of_one() {
    let (mut feeds, [one, other], rest) = following();
    // What they follow of the log stands still, and they answer all the same.
    feeds.poll_heartbeat(at(1_400), rest.replica);
    feeds.handle(at(1_600), rest, records(5..=6)).unwrap();
    assert_eq!(apply(&mut feeds), [5, 6]);
    let told = feeds.arrivals(rest.replica);
    assert_eq!((told.first, told.filled_in), (2, 2));
    for now in (1_500..2_400).step_by(250) {
        beat(&mut feeds, now, &near(&[one, other]), 4);
        beat(&mut feeds, now, &near(&[rest]), 6);
    }
    assert!(!feeds.fills_in(rest.replica));
    assert!(feeds.fills_in(one.replica) != feeds.fills_in(other.replica));
    // One at once is not one that fills in.
    feeds.handle(at(2_450), rest, records(7..=7)).unwrap();
    let told = feeds.arrivals(rest.replica);
    assert_eq!((told.first, told.filled_in), (3, 2));
}

/// It need not send what the node has confirmed; its grants say that it knows of it.
#[test]
fn one_that_is_always_second_is_not_late() {
    let (mut feeds, [first, second], rest) = following();
    for record in 0..20 {
        let now = 1_500 + 250 * record;
        feeds.handle(at(now), first, records(5 + record..=5 + record)).unwrap();
        apply(&mut feeds);
        beat(&mut feeds, now, &near(&ALL), 5 + record);
    }
    assert_eq!(chosen(&mut feeds, 6_300).1, [rest]);
    assert_eq!(feeds.arrivals(second.replica).first, 0);
}

#[test]
fn one_that_is_far_away_is_chosen_only_when_there_is_no_nearer_one() {
    for far in ALL {
        let mut feeds = node("fra1/edge-1", PromptFeeds::default());
        let lines = ALL.map(|line| (line, if line == far { 120 } else { 5 }));
        for now in (1_000..3_000).step_by(250) {
            beat(&mut feeds, now, &lines, 4);
        }
        assert_eq!(chosen(&mut feeds, 3_100).1, [far]);
        let near = ALL.into_iter().find(|line| *line != far).unwrap();
        feeds.handle_disconnected(near);
        feeds.choose_prompt(at(3_110));
        assert!(!feeds.fills_in(far.replica));
    }
}

#[test]
fn a_replica_that_does_not_count_yet_brings_records_at_once_only_where_others_are_missing() {
    let mut feeds = node("fra1/edge-1", PromptFeeds::default());
    beat(&mut feeds, 1_000, &near(&ALL), 4);
    let learner = line(4, 1);
    welcomed(&mut feeds, learner);
    feeds.handle_term_durable(learner.replica, Term(1));
    beat(&mut feeds, 1_250, &near(&[A, B, C, learner]), 4);
    feeds.choose_prompt(at(1_300));
    assert!(feeds.fills_in(learner.replica));
    feeds.handle_disconnected(A);
    feeds.handle_disconnected(B);
    feeds.choose_prompt(at(1_310));
    assert!(!feeds.fills_in(learner.replica) && !feeds.fills_in(C.replica));
}

/// One replica's end of the stream to that node.
fn outbox(cursor: u64) -> Outbox {
    Outbox::new(&Resume::At(Cursor::new(cursor)), OutboxLimits::default())
}

/// What it sends at that time, of a log through there.
fn sends(outbox: &mut Outbox, now: u64, tails: &RecentTails, tail: u64) -> Option<ToNode> {
    let due = outbox.poll_range(outbox.reach(at(now), tails, Cursor::new(tail)))?;
    outbox.handle_sent(due.last);
    Some(records(due.first.get()..=due.last.get()))
}

/// The node had 5 and 6, had confirmed 5, and begins again at 4, where it stored its place last.
#[test]
fn a_node_that_starts_again_is_brought_what_it_had_by_a_stream_that_fills_in_too() {
    let mut tails = RecentTails::new(Cursor::new(4));
    tails.handle_tail(at(900), Cursor::new(6));
    let (mut feeds, _, rest) = following();
    let told = feeds.poll_heartbeat(at(1_600), rest.replica).unwrap();
    let mut outbox = outbox(4);
    outbox.handle_pace(told.fill_in_after);
    let sent = sends(&mut outbox, 1_600, &tails, 6).unwrap();
    feeds.handle(at(1_605), rest, sent).unwrap();
    assert_eq!(apply(&mut feeds), [5, 6]);
}

/// One brought 5 and 6 and went, the other 5 only; the node had confirmed 5.
#[test]
fn a_gap_that_a_stream_left_is_filled_by_one_that_goes_on_from_what_is_confirmed() {
    let mut tails = RecentTails::new(Cursor::new(4));
    let (mut feeds, [one, other], rest) = following();
    let (mut of_rest, mut of_other) = (outbox(4), outbox(4));
    of_rest.handle_pace(Some(Duration::from_millis(150)));
    tails.handle_tail(at(1_400), Cursor::new(5));
    feeds.handle(at(1_401), one, records(5..=5)).unwrap();
    feeds.handle(at(1_401), other, sends(&mut of_other, 1_401, &tails, 5).unwrap()).unwrap();
    assert_eq!(apply(&mut feeds), [5]);
    let confirmed = feeds.poll_ack(rest.replica).unwrap().cursor;
    of_rest.handle_known(confirmed);
    tails.handle_tail(at(1_410), Cursor::new(7));
    feeds.handle(at(1_411), one, records(6..=6)).unwrap();
    feeds.handle_disconnected(one);
    // What came before it went is here; it is not applied and not confirmed, so it is sent again.
    assert_eq!(sends(&mut of_rest, 1_559, &tails, 7), None);
    let sent = sends(&mut of_rest, 1_560, &tails, 7).unwrap();
    assert_eq!(sent, records(6..=7));
    feeds.handle(at(1_565), rest, sent).unwrap();
    assert_eq!(apply(&mut feeds), [6, 7]);
    feeds.handle(at(1_570), other, sends(&mut of_other, 1_570, &tails, 7).unwrap()).unwrap();
    assert_eq!(apply(&mut feeds), [] as [u64; 0]);
}
