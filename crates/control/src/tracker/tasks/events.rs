//! What happened to tasks lately, for those who listen: each holds a place and is told what it does not know yet.

use std::collections::VecDeque;
use std::sync::Arc;

use batoff_types::{Cursor, SiteId, Term};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::view::{TaskEvent, TaskState, TaskView};

/// Events kept for subscribers that come back. One that was away for longer is sent the present state of every task
/// that may have changed meanwhile.
const EVENTS_MAX: usize = 8_192;

/// What happened to tasks lately. Subscribers hold a position each; nothing is queued for them.
pub(in crate::tracker) struct Events {
    term: Term,
    inner: Mutex<Recent>,
    end: watch::Sender<u64>,
}

#[derive(Default)]
struct Recent {
    /// Number of the first kept event.
    first: u64,
    kept: VecDeque<Kept>,
    /// What all events up to here have told.
    told: Told,
}

struct Kept {
    task: Arc<TaskView>,
    told: Told,
}

/// What a subscriber knows, whichever start of the control plane it heard it from: everything through each of these
/// places was told to it as at least that, or was so before it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::tracker) struct Told {
    pub accepted: Cursor,
    pub in_progress: Cursor,
    pub completed: Cursor,
}

impl Told {
    /// And that this task is in that state; tasks are told in the log's order, each state for itself.
    fn with(self, task: &TaskView) -> Self {
        let through = Cursor::after(task.seq);
        match task.state {
            TaskState::Pending => Self { accepted: self.accepted.max(through), ..self },
            TaskState::InProgress => Self { in_progress: self.in_progress.max(through), ..self },
            TaskState::Completed => Self { completed: self.completed.max(through), ..self },
            // Told of one task after another only as far as it goes; nothing follows for its neighbours.
            TaskState::Partial => self,
        }
    }

    /// What either knows.
    pub(in crate::tracker) fn max(self, other: Self) -> Self {
        Self {
            accepted: self.accepted.max(other.accepted),
            in_progress: self.in_progress.max(other.in_progress),
            completed: self.completed.max(other.completed),
        }
    }

    /// Whether all of it can have been told of a log with that tail.
    pub(in crate::tracker) fn fits(self, tail: Cursor) -> bool {
        self.accepted <= tail && self.in_progress <= tail && self.completed <= tail
    }

    /// Whether it is no news that the task is in this state.
    pub(in crate::tracker) fn knows(self, task: &TaskView) -> bool {
        let done = self.completed.covers(task.seq);
        match task.state {
            TaskState::Pending => done || self.in_progress.covers(task.seq) || self.accepted.covers(task.seq),
            TaskState::InProgress => done || self.in_progress.covers(task.seq),
            TaskState::Partial | TaskState::Completed => done,
        }
    }
}

/// Where a subscriber stands. Written as the `id:` of an event, it is the place after that event: ids are told apart and
/// sort as texts in the order of their events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tracker) struct EventPlace {
    term: Term,
    /// The number of the next event.
    next: u64,
    /// While a subscriber catches up: the last task that it was told of; 0 when it follows. Who is cut off while it
    /// catches up begins that anew, with what it was told by then left out.
    step: u64,
    /// Whether it was told meanwhile of a task that is not completed. No part of the id.
    gap: bool,
    /// What it knows.
    pub told: Told,
}

/// What a subscriber gets.
pub(in crate::tracker) enum Next {
    /// These, and go on from there.
    Events(Vec<TaskEvent>, EventPlace),
    /// Too old, or of another start: begin anew at this place with the present state of what may have changed.
    Lost(EventPlace),
}

impl Events {
    pub(in crate::tracker) fn new(term: Term) -> Self {
        Self { term, inner: Mutex::default(), end: watch::Sender::new(0) }
    }

