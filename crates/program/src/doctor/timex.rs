//! What the kernel knows of its own clock.
#![expect(
    unsafe_code,
    reason = "no safe crate that we use has adjtimex, and only the kernel knows whether its clock is kept right"
)]

use std::io;
use std::mem::zeroed;
use std::time::Duration;

/// The kernel's word on its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KernelClock {
    /// Whether somebody (an NTP client) keeps it right.
    pub(super) is_synchronised: bool,
    /// How far it may be off at most, by what that client has said; grows while the client is silent.
    pub(super) error_max: Duration,
    /// How far it is thought to be off.
    pub(super) error_estimated: Duration,
}

/// Asks, which everybody may; sets nothing.
pub(super) fn ask() -> io::Result<KernelClock> {
    // SAFETY: it is made of numbers, for which zero is a value. Its `modes`, zero, set nothing.
    let mut timex: libc::timex = unsafe { zeroed() };
    // SAFETY: the pointer is to a whole `timex` of ours, which nobody else knows.
    if unsafe { libc::adjtimex(&raw mut timex) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let micros = |micros| Duration::from_micros(u64::try_from(micros).unwrap_or(0));
    Ok(KernelClock {
        is_synchronised: timex.status & libc::STA_UNSYNC == 0,
        error_max: micros(timex.maxerror),
        error_estimated: micros(timex.esterror),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_asked_and_answers() {
        let clock = ask().unwrap();
        // It counts up to that, and then its clock is kept right no more.
        let limit = Duration::from_secs(16);
        assert!(clock.error_max <= limit && (clock.error_max < limit || !clock.is_synchronised), "{clock:?}");
    }
}
