use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors kept for everything that is not a visitor: the stream to the control plane, state, metrics, idle
/// connections to origins.
const RESERVED: u64 = 512;

/// A visitor's connection, and one to the origin for it.
const PER_VISITOR: u64 = 2;

/// How many visitors this process has descriptors for, at most `wanted`. Takes as many as the system gives.
///
/// # Errors
/// Not even one visitor beside what is kept.
pub(super) fn visitors(wanted: usize) -> io::Result<usize> {
    let needed = RESERVED + PER_VISITOR * wanted as u64;
    let visitors = fitting(raise(needed), wanted);
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

fn fitting(limit: Option<u64>, wanted: usize) -> usize {
    let room = limit.map_or(u64::MAX, |limit| limit.saturating_sub(RESERVED)) / PER_VISITOR;
    wanted.min(usize::try_from(room).unwrap_or(usize::MAX))
}

/// Raises the soft limit up to the hard one; returns the soft one, `None` without a limit.
fn raise(needed: u64) -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let soft = current?;
    if soft >= needed {
        return Some(soft);
    }
    let raised = maximum.map_or(needed, |hard| hard.min(needed)).max(soft);
    match setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum }) {
        Ok(()) => Some(raised),
        Err(_) => Some(soft),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visitors_take_what_the_rest_leaves() {
        for (limit, visitors) in
            [(None, 1_000), (Some(10_000), 1_000), (Some(1_024), 256), (Some(RESERVED), 0), (Some(64), 0)]
        {
            assert_eq!(fitting(limit, 1_000), visitors, "{limit:?}");
        }
    }
}