    /// Takes over events, after which everything is told as far as `told` says.
    pub(in crate::tracker) fn push(&self, news: Vec<TaskView>, told: Told) {
        if news.is_empty() {
            return;
        }
        let end = {
            let mut inner = self.inner.lock();
            for task in news {
                if inner.kept.len() == EVENTS_MAX {
                    inner.kept.pop_front();
                    inner.first += 1;
                }
                // Event by event: whoever is cut off in the middle must not count as told of the rest.
                inner.told = inner.told.with(&task);
                let told = inner.told;
                inner.kept.push_back(Kept { task: Arc::new(task), told });
            }
            inner.told = inner.told.max(told);
            inner.first + inner.kept.len() as u64
        };
        self.end.send_replace(end);
    }

    /// What tells this start's places from those of others.
    pub(in crate::tracker) const fn origin(&self) -> Term {
        self.term
    }

    /// Tells when there are more.
    pub(in crate::tracker) fn subscribe(&self) -> watch::Receiver<u64> {
        self.end.subscribe()
    }

    /// How many listen.
    pub(in crate::tracker) fn subscribers(&self) -> usize {
        self.end.receiver_count()
    }

    /// The place after the newest event.
    pub(in crate::tracker) fn end(&self, told: Told) -> EventPlace {
        let inner = self.inner.lock();
        EventPlace { term: self.term, next: inner.first + inner.kept.len() as u64, step: 0, gap: false, told }
    }

    /// The number of the event to come.
    pub(in crate::tracker) fn newest(&self) -> u64 {
        let inner = self.inner.lock();
        inner.first + inner.kept.len() as u64
    }

    /// All sites' events from that number on, and the number of the one to come; `None` when some are no longer kept.
    pub(in crate::tracker) fn since(&self, from: u64) -> Option<(Vec<Arc<TaskView>>, u64)> {
        let inner = self.inner.lock();
        let end = inner.first + inner.kept.len() as u64;
        let skip = usize::try_from(from.checked_sub(inner.first)?).ok().filter(|_| from <= end)?;
        Some((inner.kept.iter().skip(skip).map(|kept| Arc::clone(&kept.task)).collect(), end))
    }

    /// The site's events from `place` on that are news there, at most `max`.
    pub(in crate::tracker) fn next(&self, place: EventPlace, site: &SiteId, max: usize) -> Next {
        let inner = self.inner.lock();
        let end = inner.first + inner.kept.len() as u64;
        if place.term != self.term || place.next < inner.first || place.next > end || place.step > 0 {
            return Next::Lost(EventPlace {
                term: self.term,
                next: end,
                step: 0,
                gap: false,
                told: place.told,
            });
        }
        let mut place = place;
        let mut events = Vec::new();
        let skip = usize::try_from(place.next - inner.first).unwrap_or(usize::MAX);
        for kept in inner.kept.iter().skip(skip) {
            if events.len() == max {
                break;
            }
            let news = kept.task.site == *site && !place.told.knows(&kept.task);
            place = EventPlace { next: place.next + 1, told: place.told.max(kept.told), ..place };
            if news {
                events.push(TaskEvent { id: place.to_id(), task: (*kept.task).clone() });
            }
        }
        Next::Events(events, place)
    }
}

impl EventPlace {
    /// After a subscriber that catches up was told of one more task; everything about it and its elders is told as far as
    /// `all` goes, and further while one is completed right after the other.
    pub(in crate::tracker) fn caught_up(self, task: &TaskView, all: Told) -> Self {
        let here = Cursor::after(task.seq);
        let gap = self.gap || task.state != TaskState::Completed;
        let told = self.told.max(Told {
            accepted: here,
            in_progress: all.in_progress.min(here),
            completed: if gap { all.completed.min(here) } else { here },
        });
        Self { step: task.seq.get(), told, gap, ..self }
    }

    /// Caught up: follows from now on.
    pub(in crate::tracker) fn following(self) -> Self {
        Self { step: 0, gap: false, ..self }
    }

