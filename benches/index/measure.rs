use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use super::workload::random;

/// What was measured, by name; each name says its unit.
pub type Figures = BTreeMap<String, f64>;

/// Resident memory of this process, in bytes.
pub fn resident() -> f64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok()).unwrap_or_default();
    pages * 4_096.0
}

/// Time that this thread has had a processor. What takes long is measured by it: the machines are shared, and by the
/// clock on the wall it would say how many others there are.
pub fn processor_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(now.tv_sec).unwrap_or_default(),
        u32::try_from(now.tv_nsec).unwrap_or_default(),
    )
}

/// The median of some durations, in nanoseconds, over `each` operations a duration.
pub fn median(mut durations: Vec<Duration>, each: usize) -> f64 {
    durations.sort_unstable();
    durations.get(durations.len() / 2).map_or(f64::NAN, |middle| middle.as_nanos() as f64 / each as f64)
}

/// The same of a quantile between 0 and 1.
pub fn quantile(mut durations: Vec<Duration>, at: f64) -> f64 {
    durations.sort_unstable();
    let last = durations.len().saturating_sub(1);
    durations.get((last as f64 * at) as usize).map_or(f64::NAN, |found| found.as_nanos() as f64)
}

/// Times `operation` on `count` numbers, `each` at a time.
pub fn batches(count: usize, each: usize, mut operation: impl FnMut(usize)) -> Vec<Duration> {
    (0..count / each)
        .map(|batch| {
            let started = Instant::now();
            (batch * each..(batch + 1) * each).for_each(&mut operation);
            started.elapsed()
        })
        .collect()
}

/// Nanoseconds of one load whose address the one before gave, all over so many bytes.
pub fn dependent_load(bytes: usize) -> f64 {
    const LINE: usize = 64 / size_of::<u32>();
    let lines = (bytes / 64).clamp(1 << 14, 1 << 28);
    let mut order: Vec<u32> = (0..lines as u32).collect();
    // One cycle through all lines (Sattolo).
    for at in (1..lines).rev() {
        order.swap(at, random(at) as usize % at);
    }
    let mut chain = vec![0_u32; lines * LINE];
    for (line, next) in order.into_iter().enumerate() {
        chain[line * LINE] = next;
    }
    let mut at = 0;
    let durations = batches(400_000, 1_000, |_| at = chain[at as usize * LINE]);
    black_box(at);
    median(durations, 1_000)
}
