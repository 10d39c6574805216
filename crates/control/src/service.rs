//! What the APIs answer from.

use std::sync::Arc;

use batoff_log::Store;
use batoff_program::traces::{Exporter, Traces};
use batoff_types::LogId;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::accounts::Accounts;
use crate::audit::Audit;
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::commit::Commit;
use crate::config::Config;
use crate::hub::Hub;
use crate::ids::TaskIds;
use crate::overview::Overviews;
use crate::revoked::Revoked;
use crate::seat::{ReplicaPlaces, Tenure};
use crate::tls::OwnCertificates;
use crate::tracker::Tracker;

/// Everything that the APIs answer from. `api::router(Arc<Services>)` and `admin::router(Arc<Services>)` take it.
pub struct Services {
    /// As loaded and checked.
    pub config: Arc<Config>,
    /// Monotonic and wall time.
    pub clock: Clock,
    /// New task ids (request ids may be made from them too).
    pub ids: Arc<TaskIds>,
    /// Which replica this is, and whether it may act.
    pub tenure: Tenure,
    /// Where nodes reach it, and others beside it.
    pub places: Arc<ReplicaPlaces>,
    /// Which log it is.
    pub log_id: LogId,
    /// Log, small records, health of both.
    pub store: Arc<dyn Store>,
    /// Sites and tokens.
    pub catalog: Arc<Catalog>,
    /// Who signs in to the console.
    pub accounts: Arc<Accounts>,
    /// The way into the log.
    pub commit: Arc<Commit>,
    /// Who did what.
    pub audit: Arc<Audit>,
    /// Where each purge is.
    pub tracker: Arc<Tracker>,
    /// Is all well?
    pub overview: Arc<Overviews>,
    /// The certificates of our listeners.
    pub certificates: Arc<OwnCertificates>,
    /// Nodes' certificates that are not believed any more.
    pub revoked: Arc<Revoked>,
    /// The newest records, encoded.
    pub hub: Arc<Hub>,
    /// Where what became of traced purges is told.
    pub traces: Traces,
    /// Brings it to the collector.
    pub exporter: Exporter,
    /// SHA-256 of the operator's token.
    pub admin_token: [u8; 32],
    /// The threads of customers who wait or listen, apart from those that accept purges and follow the log.
    pub followers: Handle,
    /// Cancelled when the process begins to drain: long polls and event streams end, submissions get 503.
    pub draining: CancellationToken,
}
