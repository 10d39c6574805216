//! Where does a control plane listen, and how many may connect?

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use batoff_program::descriptors;
use batoff_program::gate::{Gate, Limits};
use batoff_program::listen::bind;
use batoff_program::monitor;
use tokio::net::TcpListener;

use super::start_error::StartError;
use crate::config::Config;

/// Connections of operators at one time.
const ADMIN_CONNECTIONS: usize = 128;

/// Connections of browsers to the console at one time.
const CONSOLE_CONNECTIONS: usize = 1_024;

/// Where the listeners are.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// The customers' API.
    pub api: SocketAddr,
    /// The operator's API.
    pub admin: SocketAddr,
    /// The console.
    pub console: SocketAddr,
    /// The nodes' stream.
    pub grpc: SocketAddr,
    /// Metrics and health.
    pub metrics: SocketAddr,
}

impl Addresses {
    /// The line for whoever started the program.
    pub fn announcement(&self) -> serde_json::Value {
        let Self { api, admin, console, grpc, metrics } = self;
        serde_json::json!({
            "api": api, "admin": admin, "console": console, "grpc": grpc, "metrics": metrics, "pid": std::process::id()
        })
    }
}

/// The listeners, bound; that of metrics and health apart, which is there before them.
pub(super) struct Listeners {
    pub(super) api: TcpListener,
    pub(super) admin: TcpListener,
    pub(super) console: TcpListener,
    pub(super) grpc: TcpListener,
}

impl Listeners {
    pub(super) async fn bind(config: &Config) -> Result<Self, StartError> {
        Ok(Self {
            api: bind("api.listen", config.api.listen).await?,
            admin: bind("admin.listen", config.admin.listen).await?,
            console: bind("console.listen", config.console.listen).await?,
            grpc: bind("grpc.listen", config.grpc.listen).await?,
        })
    }

    pub(super) fn addresses(&self, config: &Config, metrics: SocketAddr) -> Addresses {
        let of = |listener: &TcpListener, configured| listener.local_addr().unwrap_or(configured);
        Addresses {
            api: of(&self.api, config.api.listen),
            admin: of(&self.admin, config.admin.listen),
            console: of(&self.console, config.console.listen),
            grpc: of(&self.grpc, config.grpc.listen),
            metrics,
        }
    }
}

/// The connections that are configured of API, admin API, console, gRPC and metrics.
pub(crate) fn wanted_connections(config: &Config) -> [usize; 5] {
    let nodes = config.limits.node_connections;
    // Nodes that connect anew have two for a moment, and strangers are looked at before they are sent away.
    let nodes = nodes + nodes / 8 + 256;
    let customers = config.listeners.connections_max;
    [customers, ADMIN_CONNECTIONS, CONSOLE_CONNECTIONS, nodes, monitor::CONNECTIONS_MAX]
}

/// The connections of API, admin API, console, gRPC and metrics: as many as wanted, or their parts of what the system lets this
/// process have, so that no listener takes the last descriptor from another.
pub(super) fn gates(config: &Config) -> [Arc<Gate<IpAddr>>; 5] {
    let wanted = wanted_connections(config);
    let limit = descriptors::raise();
    let shares = descriptors::divide(limit, wanted);
    let [api, admin, console, grpc, metrics] = shares;
    if shares != wanted {
        tracing::warn!(
            limit,
            api,
            admin,
            console,
            grpc,
            metrics,
            "not enough files may be open for all connections that are configured; raise the limit (LimitNOFILE=, ulimit -n)"
        );
    }
    // Nodes are told apart by their certificates, and may share an address.
    let nodes = Limits { total: grpc, each: grpc };
    let gate = |name, total| Gate::new(name, Limits::of(total));
    let api = Gate::new("api", config.listeners.limits(api));
    [api, gate("admin", admin), gate("console", console), Gate::new("grpc", nodes), gate("metrics", metrics)]
}
