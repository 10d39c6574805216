//! Where a record stands in the one order, and how far somebody has come; the numbers that say of which order.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use ulid::Ulid;

/// The number of a record in the purge log: 1, 2, 3, … without gaps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(NonZeroU64);

impl Seq {
    /// The first record of a log.
    pub const FIRST: Self = Self(NonZeroU64::MIN);

    /// `None` for 0, which numbers no record.
    pub const fn new(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number, at least 1.
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// The number of the record after this one.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Debug for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A place between two records: everything before it is done.
///
/// ```text
///  seq      1   2   3   4
///         |   |   |   |   |
///  START -^           ^- Cursor::after(Seq 3)
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Cursor(u64);

impl Cursor {
    /// Before the first record.
    pub const START: Self = Self(0);

    /// The place right after `seq`.
    pub const fn after(seq: Seq) -> Self {
        Self(seq.get())
    }

    /// The place right before `seq`.
    pub const fn before(seq: Seq) -> Self {
        Self(seq.get() - 1)
    }

    /// The place with `done` records before it.
    pub const fn new(done: u64) -> Self {
        Self(done)
    }

    /// How many records lie before this place; equal to the number of the last of them.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The last record before this place.
    pub const fn last(self) -> Option<Seq> {
        Seq::new(self.0)
    }

    /// The first record after this place.
    pub const fn next(self) -> Seq {
        // Saturates: a log of 2^64 - 1 records outlives us.
        match Seq::new(self.0.saturating_add(1)) {
            Some(seq) => seq,
            None => Seq::FIRST,
        }
    }

    /// Whether `seq` lies before this place.
    pub const fn covers(self, seq: Seq) -> bool {
        seq.get() <= self.0
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "|{}", self.0)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How often a node has had to drop everything and start anew. Part of every [`FillToken`], persisted, only rising: a
/// fill that began in an earlier generation can never pass as newer than a purge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation(pub u64);

/// How many times the control plane of one log has started; durable, only rising. A node that has seen a higher term
/// refuses grants of a lower one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Term(pub u64);

/// What a node knew when it began to fetch an object from the origin: its generation, and how far it had applied the
/// purge log. A purge that came later than this hits the object, whenever it was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FillToken {
    /// The node's generation when the fetch began.
    pub generation: Generation,
    /// What the node had applied when the fetch began.
    pub applied: Cursor,
}

macro_rules! ulid_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Ulid);

        impl $name {
            /// Wraps a ULID that was generated elsewhere; this crate has neither a clock nor randomness.
            pub const fn from_ulid(ulid: Ulid) -> Self {
                Self(ulid)
            }

            /// The ULID inside.
            pub const fn ulid(self) -> Ulid {
                self.0
            }

            /// The 16 bytes, most significant first.
            pub const fn to_bytes(self) -> [u8; 16] {
                self.0.to_bytes()
            }

            /// From 16 bytes, most significant first.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Ulid::from_bytes(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidUlid;

            /// Takes exactly 26 characters of Crockford base 32, in upper case, without its aliases (`I`, `L`, `O`): each
            /// identity has one spelling.
            fn from_str(text: &str) -> Result<Self, InvalidUlid> {
                // 26 characters hold 130 bits; the parser would drop the two beyond 128.
                if text.starts_with(|first| first > '7') || text.bytes().any(|b| b.is_ascii_lowercase()) {
                    return Err(InvalidUlid);
                }
                Ulid::from_string(text).map(Self).map_err(|_| InvalidUlid)
            }
        }
    };
}

/// The text is not a ULID in upper case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a ULID: expected 26 characters of Crockford base 32 in upper case, the first at most 7")]
pub struct InvalidUlid;

ulid_newtype!(
    /// The identity of a purge log, made with it. A log that was lost and made anew, or restored from a backup, has
    /// another one, so that no cursor into the old log is taken for a place in the new.
    LogId
);
ulid_newtype!(
    /// The identity of an accepted request, given to the customer.
    TaskId
);
ulid_newtype!(
    /// The identity of one run of a node's daemon, random at each start.
    InstanceId
);
