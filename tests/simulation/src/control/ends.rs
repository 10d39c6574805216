//! How a control plane ends, and what comes after it.

use std::collections::VecDeque;

use batoff_types::Body;
use batoff_types::message::GoAwayReason;

use crate::world::{Event, FAULTS_END, World, seconds};

impl World {
    pub(crate) fn crash_control(&mut self, down: f64) {
        let Some(control) = self.control.take() else { return };
        self.outcome.faults.control_crashes += 1;
        self.say("control", || {
            format!("FAULT: dies for {down:.3} s, {} appends under way", control.pending.len())
        });
        self.after(down, Event::ControlBack);
        self.commit_some(control.pending);
    }

    /// What was on its way to the disk is there, or is not, up to some place.
    fn commit_some(&mut self, pending: VecDeque<Body>) {
        for body in pending {
            if self.random.chance(0.5) {
                break;
            }
            self.outcome.faults.appends_unknown += 1;
            self.commit(body, false);
        }
    }

    /// The control plane is stopped as it should be, and started again.
    pub(crate) fn drain_control(&mut self, down: f64) {
        if !self.control_runs() || self.log.broken_until > self.now {
            return;
        }
        self.store_cursors();
        let Some(control) = self.control.take() else { return };
        self.outcome.faults.drains += 1;
        self.say("control", || format!("is drained, and away for {down:.3} s"));
        self.after(down, Event::ControlBack);
        for (connection, stream) in control.streams {
            self.send_away(stream.node, connection, GoAwayReason::Draining);
        }
        for body in control.pending {
            self.commit(body, true);
        }
    }

    /// The control plane stands still and loses its disk; another one is started with it. Then the first one wakes up,
    /// with the streams that it had, and some nodes go on connecting to it.
    pub(crate) fn supersede_control(&mut self, takeover: f64, wakes: f64, lives: f64) {
        if !self.control_runs() || self.predecessor.is_some() {
            return;
        }
        let Some(mut control) = self.control.take() else { return };
        self.outcome.faults.takeovers += 1;
        self.say("control", || {
            format!("FAULT: stands still, is replaced after {takeover:.3} s, wakes up after {wakes:.3} s")
        });
        self.commit_some(std::mem::take(&mut control.pending));
        control.frozen_until = self.now + seconds(wakes);
        self.predecessor = Some(control);
        self.after(takeover, Event::ControlBack);
        self.after(wakes, Event::PredecessorWakes);
        let gone = (self.now + seconds(wakes + lives)).min(seconds(FAULTS_END));
        self.at(gone, Event::PredecessorGone);
    }

    pub(crate) fn wake_predecessor(&mut self) {
        self.say("predecessor", || "wakes up".to_owned());
        let mailbox = self.predecessor.as_mut().map(|control| std::mem::take(&mut control.mailbox));
        for (index, connection, message) in mailbox.into_iter().flatten() {
            self.arrive_up(index, connection, message);
        }
    }
}
