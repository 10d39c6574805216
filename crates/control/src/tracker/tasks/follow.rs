//! What happens to the tasks of all sites, for one listener that tells many: the console.
//!
//! Unlike a subscriber of the API, who must hear of every completion, it is shown what is newest. So a place is only a number
//! of an event, and whoever was away for too long asks for the list anew.

use std::sync::Arc;

use tokio::sync::watch;

use super::news::NewsPlace;
use super::view::TaskView;
use crate::tracker::Tracker;

impl Tracker {
    /// The place after the newest event.
    pub fn news_place(&self) -> NewsPlace {
        NewsPlace { term: self.events.origin(), next: self.events.newest() }
    }

    /// All events after that place, oldest first, and the place after them; `None` when it is too old, or of another start.
    pub fn news_since(&self, place: NewsPlace) -> Option<(Vec<Arc<TaskView>>, NewsPlace)> {
        let (tasks, next) = self.events.since(place.next).filter(|_| place.term == self.events.origin())?;
        Some((tasks, NewsPlace { next, ..place }))
    }

    /// Tells when there are more.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.events.subscribe()
    }
}
