//! The whole system in virtual time: one control plane, up to 40 nodes with their caches, a bad network between them, and
//! an oracle that knows what is true.
//!
//! The real state machines run: `Roster`, `Outbox` and `Inbox` of `batoff-delivery`, and the real `Index` of
//! `batoff-index` beside each simulated cache. The log is a plain `Vec`. A seed decides everything, so a run replays
//! exactly. After each step these are checked:
//!
//! - **I1** once a purge is completed, no node that may serve returns an object whose fetch began before it;
//! - **I2** every accepted purge reaches every node, or the node is reset;
//! - **I3** cursors and the watermark never go back, never skip;
//! - **I4** every purge is completed within two seconds of its acceptance, or of the control plane's last start or thaw
//!   (with available nodes: once the faults are over), and no two runs of one node's daemon hold leases of one control
//!   plane at the same time (G4), which is what purges could wait for;
//! - **I5** memory is bounded by configuration.
//!
//! The oracle reads true time and the specification of the selectors, and nothing that the system believes: no token,
//! no cursor, no rule. At each step it looks at every cached object of a node that may serve, not only at those that
//! visitors ask for.
//!
//! Not in it: sockets and codecs (`tests/turmoil`, `tests/faults`), real disks (`crates/log`), hypervisor pauses and clocks
//! that stand still (outside the proof, as README says), a second control plane started while the first one runs: that, and
//! several beside one log, is a world of its own, without caches ([`run_several`]).

mod accept;
mod cache;
mod catalog;
mod control;
mod faults;
pub mod globe;
mod log;
mod network;
mod node;
mod oracle;
mod profile;
mod random;
mod report;
mod several;
mod shield;
mod switch;
mod tiers;
mod trace;
mod twin;
mod visitors;
mod world;

pub use self::oracle::Violation;
pub use self::profile::Profile;
pub use self::report::{Faults, Outcome, Summary};
pub use self::several::{
    SeveralOptions, SeveralOutcome, SeveralSummary, Temper, run_several, search_several,
};
pub use self::switch::Switch;

/// How to make a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// The rule to leave out, if any. Those of the state machines need the feature `mutations`.
    pub without: Option<Switch>,
    /// Its faults; `None`: the seed chooses.
    pub profile: Option<Profile>,
    /// Print what happens, a line each.
    pub trace: bool,
}

/// Makes one run.
pub fn run(seed: u64, options: Options) -> Outcome {
    world::World::new(seed, options).run()
}

/// Makes runs until one is violated, or all are made.
pub fn search(seeds: std::ops::Range<u64>, options: Options) -> Summary {
    let mut summary = Summary::default();
    for seed in seeds {
        summary += run(seed, options);
        if !summary.bad.is_empty() {
            break;
        }
    }
    summary
}
