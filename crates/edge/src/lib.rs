//! The edge daemon: takes purges from the control plane and makes them true on one node.
//!
//! ```text
//!  control plane ⇄ follow ──▶ apply ──▶ index (rule in force) ──▶ caches (objects out)
//!                    │ lease                                         │
//!                    ▼                                               ▼
//!                  fence ◀── may_serve() ── hit path of a cache    ack ──▶ control plane
//! ```
//!
//! A cache in the same process embeds it: [`DaemonConfig::open`] gives the index to register objects in and to ask at each
//! hit, [`Opened::start`] connects, and [`DaemonHandle::may_serve`] is the last question before an object goes out.
//!
//! It is not: the log, the order of purges, or what a purge hits. Those come from the control plane, `batoff-delivery`
//! and `batoff-index`; here are the sockets, the clock and the disk around them.

mod apply;
mod boottime;
pub mod cache;
pub mod certs;
pub mod config;
mod credentials;
mod daemon;
mod exit;
mod fence;
mod follow;
mod forget;
mod in_process;
pub mod metrics;
mod overflow;
mod path;
mod provenance;
mod saver;
mod standing;
mod state_dir;
mod status;

pub use self::boottime::boottime;
#[cfg(feature = "virtual-time")]
pub use self::boottime::show_on_this_thread;
pub use self::daemon::{DaemonConfig, DaemonHandle, Opened, StartError};
pub use self::fence::Fence;
pub use self::follow::{ControlAnswer, Dial, Dialing};
pub use self::forget::FILL_MAX_CROWDED;
pub use self::in_process::{Evict, InProcess};
pub use self::overflow::Overflow;
pub use self::path::{Path, PathChanges, STALE, X_BATOFF_STALE, is_marked_stale, marks_of_another_cache};
pub use self::provenance::{Identity, InvalidIdentity, Provenance};
pub use self::standing::Standing;
pub use self::state_dir::{StateError, StateSeen};
