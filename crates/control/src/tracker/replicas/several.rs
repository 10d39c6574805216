//! What a control plane is told of others when it starts.

use std::sync::Arc;

use batoff_types::{Replica, ReplicaSet};

use super::settings::SettingMarks;

/// One of the control planes that may stand beside one log.
#[derive(Clone, Debug)]
pub struct Several {
    /// Which this is.
    pub own: Replica,
    /// Those that count when the log begins. In a log that has begun it says nothing any more.
    pub first: ReplicaSet,
    /// Its settings that all must have alike.
    pub settings: Arc<SettingMarks>,
}
