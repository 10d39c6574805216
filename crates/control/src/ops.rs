//! Whether the control plane can do its job, as `/readyz` tells it.

use std::sync::Arc;

use batoff_log::Health;
use batoff_program::monitored::Monitored;

use crate::service::Services;

/// Asked by the monitoring listener.
pub struct Ops(pub Arc<Services>);

impl Monitored for Ops {
    fn ready(&self) -> Result<(), String> {
        if self.0.draining.is_cancelled() {
            return Err("stopping".to_owned());
        }
        match &*self.0.store.health().borrow() {
            Health::Ok => Ok(()),
            Health::Degraded { reason, .. } => Err(format!("the purge log takes no writes now: {reason}")),
            Health::Stopped { reason } | Health::Down { reason } => {
                Err(format!("the purge log is down: {reason}"))
            }
        }
    }
}