    /// As `id:` of the event before it. Of one width, so that ids sort as texts, too.
    pub(in crate::tracker) fn to_id(self) -> Arc<str> {
        let Told { accepted, in_progress, completed } = self.told;
        let numbers = [self.next, self.step, completed.get(), in_progress.get(), accepted.get()];
        let rest: String = numbers.iter().map(|number| format!("-{number:013x}")).collect();
        format!("{:08x}{rest}", self.term.0).into()
    }

    pub(in crate::tracker) fn from_id(id: &str) -> Option<Self> {
        let hex = |text: &str| {
            let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
            u64::from_str_radix(text, 16).ok().filter(|_| plain)
        };
        let numbers: Vec<u64> = id.split('-').map(hex).collect::<Option<_>>()?;
        let [term, next, step, completed, in_progress, accepted] = numbers.try_into().ok()?;
        let told = Told {
            accepted: Cursor::new(accepted),
            in_progress: Cursor::new(in_progress),
            completed: Cursor::new(completed),
        };
        Some(Self { term: Term(term), next, step, gap: false, told })
    }
}

#[cfg(test)]
mod tests {
    use batoff_types::{Selector, Seq, TaskId, UnixMillis};

    use super::*;
    use crate::tracker::tasks::view::NodeCounts;

    fn task(site: &str, number: u64, state: TaskState) -> TaskView {
        TaskView {
            task: TaskId::from_bytes([number as u8; 16]),
            site: site.parse().unwrap(),
            seq: Seq::new(number).unwrap(),
            request_id: "r".into(),
            state,
            selectors: Arc::new([Selector::Everything]),
            soft: false,
            started_at: UnixMillis(0),
            completed_at: None,
            propagation_ms: None,
            approximate: false,
            objects_evicted: 0,
            objects_final: false,
            nodes: NodeCounts::default(),
        }
    }

    fn pending(site: &str, number: u64) -> TaskView {
        task(site, number, TaskState::Pending)
    }

    fn told(accepted: u64, in_progress: u64, completed: u64) -> Told {
        Told {
            accepted: Cursor::new(accepted),
            in_progress: Cursor::new(in_progress),
            completed: Cursor::new(completed),
        }
    }

    fn at(term: u64, next: u64, told: Told) -> EventPlace {
        EventPlace { term: Term(term), next, step: 0, gap: false, told }
    }

    fn seqs(next: Next) -> Vec<u64> {
        match next {
            Next::Events(events, _) => events.iter().map(|event| event.task.seq.get()).collect(),
            Next::Lost(_) => vec![0],
        }
    }

    #[test]
    fn a_subscriber_goes_on_right_after_the_event_that_it_names() {
        let events = Events::new(Term(3));
        let shop = "shop".parse().unwrap();
        events.push(vec![pending("shop", 1), pending("other", 2), pending("shop", 3)], told(3, 0, 0));
        let Next::Events(all, end) = events.next(at(3, 0, Told::default()), &shop, 100) else {
            panic!("lost")
        };
        assert_eq!(all.len(), 2);
        assert_eq!(end, events.end(told(3, 0, 0)));
        let after_first = EventPlace::from_id(&all[0].id).unwrap();
        assert_eq!(seqs(events.next(after_first, &shop, 100)), [3]);
        events.push(vec![pending("shop", 4)], told(4, 0, 0));
        assert_eq!(seqs(events.next(EventPlace::from_id(&all[1].id).unwrap(), &shop, 100)), [4]);
    }

