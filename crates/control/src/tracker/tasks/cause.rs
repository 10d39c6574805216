//! Why a node was late, in a word.

/// What took the most time on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LateCause {
    /// It had no stream.
    NoConnection,
    /// It has a stream and no lease: it was too slow, or has not caught up yet.
    NoLease,
    /// Its stream was handed it late: it was not connected, or still being sent what came before.
    SentLate,
    /// Between the handing over and the rule in force, or on the way back: the network, or the node had no time.
    Network,
    /// A cache that is asked, and not looked up in the index, took its time.
    CacheBusy,
    /// A cache could not be reached, or refused.
    CacheTrouble,
    /// An earlier incarnation of the node may still hold a lease.
    EarlierLease,
    /// It has it, and has not acknowledged it yet.
    Working,
}

impl LateCause {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::NoConnection,
        Self::NoLease,
        Self::SentLate,
        Self::Network,
        Self::CacheBusy,
        Self::CacheTrouble,
        Self::EarlierLease,
        Self::Working,
    ];

    /// Its name in the APIs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoConnection => "no_connection",
            Self::NoLease => "no_lease",
            Self::SentLate => "sent_late",
            Self::Network => "network",
            Self::CacheBusy => "cache_busy",
            Self::CacheTrouble => "cache_trouble",
            Self::EarlierLease => "earlier_lease",
            Self::Working => "working",
        }
    }

    /// Of a node that has acknowledged: which part of the way was the longest?
    pub(super) fn of_way(
        sent: Option<u64>,
        in_force: Option<u64>,
        acked: Option<u64>,
        trouble: bool,
    ) -> Self {
        let sent = sent.unwrap_or_default();
        let in_force = in_force.unwrap_or(sent).max(sent);
        let caches = acked.unwrap_or(in_force).saturating_sub(in_force);
        let way = in_force - sent;
        if caches > way.max(sent) {
            return if trouble { Self::CacheTrouble } else { Self::CacheBusy };
        }
        if sent > way { Self::SentLate } else { Self::Network }
    }

    /// As it is kept.
    pub(in crate::tracker) fn number(self) -> u32 {
        Self::ALL.iter().position(|cause| *cause == self).map_or(0, |place| place as u32)
    }

    /// One that a later version has written is [`LateCause::Working`].
    pub(in crate::tracker) fn from_number(number: u32) -> Self {
        Self::ALL.get(number as usize).copied().unwrap_or(Self::Working)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_part_of_the_way_is_the_cause() {
        let cause = |sent, in_force, acked, trouble| {
            let mark = |at: u64| (at > 0).then_some(at);
            LateCause::of_way(mark(sent), mark(in_force), mark(acked), trouble)
        };
        assert_eq!(cause(1, 90, 91, false), LateCause::Network);
        assert_eq!(cause(800, 850, 851, false), LateCause::SentLate);
        assert_eq!(cause(1, 30, 1_400, false), LateCause::CacheBusy);
        assert_eq!(cause(1, 30, 1_400, true), LateCause::CacheTrouble);
        // What was trouble elsewhere is none here.
        assert_eq!(cause(1, 90, 91, true), LateCause::Network);
        assert_eq!(cause(0, 0, 40, false), LateCause::CacheBusy, "all that is known is the end");
    }

    #[test]
    fn causes_are_read_back_and_unknown_ones_are_nothing_in_particular() {
        for cause in LateCause::ALL {
            assert_eq!(LateCause::from_number(cause.number()), cause);
        }
        assert_eq!(LateCause::from_number(99), LateCause::Working);
    }
}
