//! What the operator wrote of the daemon, section by section; [`batoff_program::config`] reads it.

use std::path::PathBuf;

pub use batoff_program::config::ConfigError;
use batoff_types::NodeName;
use batoff_types::message::LeasePolicy;
use serde::Deserialize;

mod control;
mod path;

pub use self::control::{ControlSection, Endpoint, FeedsSetting};
pub use self::path::PathSection;

/// `[node]`: who this is. It must be what the certificate says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSection {
    /// The PoP: 1 to 64 of `a-z 0-9 -`.
    pub pop: String,
    /// The node's name in its PoP: 1 to 64 of `a-z 0-9 -`.
    pub node: String,
}

/// `[state]`: where the cursor, the rules and the generation outlive the process.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateSection {
    /// A directory of this node's own; made when it does not exist.
    pub dir: PathBuf,
}

/// `[lease]`
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseSection {
    /// What to do with cached objects when the lease has run out.
    #[serde(default)]
    pub on_lease_lost: OnLeaseLost,
}

/// What a node does with its cached objects when it has no lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnLeaseLost {
    /// `"serve"`: goes on serving.
    #[default]
    Serve,
    /// `"revalidate"`: asks the origin about each object before it is served.
    Revalidate,
}

impl NodeSection {
    /// The name, checked.
    pub fn name(&self) -> Result<NodeName, ConfigError> {
        NodeName::new(&self.pop, &self.node).map_err(|error| ConfigError::invalid("node", error.to_string()))
    }
}

impl OnLeaseLost {
    /// As the control plane is told.
    pub const fn policy(self) -> LeasePolicy {
        match self {
            Self::Serve => LeasePolicy::Serve,
            Self::Revalidate => LeasePolicy::Revalidate,
        }
    }
}
