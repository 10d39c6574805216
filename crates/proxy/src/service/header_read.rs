use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::{Instant, sleep_until};

/// Says that the header of a request has been read in time. pingora hands it to the service's `on_connection_reuse`, which
/// it calls right then, at the first request, too.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeaderRead(Arc<AtomicBool>);

impl HeaderRead {
    /// What pingora was given with the connection.
    pub(crate) fn note(context: &(dyn Any + Send + Sync)) {
        if let Some(Self(is_read)) = context.downcast_ref() {
            is_read.store(true, Ordering::Release);
        }
    }

    /// When the header has not been read by then; else never.
    pub(crate) async fn overdue(&self, by: Instant) {
        sleep_until(by).await;
        if self.0.load(Ordering::Acquire) {
            std::future::pending::<()>().await;
        }
    }
}
