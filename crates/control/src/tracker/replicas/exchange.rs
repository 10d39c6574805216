//! How replicas tell one another what each has stated: in passing, through the store. What is lost, late or repeated does no
//! harm, for a statement stays true.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use batoff_delivery::NodeState;
use batoff_log::PresenceEvent;
use batoff_types::Replica;
use batoff_types::message::LeasePolicy;
use bytes::Bytes;
use futures_util::StreamExt;

use super::rows::StatementRow;
use super::settings::SettingMarks;
use crate::metrics;
use crate::store::rows::json;
use crate::tracker::Tracker;

/// What is stated within so much time is told together.
const COALESCE: Duration = Duration::from_millis(20);

/// How often a replica that has nothing new to state says that it is there.
const BEAT_EVERY: Duration = Duration::from_secs(1);

/// How long to wait before the others are listened to anew.
const RETRY_AFTER: Duration = Duration::from_millis(200);

impl Tracker {
    /// Tells the others what this replica states; until the process stops.
    pub(crate) async fn run_statements(self: Arc<Self>) {
        if self.is_alone() {
            return self.stopping.cancelled().await;
        }
        let mut tick = tokio::time::interval(BEAT_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut said = StatementRow { version: env!("CARGO_PKG_VERSION").into(), ..StatementRow::default() };
        loop {
            tokio::select! {
                () = self.publish.notified() => {}
                _ = tick.tick() => {
                    self.count_strict(&mut said);
                    said.settings = Some(SettingMarks::clone(&self.settings));
                }
                () = self.stopping.cancelled() => return,
            }
            {
                let state = self.state.lock();
                said.replica = state.quorum.own().0;
                said.through = state.quorum.stated().map(|through| through.get());
                said.tail = state.roster.tail().get();
                said.term = state.roster.term().0;
            }
            said.beat += 1;
            said.at = self.clock.wall().0;
            // Each replica's shard is its own number: so those of one process, in tests, do not overwrite one another.
            let shard = u16::from(said.replica);
            if let Err(error) = self.store.presence().publish(shard, Bytes::from(json(&said))).await {
                tracing::debug!(%error, "what this replica states is not told yet");
            }
            self.state.lock().quorum.handle_published(said.clone(), self.clock.now());
            said.settings = None;
            tokio::select! {
                () = tokio::time::sleep(COALESCE) => {}
                () = self.stopping.cancelled() => return,
            }
        }
    }

    fn count_strict(&self, said: &mut StatementRow) {
        let now = self.clock.now();
        let state = self.state.lock();
        let mut strict = (0, 0);
        let mut untold = 0;
        for view in state.roster.nodes(now) {
            untold += u32::from(view.policy.is_none());
            if view.policy == Some(LeasePolicy::Revalidate) {
                strict.0 += 1;
                strict.1 += u32::from(view.state == NodeState::Leased);
            }
        }
        (said.strict, said.leased) = strict;
        said.untold = untold;
    }

    /// Brings the gauges over replicas up to date.
    pub(in crate::tracker) fn show_replicas(&self) {
        if self.is_alone() {
            return;
        }
        let now = self.clock.now();
        let state = self.state.lock();
        let (done, tail) = (state.quorum.statements().done(), state.roster.tail());
        let heard: Vec<_> =
            state.quorum.heard().map(|(of, heard)| (of, heard.said.through, now.since(heard.at))).collect();
        let members = state.quorum.statements().sets().newest().1.clone();
        drop(state);
        let mut shown = self.shown_replicas.lock();
        shown.extend(members.members().iter().copied().chain(heard.iter().map(|(of, ..)| *of)));
        for replica in &*shown {
            metrics::replica_counts(*replica, members.contains(*replica));
        }
        drop(shown);
        metrics::done(done, tail.get().saturating_sub(done.get()));
        for (replica, stated, silent) in heard {
            metrics::replica_heard(replica, stated, silent);
        }
        self.show_settings();
    }

    /// Tells figures and the log which settings of other replicas differ from those here.
    fn show_settings(&self) {
        let apart: BTreeSet<(Replica, String)> = self.settings_apart().into_iter().collect();
        let mut shown = self.shown_apart.lock();
        for (replica, setting) in shown.difference(&apart) {
            metrics::replica_differs(*replica, setting, false);
            tracing::info!(%replica, setting, "this control plane and another have a setting alike again, or the other is gone");
        }
        for (replica, setting) in &apart {
            metrics::replica_differs(*replica, setting, true);
        }
        for (replica, setting) in apart.difference(&shown) {
            tracing::warn!(
                %replica,
                setting,
                "this control plane and another differ in a setting that all must have alike: what one answers, the other may \
                 refuse; give all the same, and start those again that were changed"
            );
        }
        *shown = apart;
    }

    /// Hears what the others state; until the process stops.
    pub(crate) async fn run_listener(self: Arc<Self>) {
        if self.is_alone() {
            return self.stopping.cancelled().await;
        }
        loop {
            let mut peers = self.store.presence().peers();
            loop {
                let event = tokio::select! {
                    event = peers.next() => event,
                    () = self.stopping.cancelled() => return,
                };
                match event {
                    Some(PresenceEvent::Update { shard, body, .. }) => self.hear_statement(shard, &body),
                    // What was heard stays true.
                    Some(PresenceEvent::Up(_) | PresenceEvent::Down(_)) => {}
                    None => break,
                }
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY_AFTER) => {}
                () = self.stopping.cancelled() => return,
            }
        }
    }

    fn hear_statement(&self, shard: u16, body: &[u8]) {
        match serde_json::from_slice::<StatementRow>(body) {
            Ok(said) if u16::from(said.replica) == shard => {
                self.step(|state, now, _| state.quorum.handle_statement(now, said));
            }
            Ok(_) | Err(_) => {
                tracing::warn!(
                    shard,
                    "what a replica says is no statement; it counts as if it had not been said"
                );
            }
        }
    }
}
