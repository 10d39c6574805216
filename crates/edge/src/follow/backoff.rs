use std::time::Duration;

/// How long to wait before the next connection: full jitter, so that thousands of nodes that lost the same control plane
/// do not come back together.
#[derive(Debug)]
pub(super) struct Backoff {
    shortest: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// 50 ms to 5 s, until a `Welcome` says otherwise.
    pub(super) const fn new() -> Self {
        Self { shortest: Duration::from_millis(50), longest: Duration::from_secs(5), failures: 0 }
    }

    /// Takes over what the control plane wants. Nonsense is bent into an order.
    pub(super) fn set_limits(&mut self, shortest: Duration, longest: Duration) {
        self.shortest = shortest.max(Duration::from_millis(1));
        self.longest = longest.max(self.shortest);
    }

    /// The stream was good for something.
    pub(super) const fn reset(&mut self) {
        self.failures = 0;
    }

    /// The wait after one more stream that failed.
    pub(super) fn next(&mut self) -> Duration {
        let ceiling = self.shortest.saturating_mul(2_u32.saturating_pow(self.failures)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        if ceiling <= self.shortest { self.shortest } else { rand::random_range(self.shortest..=ceiling) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_never_leave_the_limits() {
        let mut backoff = Backoff::new();
        assert_eq!(backoff.next(), Duration::from_millis(50));
        for _ in 0..100 {
            let wait = backoff.next();
            assert!(wait >= Duration::from_millis(50) && wait <= Duration::from_secs(5));
        }
        backoff.reset();
        assert_eq!(backoff.next(), Duration::from_millis(50));
    }
}