    #[test]
    fn a_place_of_another_start_or_beyond_what_is_kept_is_lost() {
        let events = Events::new(Term(3));
        let shop = "shop".parse().unwrap();
        for number in 0..EVENTS_MAX as u64 + 10 {
            events.push(vec![pending("shop", number + 1)], told(number + 1, 0, 0));
        }
        let catching_up = EventPlace { step: 7, ..at(3, 8_200, Told::default()) };
        for place in [
            at(3, 5, Told::default()),
            at(2, 8_000, Told::default()),
            at(3, 999_999, Told::default()),
            catching_up,
        ] {
            assert_eq!(seqs(events.next(place, &shop, 1)), [0], "{place:?}");
            assert_eq!(EventPlace::from_id(&place.to_id()), Some(place));
        }
        assert_eq!(seqs(events.next(at(3, 8_200, Told::default()), &shop, 1)), [8_201]);
        for id in
            ["", "1", "1-2", "1-2-3-4-5", "1-2-3-4-5-6-7", "a-b-c-d-e-g", "-1-2-3-4-5-6", "1-2-3-4-5-+6"]
        {
            assert_eq!(EventPlace::from_id(id), None, "{id}");
        }
    }

    #[test]
    fn who_follows_all_sites_is_told_when_some_is_no_longer_kept() {
        let events = Events::new(Term(3));
        events.push(vec![pending("shop", 1), pending("other", 2)], told(2, 0, 0));
        let seqs = |from| {
            events.since(from).map(|(tasks, end)| (tasks.iter().map(|task| task.seq.get()).collect(), end))
        };
        assert_eq!(seqs(0), Some((vec![1, 2], 2)));
        assert_eq!(seqs(1), Some((vec![2], 2)));
        assert_eq!(seqs(2), Some((vec![], 2)));
        assert_eq!(seqs(3), None);
        let more = (0..EVENTS_MAX as u64).map(|number| pending("shop", number + 3)).collect();
        events.push(more, told(EVENTS_MAX as u64 + 2, 0, 0));
        assert_eq!(events.since(1), None);
        assert_eq!(events.newest(), EVENTS_MAX as u64 + 2);
    }

    #[test]
    fn who_is_cut_off_in_the_middle_of_a_step_does_not_count_as_told_of_the_rest() {
        let events = Events::new(Term(3));
        let shop = "shop".parse().unwrap();
        let completed = |number| task("shop", number, TaskState::Completed);
        events.push((1..=3).map(completed).collect(), told(3, 3, 3));
        let Next::Events(all, _) = events.next(at(3, 0, told(3, 3, 0)), &shop, 100) else { panic!("lost") };
        let known = |id: &str| EventPlace::from_id(id).unwrap().told.completed.get();
        assert_eq!(all.iter().map(|event| known(&event.id)).collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn what_was_told_under_another_start_is_not_told_again() {
        let events = Events::new(Term(4));
        let shop = "shop".parse().unwrap();
        let after_restart =
            [TaskState::Pending, TaskState::InProgress, TaskState::Partial, TaskState::Completed];
        events.push(after_restart.map(|state| task("shop", 9, state)).into(), told(9, 9, 9));
        let states = |known: Told| match events.next(at(4, 0, known), &shop, 100) {
            Next::Events(events, _) => events.iter().map(|event| event.task.state).collect::<Vec<_>>(),
            Next::Lost(_) => panic!("lost"),
        };
        assert_eq!(states(told(8, 8, 8)), after_restart);
        assert_eq!(states(told(9, 8, 8)), after_restart[1..]);
        assert_eq!(states(told(9, 9, 8)), after_restart[2..]);
        assert_eq!(states(told(9, 9, 9)), []);
    }

    #[test]
    fn ids_are_unique_and_sort_in_the_order_of_their_events() {
        let start = at(9, 15, told(0, 0, 0));
        let mut places = vec![start];
        for number in 1..=300 {
            places.push(start.caught_up(&pending("shop", number), told(300, 17, 9)));
        }
        places.push(EventPlace { next: 16, ..start });
        places.push(at(10, 0, told(0, 0, 0)));
        let ids: Vec<_> = places.iter().map(|place| place.to_id()).collect();
        assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
        assert!(ids.iter().all(|id| id.len() <= 100));
    }
}
