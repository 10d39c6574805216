//! When is the control plane told how large the index is? On each stream once, and then when it has changed, not too often.

use std::time::Duration;

use batoff_types::Moment;
use batoff_types::message::IndexSize;

/// How often the index is asked at most, and so how old the figure is that people see.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What one stream has been told.
#[derive(Debug, Default)]
pub(super) struct ToldSize {
    told: Option<IndexSize>,
    looked_at: Option<Moment>,
}

impl ToldSize {
    /// The size as `look` finds it, if it is time to look and the stream does not know it yet.
    pub(super) fn poll_news(&mut self, now: Moment, look: impl FnOnce() -> IndexSize) -> Option<IndexSize> {
        if self.looked_at.is_some_and(|looked_at| now < looked_at + LOOK_EVERY) {
            return None;
        }
        self.looked_at = Some(now);
        let size = look();
        (self.told != Some(size)).then(|| *self.told.insert(size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_told_at_first_and_then_when_it_has_changed_not_too_often() {
        let mut told = ToldSize::default();
        let size = |objects| IndexSize { objects, bytes: objects * 100 };
        let at = |seconds: u64| Moment::from_micros(seconds * 1_000_000);
        assert_eq!(told.poll_news(at(100), || size(0)), Some(size(0)), "nothing is a size, too");
        assert_eq!(told.poll_news(at(104), || panic!("looked too early")), None);
        assert_eq!(told.poll_news(at(105), || size(0)), None);
        assert_eq!(told.poll_news(at(109), || panic!("looked too early")), None);
        assert_eq!(told.poll_news(at(110), || size(7)), Some(size(7)));
        assert_eq!(ToldSize::default().poll_news(at(111), || size(7)), Some(size(7)), "another stream");
    }
}
