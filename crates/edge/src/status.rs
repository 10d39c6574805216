use batoff_types::message::LeasePolicy;
use parking_lot::Mutex;

use crate::fence::Fence;

/// What the stream says about itself, for `/readyz` and for people.
#[derive(Debug, Default)]
pub(crate) struct Status(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    /// Why there is no stream now; `None` while there is one.
    disconnected: Option<String>,
    /// Which streams are missing, if there are too few for a lease.
    lacking: Option<String>,
    /// Whether this run has once had everything in force that was purged before, since the last reset.
    caught_up: bool,
    /// Whether this run has once had a lease.
    leased_once: bool,
    stopping: bool,
}

impl Default for Inner {
    fn default() -> Self {
        let disconnected = Some("not yet connected to the control plane".to_owned());
        Self { disconnected, lacking: None, caught_up: false, leased_once: false, stopping: false }
    }
}

impl Status {
    pub(crate) fn connected(&self) {
        self.0.lock().disconnected = None;
        metrics::gauge!("batoff_edge_connected").set(1.0);
    }

    pub(crate) fn disconnected(&self, why: &str) {
        self.0.lock().disconnected = Some(why.to_owned());
        metrics::gauge!("batoff_edge_connected").set(0.0);
    }

    /// There are streams to too few of several control planes.
    pub(crate) fn set_lacking(&self, lacking: Option<String>) {
        self.0.lock().lacking = lacking;
    }

    pub(crate) fn set_caught_up(&self, caught_up: bool) {
        self.0.lock().caught_up = caught_up;
    }

    pub(crate) fn leased(&self) {
        self.0.lock().leased_once = true;
    }

    pub(crate) fn stopping(&self) {
        self.0.lock().stopping = true;
    }

    /// Whether the node can do its job.
    ///
    /// An available node that has once caught up stays ready without a control plane: taking all nodes out of rotation
    /// because the control plane is away would make an outage of it. A strict node is ready under its lease.
    pub(crate) fn ready(&self, fence: &Fence) -> Result<(), String> {
        let inner = self.0.lock();
        if inner.stopping {
            return Err("stopping".to_owned());
        }
        let away = inner.lacking.as_ref().or(inner.disconnected.as_ref());
        let away = || away.map(|why| format!(": {why}")).unwrap_or_default();
        if !inner.caught_up {
            return Err(format!("not caught up with the purge log{}", away()));
        }
        match fence.policy() {
            LeasePolicy::Serve if !inner.leased_once => Err(format!("no lease granted yet{}", away())),
            LeasePolicy::Revalidate if !fence.is_leased() => {
                Err(format!("fenced, without a lease{}", away()))
            }
            LeasePolicy::Serve | LeasePolicy::Revalidate => Ok(()),
        }
    }
}
