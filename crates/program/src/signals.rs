//! When to stop, and when to read the certificates again.

use std::io::{self, Read};
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::exit::{Ends, Exit};

/// What a process is told from outside.
#[derive(Clone, Debug)]
pub struct Signals {
    /// Cancelled by SIGTERM, SIGINT, or the parent's death.
    pub stop: CancellationToken,
    /// Notified by SIGHUP.
    pub reload: Arc<Notify>,
}

/// Signals cannot be received.
#[derive(Debug, thiserror::Error)]
#[error("signals cannot be received: {0}")]
pub struct SignalsError(#[from] io::Error);

impl Ends for SignalsError {
    fn exit(&self) -> Exit {
        Exit::Temporary
    }
}

impl Signals {
    /// Begins to listen; needs a runtime. Before anything is bound, so that no signal kills a program half way.
    /// `exit_with_parent`: the end of standard input is a signal, too.
    pub fn listen(exit_with_parent: bool) -> Result<Self, SignalsError> {
        let signals = Self { stop: CancellationToken::new(), reload: Arc::new(Notify::new()) };
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let heard = signals.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => heard.stop.cancel(),
                    _ = interrupt.recv() => heard.stop.cancel(),
                    _ = hang_up.recv() => heard.reload.notify_one(),
                }
            }
        });
        if exit_with_parent {
            let stop = signals.stop.clone();
            // A thread, not a task: a read of stdin cannot be cancelled, and must not hold up the end of the runtime.
            std::thread::Builder::new().name("parent".to_owned()).spawn(move || {
                let mut discarded = [0; 256];
                while matches!(io::stdin().read(&mut discarded), Ok(1..)) {}
                stop.cancel();
            })?;
        }
        Ok(signals)
    }
}
