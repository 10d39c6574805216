//! How requests become records: the commit queue, and what each record should do.

use batoff_types::{Body, Purge};

use crate::catalog::Hits;
use crate::oracle::Truth;
use crate::profile::Profile;
use crate::world::{Event, World};

impl World {
    /// A client asks, and the next one is about to.
    pub(crate) fn purge(&mut self) {
        self.ask();
        let means: &[f64] = match self.profile {
            Profile::Everything => &[0.004, 0.05, 0.05, 0.5, 0.5, 0.5],
            Profile::Relapses => &[1.0],
        };
        let mean = self.random.pick(means);
        let next = self.random.around(mean);
        self.after(next, Event::Purge);
    }

    /// A client asks.
    pub(crate) fn ask(&mut self) {
        if self.control_runs() {
            let body = self.request();
            self.submit(body);
        }
    }

    fn request(&mut self) -> Body {
        if self.random.chance(0.002) {
            return Body::Unknown;
        }
        let soft = self.random.chance(0.3);
        let (site, selectors) = self.catalog.selectors(&mut self.random);
        Body::Purge(Purge { site, selectors, soft })
    }

    pub(crate) fn submit(&mut self, body: Body) {
        let takes = if self.random.chance(0.9) { 0.0005 } else { self.random.between(0.001, 0.03) };
        let term = self.term;
        if let Some(control) = &mut self.control {
            control.pending.push_back(body);
            self.after(takes, Event::Flushed { term });
        }
    }

    /// A flush ended: everything that waited for it is durable, or nothing is.
    pub(crate) fn flushed(&mut self, term: u64) {
        if self.term != term || self.control.is_none() {
            return;
        }
        if !self.control_runs() {
            let thawed = self.control_frozen_until();
            return self.at(thawed, Event::Flushed { term });
        }
        if self.log.broken_until > self.now {
            if self.random.chance(0.1) {
                // Nobody knows what is on the disk; only a start can tell.
                let down = self.random.between(0.05, 0.4);
                return self.crash_control(down);
            }
            if let Some(control) = &mut self.control {
                control.pending.clear();
            }
            return;
        }
        let pending = self.control.as_mut().map(|control| std::mem::take(&mut control.pending));
        for body in pending.into_iter().flatten() {
            self.commit(body, true);
        }
        self.announce();
    }

    /// A record is durable. `promised`: and the client hears of it.
    pub(crate) fn commit(&mut self, body: Body, promised: bool) {
        let sites = self.log.sites_at(self.log.tail());
        let (soft, hits) = match &body {
            Body::Purge(purge) => (purge.soft, self.catalog.hits(&sites, &purge.site, &purge.selectors)),
            Body::Site(change) => (false, vec![self.catalog.hits_of_hosts(&change.affected)]),
            Body::Unknown => (false, vec![Hits::all()]),
            Body::NodeRegistered(_) | Body::NodeRemoved(_) | Body::ReplicaSet(_) => (false, Vec::new()),
        };
        let seq = self.log.append(body, self.now).seq;
        let (accepted, what) = (self.now, &self.log.range(seq, seq)[0].body);
        for (index, node) in self.nodes.iter().enumerate().take(self.ledger.nodes.len()) {
            match what {
                Body::NodeRegistered(name) if *name == node.name => self.ledger.register(index, seq),
                Body::NodeRemoved(name) if *name == node.name => self.ledger.nodes[index].removed = true,
                _ => {}
            }
        }
        self.trace.line(self.now, "log", || format!("#{seq} accepted: {what:?}, promised: {promised}"));
        let seq = seq.get();
        self.oracle.accepted(Truth { seq, accepted, completed: None, promised, lost: false, soft, hits });
    }

    /// A node is decommissioned, or admitted again. Only strict ones: removing an available node needs force, and
    /// whoever uses that has been told what it means.
    pub(crate) fn toggle_registration(&mut self, index: usize) {
        let index = self.nodes[index].identity;
        let node = &self.nodes[index];
        let strict = node.policy == batoff_types::message::LeasePolicy::Revalidate;
        if !self.control_runs() || self.log.broken_until > self.now || !strict {
            return;
        }
        self.outcome.faults.registrations += 1;
        let (name, policy, now) = (node.name.clone(), node.policy, self.now);
        let removed = self.ledger.nodes[index].removed;
        let body = if removed { Body::NodeRegistered } else { Body::NodeRemoved };
        self.commit(body(name.clone()), true);
        let tail = self.log.tail();
        if let (Some(control), Some(seq)) = (&mut self.control, tail.last()) {
            let moment = control.clock(now);
            control.roster.handle_appended(moment, tail);
            if removed {
                control.believed.remove(&index);
                control.roster.handle_registered(moment, &name, seq, Some(policy));
            } else {
                control.roster.handle_removed(moment, &name);
            }
        }
        if !removed {
            self.dismiss(index);
        }
        self.announce();
    }

    /// A host goes from one site to the other: two records.
    pub(crate) fn move_host(&mut self) {
        if !self.control_runs() || self.log.broken_until > self.now {
            return;
        }
        self.outcome.faults.hosts_moved += 1;
        let sites = self.log.sites_at(self.log.tail());
        for change in self.catalog.move_host(&sites) {
            self.commit(Body::Site(change), true);
        }
        self.announce();
    }
}
