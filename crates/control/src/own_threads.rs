//! Threads that do one kind of work, each with a runtime of its own: those of the nodes' streams, one for each core; one for
//! whoever looks at the control plane from outside (operators, metrics), the observers; and one for customers who wait for
//! what becomes of their purges, the followers.
//!
//! A round wakes a task for each node. On the threads that accept purges, every step of an accept waited behind a thousand of
//! those; the purges trickled into the log one by one, and each woke all the streams again. So streams have threads of their
//! own: the kernel shares the cores between them and the rest, and an accept waits for nobody's turn.
//!
//! A stream stays on the thread that it was given to. Its connection, its task and its timers are there too, so a record
//! crosses no thread on its way from the round to the socket, and no thread looks for work that others have.

use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

/// See the module. Everything that runs on them ends when it is dropped; that is not waited for.
pub(crate) struct OwnThreads {
    handles: Vec<Handle>,
    until: CancellationToken,
}

impl OwnThreads {
    /// One for each core.
    pub(crate) fn each_core(name: &str) -> io::Result<Self> {
        Self::start(name, std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// So many, and at least one.
    pub(crate) fn start(name: &str, count: usize) -> io::Result<Self> {
        let mut threads = Self { handles: Vec::with_capacity(count), until: CancellationToken::new() };
        for _ in 0..count.max(1) {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            threads.handles.push(runtime.handle().clone());
            let until = threads.until.clone();
            let thread = std::thread::Builder::new().name(name.to_owned());
            thread.spawn(move || runtime.block_on(until.cancelled()))?;
        }
        Ok(threads)
    }

    /// The first of them.
    pub(crate) fn first(&self) -> &Handle {
        &self.handles[0]
    }

    /// One of each thread.
    pub(crate) fn handles(&self) -> &[Handle] {
        &self.handles
    }
}

impl Drop for OwnThreads {
    fn drop(&mut self) {
        self.until.cancel();
    }
}

/// How long these threads have been busy in all: from when each woke until it slept again, whether it had a core or waited for
/// one.
pub(crate) fn busy(handles: &[Handle]) -> Duration {
    handles.iter().map(|handle| handle.metrics().worker_total_busy_duration(0)).sum()
}
