//! Whether this run of a daemon knows all that the node may be counted on for.
//!
//! A daemon begins where it stored its state last. That may lie before what its predecessor has acknowledged, or before
//! what was completed while the node counted as fenced. So until it has applied all that there was when the control plane
//! welcomed it, it must not serve without a lease if that is new, and vouches for nothing.

use batoff_types::message::{Reset, Welcome};
use batoff_types::{Cursor, LogId};

use crate::rules::{Rule, RuleSet};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct CatchUp {
    goal: Option<Goal>,
    is_done: bool,
}

/// What has to be applied.
#[derive(Clone, Copy, Debug)]
struct Goal {
    log_id: LogId,
    tail: Cursor,
    /// The control plane has taken our position for a place in this log. Before that it may be a place in another one, and
    /// the numbers say nothing.
    is_ours: bool,
}

impl CatchUp {
    pub(super) const fn is_done(&self) -> bool {
        self.is_done
    }

    /// The control plane has answered the `Hello`. The latest goal counts until one is reached.
    pub(super) fn handle_welcome(&mut self, welcome: &Welcome, rules: RuleSet) {
        if !rules.in_force(Rule::CaughtUp) {
            self.is_done = true;
        }
        if !self.is_done {
            self.goal = Some(Goal { log_id: welcome.log_id, tail: welcome.tail, is_ours: false });
        }
    }

    /// Something else than a reset came after the `Welcome`.
    pub(super) fn handle_accepted(&mut self) {
        if let Some(goal) = &mut self.goal {
            goal.is_ours = true;
        }
    }

    /// Everything goes; the place that the node gets is one in this log.
    pub(super) fn handle_reset(&mut self, reset: &Reset) {
        self.is_done = false;
        let known =
            self.goal.filter(|goal| goal.log_id == reset.log_id).map_or(Cursor::START, |goal| goal.tail);
        self.goal = Some(Goal { log_id: reset.log_id, tail: known.max(reset.cursor), is_ours: true });
    }

    /// The node has applied everything before this place.
    pub(super) fn handle_moved(&mut self, cursor: Cursor, rules: RuleSet) {
        let in_log = |goal: &mut Goal| goal.is_ours || !rules.in_force(Rule::CaughtUpInLog);
        if self.goal.take_if(|goal| in_log(goal) && cursor >= goal.tail).is_some() {
            self.is_done = true;
        }
    }
}
