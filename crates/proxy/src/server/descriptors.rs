//! How many visitors there are file descriptors for.

use std::io;

use batoff_program::descriptors::raise;

/// Descriptors kept for everything that is not a visitor: the stream to the control plane, state, metrics, idle
/// connections to origins.
const RESERVED: usize = 512;

/// A visitor's connection, and one to the origin for it.
const PER_VISITOR: usize = 2;

/// How many visitors this process has descriptors for, at most `wanted`. Takes as many as the system gives.
///
/// # Errors
/// Not even one visitor beside what is kept.
pub(super) fn visitors(wanted: usize) -> io::Result<usize> {
    let needed = wanted.saturating_mul(PER_VISITOR).saturating_add(RESERVED);
    let visitors = fitting(raise(), wanted);
    if visitors == 0 {
        return Err(io::Error::other(format!(
            "the limit of open files is too low; raise it over {RESERVED} (`ulimit -n`, LimitNOFILE in the unit)"
        )));
    }
    if visitors < wanted {
        tracing::warn!(
            visitors,
            wanted,
            "open files are limited, so fewer visitors connect at once; raise LimitNOFILE to {needed}"
        );
    }
    Ok(visitors)
}

fn fitting(limit: usize, wanted: usize) -> usize {
    wanted.min(limit.saturating_sub(RESERVED) / PER_VISITOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visitors_take_what_the_rest_leaves() {
        for (limit, visitors) in [(usize::MAX, 1_000), (10_000, 1_000), (1_024, 256), (RESERVED, 0), (64, 0)]
        {
            assert_eq!(fitting(limit, 1_000), visitors, "{limit:?}");
        }
    }
}
