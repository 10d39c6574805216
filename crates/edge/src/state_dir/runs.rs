//! Numbers of streams: higher than any before, by whichever run of the daemon.
//!
//! A control plane ignores a stream with a lower number than it knows of, for such a one was long on its way; so a run whose
//! numbers were lower than those of the run before would not be heard. The upper half of a number is that of the run: one more
//! than that of the last run, which is stored here, or the time in seconds if that is more. The stored one alone would begin
//! anew on a disk that was lost, and the time alone would go back with the clock.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use batoff_program::durable;

const FILE: &str = "runs";

/// Streams of one run.
const NUMBER_BITS: u32 = 32;

/// A run begins: none of its streams has this number or a lower one. Durable when this returns.
pub(super) fn begin(dir: &Path) -> io::Result<u64> {
    let last = match std::fs::read(dir.join(FILE)) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).trim().parse::<u32>().unwrap_or(0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let run = last.saturating_add(1).max(u32::try_from(now.as_secs()).unwrap_or(u32::MAX));
    durable::replace(dir, FILE, format!("{run}\n").as_bytes())?;
    Ok(u64::from(run) << NUMBER_BITS)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn each_run_begins_beyond_the_one_before_whatever_the_clock_shows() {
        let dir = TempDir::new().unwrap();
        let first = begin(dir.path()).unwrap();
        let second = begin(dir.path()).unwrap();
        assert!(first >> NUMBER_BITS > 1_700_000_000 && second > first);
        // It was ahead when that was written.
        std::fs::write(dir.path().join(FILE), "4100000000").unwrap();
        assert_eq!(begin(dir.path()).unwrap() >> NUMBER_BITS, 4_100_000_001);
        std::fs::write(dir.path().join(FILE), "rot").unwrap();
        assert!(begin(dir.path()).unwrap() >= first, "the clock is all that is left");
    }
}
