//! The control plane: takes purges in, puts them into one order, sends them to every node, and knows when they are done.
//!
//! | module | answers |
//! | --- | --- |
//! | [`api`] | What may a customer ask, and in which words do we answer? |
//! | [`admin`] | The same for the operator: sites, tokens, nodes. |
//! | [`accounts`] | Who signs in to the console, and what may he do there? |
//! | [`console`] | The pages in a browser: are purges fast, is this one gone, who is late and why? |
//! | [`audit`] | Who did what, from where, when, and with which result? |
//! | [`catalog`] | Who are the customers: sites, hostnames, tokens? |
//! | [`commit`] | May this purge go into the log now? |
//! | [`feed`] | What does the log say next? Tells catalog, tracker and hub, in that order. |
//! | [`engine`] | Where is the purge log: in the data folder, or in etcd? |
//! | [`seat`] | Which of the control planes beside one log is this one, and may it act? |
//! | [`hub`] | The newest records, encoded once for all nodes. |
//! | [`revoked`] | Which certificates are not believed any more? |
//! | `rounds` | When are the streams woken? |
//! | [`stream`] | The nodes' end: gRPC, identities, one position a node. |
//! | `alike` | Which settings must all replicas have alike, and how is that found out without telling them? |
//! | [`tracker`] | Which purge is where, and when is it completed? The clocked shell of `batoff_delivery::Roster`. |
//! | [`overview`] | Is all well, and if not, what needs attention? |
//! | [`backup`] | How is the data folder copied while this runs, and one made of the copy? |
//! | [`doctor`] | Does this machine, as it is configured, carry a control plane? |
//! | [`housekeeping`] | What may be forgotten? |
//! | `store` | What do the log and the small records beside it say? |
//!
//! [`server`] puts them together. **Invariants, by what is absent:** no rule of the delivery protocol is decided here
//! (that is `batoff_delivery`), no message of it is encoded here (that is `batoff_wire`), and nothing is queued per node.

pub mod accounts;
pub mod admin;
mod alike;
pub mod api;
pub mod audit;
pub mod backup;
pub mod catalog;
pub mod clock;
pub mod commit;
pub mod config;
pub mod console;
pub mod doctor;
pub mod engine;
mod exit;
pub mod feed;
mod handshakes;
pub mod housekeeping;
pub mod http_server;
pub mod hub;
pub mod ids;
pub mod init;
pub mod language;
pub mod metrics;
pub mod migrate;
pub mod ops;
pub mod overview;
mod own_threads;
pub mod revoked;
mod rounds;
pub mod seat;
pub mod server;
pub mod service;
mod store;
pub mod stream;
pub mod tls;
pub mod tracker;

#[cfg(test)]
mod tests;
