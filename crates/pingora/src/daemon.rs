//! The node's daemon as a background service of a pingora server.

use std::path::Path;

use async_trait::async_trait;
use batoff_edge::cache::{Cache, CacheTrouble, Needs, Proof};
use batoff_edge::config::{ControlSection, LeaseSection, NodeSection, PathSection, StateSection};
use batoff_edge::{DaemonConfig, Opened, StartError};
use batoff_index::IndexConfig;
use batoff_program::config::{ConfigError, ConfigFile, load};
use batoff_program::exit::Exit;
use parking_lot::Mutex;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use serde::Deserialize;

use crate::purges::Purges;

/// The sections of the daemon's configuration that a node of this kind has; the rest is the proxy's own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    node: NodeSection,
    control: ControlSection,
    state: StateSection,
    #[serde(default)]
    lease: LeaseSection,
    #[serde(default)]
    path: PathSection,
}

impl ConfigFile for Config {
    fn validate(&self) -> Result<(), ConfigError> {
        self.path.parents(&self.node.name()?)?;
        self.control.validate()
    }
}

/// Reads the configuration (`[node]`, `[control]`, `[state]`, `[lease]` and `[path]` as in `deploy/edge.toml`) and the state:
/// what was in force before the restart is in force when this returns. To be called before anything is served.
///
/// # Errors
/// The configuration or the state directory; the text names what is in the way and the remedy.
pub fn open(config: &Path) -> Result<(Purges, PurgeDaemon), StartError> {
    let config: Config = load(config, &[])?;
    let node = config.node.name()?;
    let daemon = DaemonConfig {
        parents: config.path.parents(&node)?,
        node,
        policy: config.lease.on_lease_lost.policy(),
        control: config.control,
        state_dir: config.state.dir,
    };
    let opened = DaemonConfig::open(daemon, IndexConfig::default())?;
    let purges = Purges::new(opened.index(), opened.fence(), opened.path(), opened.overflow());
    Ok((purges, PurgeDaemon(Mutex::new(Some(opened)))))
}

/// The daemon that [`open`] has opened; runs as a background service, and fences first when the server shuts down.
///
/// Should a part of it end by a defect, it ends the process (70), for its supervisor to start again: without it an
/// available node would serve on for ever what was purged.
pub struct PurgeDaemon(Mutex<Option<Opened<()>>>);

#[async_trait]
impl BackgroundService for PurgeDaemon {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let Some(opened) = self.0.lock().take() else {
            tracing::error!("defect: the daemon was started twice");
            return;
        };
        let daemon = opened.start(vec![Box::new(Unregistered)]);
        let vital = daemon.vital();
        // An error: the server is gone.
        let asked = async { drop(shutdown.wait_for(|stop| *stop).await) };
        tokio::select! {
            () = asked => {}
            () = vital.failed() => std::process::exit(Exit::Internal.code().into()),
        }
        daemon.shutdown().await;
    }
}

/// The proxy's own storage: nothing has to be told to it, because each hit asks the rules.
struct Unregistered;

#[async_trait]
impl Cache<()> for Unregistered {
    fn name(&self) -> &str {
        "pingora"
    }

    fn needs(&self) -> Needs {
        Needs::Nothing
    }

    fn proof(&self) -> Proof {
        Proof::Rule
    }

    async fn flush(&self) -> Result<(), CacheTrouble> {
        Ok(())
    }
}
