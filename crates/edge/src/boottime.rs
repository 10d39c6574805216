use batoff_types::Moment;
use rustix::time::{ClockId, clock_gettime};

/// Now, on the clock that leases are measured with.
///
/// `CLOCK_BOOTTIME` runs on while the machine is suspended and is never stepped, so a lease that ran out during a
/// suspend has run out on waking. It is read anew at each call: a cached tick would not notice a freeze.
pub fn boottime() -> Moment {
    #[cfg(feature = "virtual-time")]
    if let Some(clock) = SHOWN.get() {
        return clock();
    }
    let now = clock_gettime(ClockId::Boottime);
    let secs = u64::try_from(now.tv_sec).unwrap_or(0);
    let micros = u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000;
    Moment::from_micros(secs.saturating_mul(1_000_000).saturating_add(micros))
}

#[cfg(feature = "virtual-time")]
thread_local! {
    static SHOWN: std::cell::Cell<Option<fn() -> Moment>> = const { std::cell::Cell::new(None) };
}

/// Makes [`boottime`] show another clock on this thread: for tests in virtual time, which are one thread. Not in any build
/// of a program.
#[cfg(feature = "virtual-time")]
pub fn show_on_this_thread(clock: fn() -> Moment) {
    SHOWN.set(Some(clock));
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
