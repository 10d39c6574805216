//! A client of an etcd cluster: one connection an endpoint, one endpoint at a time, and the next one when it fails.
//!
//! A call is sent once and its failure says whether it may have been carried out ([`EtcdError`]): what may be repeated is
//! known only to the caller. A member that is frozen accepts connections and answers nothing, so each call has a time, and
//! whoever exceeds it is left for the next endpoint.

mod call_error;
mod calls;
mod connect;
mod watch;

pub(crate) use self::call_error::{EtcdError, RETRY_AFTER};
pub(crate) use self::calls::EtcdClient;
pub(crate) use self::watch::{EtcdWatch, WatchNews};
