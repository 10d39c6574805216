use std::collections::VecDeque;
use std::sync::Arc;

use batoff_types::{Cursor, SiteId, Term};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::view::{TaskEvent, TaskView};

/// Events kept for subscribers that come back. One that was away for longer is sent the present state of every task
/// that may have changed meanwhile.
const EVENTS_MAX: usize = 8_192;

/// What happened to tasks lately. Subscribers hold a position each; nothing is queued for them.
pub(super) struct Events {
    term: Term,
    inner: Mutex<Inner>,
    end: watch::Sender<u64>,
}

#[derive(Default)]
struct Inner {
    /// Number of the first kept event.
    first: u64,
    kept: VecDeque<Kept>,
}

struct Kept {
    task: Arc<TaskView>,
    completed: Cursor,
}

/// Where a subscriber stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    term: Term,
    /// The number of the next event.
    next: u64,
    /// Tasks through here were completed, and their completion told, before that.
    pub completed: Cursor,
}

/// What a subscriber gets.
pub(super) enum Next {
    /// These, and go on from there.
    Events(Vec<TaskEvent>, Place),
    /// Too old, or of another start: begin anew at this place with the present state of what may have changed.
    Lost(Place),
}

impl Events {
    pub(super) fn new(term: Term) -> Self {
        Self { term, inner: Mutex::default(), end: watch::Sender::new(0) }
    }

    /// Takes over events that happened while everything through `completed` was completed.
    pub(super) fn push(&self, news: Vec<TaskView>, completed: Cursor) {
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
                inner.kept.push_back(Kept { task: Arc::new(task), completed });
            }
            inner.first + inner.kept.len() as u64
        };
        self.end.send_replace(end);
    }

    /// Tells when there are more.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.end.subscribe()
    }

    /// The place after the newest event.
    pub(super) fn end(&self, completed: Cursor) -> Place {
        let inner = self.inner.lock();
        Place { term: self.term, next: inner.first + inner.kept.len() as u64, completed }
    }

    /// The site's events from `place` on, at most `max`.
    pub(super) fn next(&self, place: Place, site: &SiteId, max: usize) -> Next {
        let inner = self.inner.lock();
        let end = inner.first + inner.kept.len() as u64;
        if place.term != self.term || place.next < inner.first || place.next > end {
            return Next::Lost(Place { term: self.term, next: end, completed: place.completed });
        }
        let mut place = place;
        let mut events = Vec::new();
        let skip = usize::try_from(place.next - inner.first).unwrap_or(usize::MAX);
        for kept in inner.kept.iter().skip(skip) {
            if events.len() == max {
                break;
            }
            place = Place { next: place.next + 1, completed: kept.completed, ..place };
            if kept.task.site == *site {
                events.push(TaskEvent { id: place.to_id(), task: (*kept.task).clone() });
            }
        }
        Next::Events(events, place)
    }
}

impl Place {
    /// As `id:` of the event before it.
    pub(super) fn to_id(self) -> Arc<str> {
        format!("{}-{}-{}", self.term.0, self.next, self.completed.get()).into()
    }

    /// An id whose holder is sent everything after [`Place::completed`] again: of a term that never was.
    pub(super) fn to_lost_id(self) -> Arc<str> {
        format!("0-0-{}", self.completed.get()).into()
    }

    pub(super) fn from_id(id: &str) -> Option<Self> {
        let mut parts = id.split('-').map(|part| part.parse::<u64>().ok());
        let place =
            Self { term: Term(parts.next()??), next: parts.next()??, completed: Cursor::new(parts.next()??) };
        parts.next().is_none().then_some(place)
    }
}

#[cfg(test)]
mod tests {
    use batoff_types::{Selector, Seq, TaskId, UnixMillis};

    use super::*;
    use crate::tracker::{NodeCounts, TaskState};

    fn task(site: &str, number: u64) -> TaskView {
        TaskView {
            task: TaskId::from_bytes([number as u8; 16]),
            site: site.parse().unwrap(),
            seq: Seq::new(number).unwrap(),
            request_id: "r".into(),
            state: TaskState::Pending,
            selectors: Arc::new([Selector::Everything]),
            soft: false,
            started_at: UnixMillis(0),
            completed_at: None,
            propagation_ms: None,
            objects_evicted: 0,
            objects_final: false,
            nodes: NodeCounts::default(),
        }
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
        events.push(vec![task("shop", 1), task("other", 2), task("shop", 3)], Cursor::START);
        let start = Place { term: Term(3), next: 0, completed: Cursor::START };
        let Next::Events(all, end) = events.next(start, &shop, 100) else { panic!("lost") };
        assert_eq!(all.len(), 2);
        assert_eq!(end, events.end(Cursor::START));
        let after_first = Place::from_id(&all[0].id).unwrap();
        assert_eq!(seqs(events.next(after_first, &shop, 100)), [3]);
        events.push(vec![task("shop", 4)], Cursor::START);
        assert_eq!(seqs(events.next(Place::from_id(&all[1].id).unwrap(), &shop, 100)), [4]);
    }

    #[test]
    fn a_place_of_another_start_or_beyond_what_is_kept_is_lost() {
        let events = Events::new(Term(3));
        let shop = "shop".parse().unwrap();
        for number in 0..EVENTS_MAX as u64 + 10 {
            events.push(vec![task("shop", number + 1)], Cursor::START);
        }
        for id in ["3-5-0", "2-8000-0", "3-999999-0"] {
            assert_eq!(seqs(events.next(Place::from_id(id).unwrap(), &shop, 1)), [0], "{id}");
        }
        assert_eq!(seqs(events.next(Place::from_id("3-8200-0").unwrap(), &shop, 1)), [8201]);
        for id in ["", "1", "1-2", "1-2-3-4", "a-b-c", "-1-2-3"] {
            assert_eq!(Place::from_id(id), None, "{id}");
        }
    }
}
