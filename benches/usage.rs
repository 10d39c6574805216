use anyhow::Context;

/// Ticks a second in `/proc`: a constant of Linux's interface to programs.
const TICKS: f64 = 100.0;

/// CPU seconds of a process so far, all threads.
pub fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("a process has ended")?;
    // The name, in parentheses, may hold anything; user and system time are fields 14 and 15.
    let (_, fields) = stat.rsplit_once(')').context("/proc/PID/stat")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    Ok(ticks.sum::<Result<u64, _>>()? as f64 / TICKS)
}

/// CPU seconds so far of a process's threads whose names begin so.
pub fn thread_cpu_seconds(pid: u32, name: &str) -> anyhow::Result<f64> {
    let mut nanoseconds = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let thread = thread?.path();
        if std::fs::read_to_string(thread.join("comm"))?.starts_with(name) {
            let ran = std::fs::read_to_string(thread.join("schedstat"))?;
            nanoseconds += ran.split(' ').next().context("schedstat")?.parse::<u64>()?;
        }
    }
    Ok(nanoseconds as f64 / 1e9)
}

/// CPU seconds of everything on this machine so far.
pub fn machine_seconds() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("/proc/stat")?;
    let fields: Vec<u64> = line.split_whitespace().skip(1).map(str::parse).collect::<Result<_, _>>()?;
    // user, nice, system, (idle, iowait), irq, softirq
    let busy = [0, 1, 2, 5, 6].into_iter().filter_map(|place| fields.get(place)).sum::<u64>();
    Ok(busy as f64 / TICKS)
}

/// Resident memory of a process in MB.
pub fn resident_mb(pid: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kb: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kb / 1_000.0)
}
