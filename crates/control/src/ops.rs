//! Whether the control plane can do its job, as `/readyz` tells it, from before it has begun.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use batoff_log::Health;
use batoff_program::monitored::Monitored;

use crate::clock::Clock;
use crate::metrics;
use crate::seat::Tenure;
use crate::service::Services;

/// Asked by the monitoring listener.
pub struct Ops {
    clock: Clock,
    tenure: Tenure,
    services: OnceLock<Arc<Services>>,
}

impl Ops {
    /// Of a control plane that starts.
    pub fn starting(clock: Clock, tenure: Tenure) -> Self {
        Self { clock, tenure, services: OnceLock::new() }
    }

    /// It has begun.
    pub fn begun(&self, services: Arc<Services>) {
        // It begins once.
        let _ = self.services.set(services);
    }
}

impl Monitored for Ops {
    fn ready(&self) -> Result<(), String> {
        // First: a process that has lost its seat stops for that reason.
        if let Some(trouble) = self.tenure.trouble(self.clock.now()) {
            return Err(trouble);
        }
        let Some(services) = self.services.get() else { return Err("reads the purge log".to_owned()) };
        if services.draining.is_cancelled() {
            return Err("stopping".to_owned());
        }
        match &*services.store.health().borrow() {
            Health::Ok => Ok(()),
            Health::Degraded { reason, .. } => Err(format!("the purge log takes no writes now: {reason}")),
            Health::Stopped { reason } | Health::Down { reason } => {
                Err(format!("the purge log is down: {reason}"))
            }
        }
    }

    fn remark(&self) -> Option<String> {
        let apart = self.services.get()?.tracker.settings_apart();
        let mut settings: Vec<String> =
            apart.iter().map(|(replica, setting)| format!("{setting} of {replica}")).collect();
        settings.dedup();
        let settings = (!settings.is_empty()).then(|| settings.join(", "))?;
        Some(format!(
            "{settings} differs from what is set here: what one control plane answers, another may refuse; give all the same, \
             and start those again that were changed"
        ))
    }

    fn refresh(&self) {
        if let Some(until) = self.tenure.held_until() {
            metrics::seat_held_for(until.since(self.clock.now()).max(Duration::ZERO));
        }
    }
}
