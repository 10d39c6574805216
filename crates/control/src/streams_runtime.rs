//! The threads of the nodes' streams.
//!
//! A record wakes a task for each node. On the threads that accept purges, every step of an accept waited behind a thousand of
//! those; the purges trickled into the log one by one, and each woke all the streams again. So streams have threads of their
//! own, as many as there are cores: the kernel shares the cores between them and the rest, and an accept waits for
//! nobody's turn.

use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

/// See the module. Ends with everything that runs on it when it is dropped.
pub(crate) struct StreamsRuntime(Option<Runtime>, Handle);

impl StreamsRuntime {
    pub(crate) fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread().thread_name("streams").enable_all().build()?;
        let handle = runtime.handle().clone();
        Ok(Self(Some(runtime), handle))
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.1
    }
}

impl Drop for StreamsRuntime {
    fn drop(&mut self) {
        // Not waited for: this may itself be a task of another runtime.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
