use batoff_edge::Fence;
use batoff_index::Verdict;

/// What is to be done with an object that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may be served.
    Serve,
    /// A soft purge hit it: it may be served while it is fetched anew, if the origin allows.
    ServeStale,
    /// This node may not serve from its cache now; the origin's confirmation (304) makes it servable for this request.
    Confirm,
    /// A purge hit it: it is to be fetched whole, as if nothing had been found.
    Fetch,
}

/// What the rules say, and then the lease, which is asked last: it reads the clock itself, so that a process which froze
/// in between does not serve on waking.
pub fn decide(verdict: Verdict, fence: &Fence) -> Decision {
    match verdict {
        Verdict::Gone => Decision::Fetch,
        Verdict::Fresh | Verdict::Stale if !fence.may_serve() => Decision::Confirm,
        Verdict::Fresh => Decision::Serve,
        Verdict::Stale => Decision::ServeStale,
    }
}

#[cfg(test)]
mod tests {
    use batoff_types::message::LeasePolicy;

    use super::*;

    #[test]
    fn the_rules_speak_first_and_the_lease_last() {
        let (available, strict) = (Fence::new(LeasePolicy::Serve), Fence::new(LeasePolicy::Revalidate));
        for (verdict, leased, unleased) in [
            (Verdict::Fresh, Decision::Serve, Decision::Confirm),
            (Verdict::Stale, Decision::ServeStale, Decision::Confirm),
            (Verdict::Gone, Decision::Fetch, Decision::Fetch),
        ] {
            assert_eq!((decide(verdict, &available), decide(verdict, &strict)), (leased, unleased));
        }
    }
}
