//! File descriptors: every connection takes one, and who takes the last one takes it from somebody else.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Kept for files, listeners and what the runtime needs, whatever is connected.
pub const FILES: usize = 96;

/// What a process counts on when the system sets no limit.
const UNLIMITED: usize = 1 << 20;

/// Raises the number of files that this process may have open as far as the system lets it, and says how many that are.
pub fn raise() -> usize {
    let limit = getrlimit(Resource::Nofile);
    // May fail, as in a sandbox that forbids it; then the lower limit holds.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let limit = getrlimit(Resource::Nofile).current;
    limit.map_or(UNLIMITED, |limit| usize::try_from(limit).unwrap_or(UNLIMITED).min(UNLIMITED))
}

/// Divides `limit` descriptors: each listener gets what it wants while there is enough for all; else the small ones
/// first, so that health and the operator are never locked out by customers or nodes, and the rest by their wants.
pub fn divide<const N: usize>(limit: usize, wanted: [usize; N]) -> [usize; N] {
    let mut rest = limit.saturating_sub(FILES.min(limit / 4));
    let mut shares = [0; N];
    let mut order: [usize; N] = std::array::from_fn(|place| place);
    order.sort_by_key(|place| wanted[*place]);
    for (done, place) in order.into_iter().enumerate() {
        // An equal part of what is left is always there for those that want more.
        shares[place] = wanted[place].min(rest / (N - done));
        rest -= shares[place];
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_small_listeners_have_theirs_whatever_the_limit() {
        let wanted = [16_384, 128, 12_512, 64];
        assert_eq!(divide(65_536, wanted), wanted);
        assert_eq!(divide(1_024, wanted), [368, 128, 368, 64]);
        assert_eq!(divide(64, wanted), [12, 12, 12, 12]);
        assert_eq!(divide(0, wanted), [0; 4]);
    }

    #[test]
    fn the_limit_is_raised_to_what_the_system_allows() {
        let raised = raise();
        assert!(raised >= 64, "{raised}");
        assert_eq!(raised, raise());
    }
}
