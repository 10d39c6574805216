//! The control plane as a whole: a real store in a temporary folder, real sockets on loopback, nodes played by hand.

mod administration;
mod audit;
mod connections;
mod console;
mod delivery;
mod described;
#[path = "../tests/api/faulty_store.rs"]
mod faulty_store;
mod late_reports;
mod majority;
mod migrate;
mod node;
mod overview;
mod plane;
mod propagation;
mod restart;
mod retention;
mod seats;
mod several;
mod sla;
mod strangers;
mod subscriptions;
mod three;
mod tiers;
mod tls;
mod users;
