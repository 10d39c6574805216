use batoff_types::Moment;
use rustix::time::{ClockId, clock_gettime};

/// Now, on the clock that leases are measured with.
///
/// `CLOCK_BOOTTIME` runs on while the machine is suspended and is never stepped, so a lease that ran out during a
/// suspend has run out on waking. It is read anew at each call: a cached tick would not notice a freeze.
pub fn boottime() -> Moment {
    let now = clock_gettime(ClockId::Boottime);
    let secs = u64::try_from(now.tv_sec).unwrap_or(0);
    let micros = u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000;
    Moment::from_micros(secs.saturating_mul(1_000_000).saturating_add(micros))
}

#[cfg(test)]
mod tests {
    use super::boottime;

    #[test]
    fn it_never_goes_back() {
        let mut last = boottime();
        for _ in 0..1_000 {
            let now = boottime();
            assert!(now >= last);
            last = now;
        }
    }
}
