//! What Prometheus sees of the process itself.

use metrics::{describe_gauge, gauge};

/// What every process tells of itself, under the names that Prometheus' own clients use, and which build it is.
pub fn show(program: &'static str) {
    describe_gauge!("batoff_build_info", "1, with the program and its version");
    describe_gauge!("process_cpu_seconds_total", "User and system CPU time in seconds");
    describe_gauge!("process_resident_memory_bytes", "Resident memory in bytes");
    describe_gauge!("process_virtual_memory_bytes", "Virtual memory in bytes");
    describe_gauge!("process_open_fds", "Open file descriptors");
    describe_gauge!("process_max_fds", "File descriptors that may be open");
    describe_gauge!("process_threads", "Threads");
    describe_gauge!(
        "process_start_time_seconds",
        "When the process started, in seconds since the Unix epoch"
    );
    gauge!("batoff_build_info", "program" => program, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    // Without /proc the figures stay as they are, which is away.
    let Ok(me) = procfs::process::Process::myself() else { return };
    if let Ok(stat) = me.stat() {
        let ticks = procfs::ticks_per_second() as f64;
        gauge!("process_cpu_seconds_total").set((stat.utime + stat.stime) as f64 / ticks);
        gauge!("process_resident_memory_bytes").set((stat.rss * procfs::page_size()) as f64);
        gauge!("process_virtual_memory_bytes").set(stat.vsize as f64);
        gauge!("process_threads").set(stat.num_threads as f64);
        if let Ok(boot) = procfs::boot_time_secs() {
            gauge!("process_start_time_seconds").set(boot as f64 + stat.starttime as f64 / ticks);
        }
    }
    if let Ok(open) = me.fd_count() {
        gauge!("process_open_fds").set(open as f64);
    }
    if let Ok(procfs::process::LimitValue::Value(max)) =
        me.limits().map(|limits| limits.max_open_files.soft_limit)
    {
        gauge!("process_max_fds").set(max as f64);
    }
}
