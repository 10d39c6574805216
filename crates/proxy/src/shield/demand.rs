//! What a child asks of its parent about purges, and what the parent vouches for: one header, both ways.

use std::fmt;
use std::str::FromStr;

use batoff_types::{Cursor, LogId};
use http::HeaderName;

/// The header that a child asks with and that a parent vouches with.
pub(crate) const X_BATOFF_SEQ: HeaderName = HeaderName::from_static("x-batoff-seq");

/// The word for [`Demand::Origin`].
const ORIGIN: &str = "origin";

/// How new an answer has to be, or is.
///
/// In the header: `<log id>;<seq>` or `origin;<16 hex digits>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Demand {
    /// Nothing that a purge up to here has hit.
    Through(Through),
    /// Nothing out of any cache. The number is the request's own, so that an answer which a cache that knows nothing of
    /// this has kept for another request is not taken for one to this.
    Origin(u64),
}

/// A place in one log. Places in two logs cannot be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Through {
    pub(crate) log_id: LogId,
    pub(crate) cursor: Cursor,
}

/// The header's value is none that this build knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

impl Through {
    /// Whether what is good through here is good through `other`, too.
    pub(crate) fn reaches(self, other: Self) -> bool {
        self.log_id == other.log_id && self.cursor >= other.cursor
    }
}

impl Demand {
    /// Whether a parent that says this has met `asked`.
    pub(crate) fn meets(self, asked: Self) -> bool {
        match (self, asked) {
            (Self::Through(good), Self::Through(asked)) => good.reaches(asked),
            (Self::Origin(said), Self::Origin(asked)) => said == asked,
            (Self::Through(_), Self::Origin(_)) | (Self::Origin(_), Self::Through(_)) => false,
        }
    }
}

impl fmt::Display for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Through(Through { log_id, cursor }) => write!(f, "{log_id};{}", cursor.get()),
            Self::Origin(nonce) => write!(f, "{ORIGIN};{nonce:016x}"),
        }
    }
}

impl FromStr for Demand {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let (place, number) = text.trim().split_once(';').ok_or(Unreadable)?;
        // `from_str` of integers also takes a sign.
        let is_plain = |digits: &str| digits.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_plain(number) {
            return Err(Unreadable);
        }
        if place == ORIGIN {
            return u64::from_str_radix(number, 16).map(Self::Origin).map_err(|_| Unreadable);
        }
        let log_id = place.parse().map_err(|_| Unreadable)?;
        let cursor = Cursor::new(number.parse().map_err(|_| Unreadable)?);
        Ok(Self::Through(Through { log_id, cursor }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(log: u8, seq: u64) -> Demand {
        Demand::Through(Through { log_id: LogId::from_bytes([log; 16]), cursor: Cursor::new(seq) })
    }

    #[test]
    fn what_is_written_is_read() {
        for demand in [through(1, 0), through(7, u64::MAX), Demand::Origin(0), Demand::Origin(u64::MAX)] {
            assert_eq!(demand.to_string().parse(), Ok(demand));
        }
        assert_eq!(through(0, 42).to_string(), "00000000000000000000000000;42");
        for unknown in ["", "42", ";42", "origin", "origin;", "origin;+1", "00000000000000000000000000;-1"] {
            assert_eq!(unknown.parse::<Demand>(), Err(Unreadable), "{unknown:?}");
        }
    }

    #[test]
    fn a_demand_is_met_by_what_is_as_new_in_the_same_log() {
        assert!(through(1, 5).meets(through(1, 5)) && through(1, 6).meets(through(1, 5)));
        assert!(!through(1, 4).meets(through(1, 5)));
        assert!(!through(2, 9).meets(through(1, 5)), "another log");
        assert!(Demand::Origin(3).meets(Demand::Origin(3)));
        assert!(!Demand::Origin(4).meets(Demand::Origin(3)), "an answer to somebody else, kept by a cache");
        assert!(!through(1, 9).meets(Demand::Origin(3)) && !Demand::Origin(3).meets(through(1, 0)));
    }
}
