//! The HTTP API of Batoff Purge, as a Rust SDK: signing, submitting, waiting.
//!
//! ```no_run
//! use std::time::Duration;
//! use batoff_client::{Client, Credentials, Endpoint, PurgeRequest};
//!
//! # async fn story() -> Result<(), batoff_client::Error> {
//! let api = Endpoint::new("https://purge.example.net/v1")?;
//! let client = Client::new(api, Credentials::new("bto_live_…", "bts_live_…"))?;
//! let task = client.submit("shop", &PurgeRequest::default().url("https://www.example.com/")).await?;
//! let task = client.wait("shop", &task.task_id, Duration::from_secs(10)).await?;
//! assert!(task.is_completed());
//! # Ok(()) }
//! ```
//!
//! **It is not:** a queue. Nothing is remembered between calls; what was not accepted is the caller's to send again.
//! A submission is signed once, and all its retries carry the same bytes, so the control plane takes it once.
//!
//! **Several control planes** over one store: name them all, `Endpoint::new("https://cp1.example.net,https://cp2.example.net")`.
//! One is asked as long as it answers. When it does not (no connection, 502, 503, 504, no answer in time) the same bytes go
//! to the next, at once; a purge stays one purge, for each submission then has an `Idempotency-Key`. Waiting for a task goes
//! on with another, and so do events: call [`Client::events`] again with [`Events::last_id`].

mod admin;
mod client;
mod credentials;
mod endpoint;
mod error;
mod events;
mod problem;
mod propagation;
mod reply;
mod request;
mod retry;
mod signature;
mod sla;
mod sse;
mod task;

pub use self::admin::{
    AddedUser, AdminClient, AuditExport, AuditFlaw, AuditQuery, AuditRecord, AuditVerdict, CacheReport,
    ConcernReport, FleetReport, HourReport, IssueToken, IssuedToken, NewSite, NewUser, NodeReport, Nodes,
    OverviewReport, ReplicaReport, ReplicaSetWritten, ReplicasReport, Site, SiteLimits, SiteOverflow,
    SitePatch, SlowestReport, TokenReport, UserPatch, UserReport,
};
pub use self::client::{Client, Submission};
pub use self::credentials::Credentials;
pub use self::endpoint::Endpoint;
pub use self::error::Error;
pub use self::events::Events;
pub use self::problem::{Problem, ProblemItem};
pub use self::propagation::{NodeSpread, PopSpread, Spread};
pub use self::request::{ITEMS_PER_REQUEST_MAX, PREFIXES_PER_REQUEST_MAX, PurgeRequest, REQUEST_BYTES_MAX};
pub use self::retry::Retry;
pub use self::signature::{SIGNATURE_HEADER, TIMESTAMP_HEADER, Timestamp, sign};
pub use self::sla::{Breach, LateNode, Percentiles, Sla};
pub use self::task::{
    Counts, DryRun, DryRunItem, DryRunNodes, Include, Item, ListQuery, Page, PopReport, State, Task, WAIT_MAX,
};
