//! A place in the news of all sites, as a listener remembers it.

use std::fmt;
use std::str::FromStr;

use batoff_types::Term;

/// A place between two events of this start of the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewsPlace {
    pub(in crate::tracker) term: Term,
    pub(in crate::tracker) next: u64,
}

impl NewsPlace {
    /// Whether this is before `other`; places of different starts have no order.
    pub fn is_before(self, other: Self) -> bool {
        self.term == other.term && self.next < other.next
    }
}

impl fmt::Display for NewsPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.term.0, self.next)
    }
}

/// What is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no place of an event")]
pub struct NoNewsPlace;

impl FromStr for NewsPlace {
    type Err = NoNewsPlace;

    fn from_str(text: &str) -> Result<Self, NoNewsPlace> {
        let hex = |text: &str| {
            let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
            u64::from_str_radix(text, 16).ok().filter(|_| plain).ok_or(NoNewsPlace)
        };
        let (term, next) = text.split_once('-').ok_or(NoNewsPlace)?;
        Ok(Self { term: Term(hex(term)?), next: hex(next)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_written_and_read() {
        let place = NewsPlace { term: Term(17), next: 300 };
        assert_eq!(place.to_string(), "11-12c");
        assert_eq!("11-12c".parse(), Ok(place));
        for text in ["", "-", "1", "1-", "-1", "1-g", "1-+2", "1-2-3"] {
            assert_eq!(text.parse::<NewsPlace>(), Err(NoNewsPlace), "{text}");
        }
        assert!(place.is_before(NewsPlace { next: 301, ..place }) && !place.is_before(place));
        assert!(!place.is_before(NewsPlace { term: Term(18), next: 301 }));
    }
}
