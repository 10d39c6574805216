//! What happens on the streams, and what is said on them.

use std::time::Duration;

use batoff_delivery::{Feeds, InboxError};
use batoff_types::message::{Ack, FromNode, IndexSize, LeasePolicy, ToNode, Trouble};
use batoff_types::{Body, Cursor, Replica};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tonic::Code;

use super::connect::{self, ConnectError, Stream};
use super::following::Following;
use super::link::{Ended, FeedLink};
use crate::apply::{Order, Outcome};
use crate::fence::Fence;
use crate::state_dir::StateDir;
use crate::{boottime, metrics};

/// Outcomes that are taken over before anything is said, at most: a heartbeat never waits for long.
const OUTCOMES_AT_ONCE: usize = 256;

/// When a heartbeat is tried again for which there was no room on its stream.
const ROOM_WITHIN: Duration = Duration::from_millis(10);

/// When it is tried again to make durable what has to be.
const DISK_AGAIN: Duration = Duration::from_millis(500);

/// What can happen.
pub(super) enum Event {
    Opened(u64, Result<Stream, ConnectError>),
    Message(u64, Result<Option<ToNode>, tonic::Status>),
    Outcome(Outcome),
    RoomForOrders,
    Due,
    TermDurable,
    Reload,
}

impl<L: Clone + Send + Sync + 'static> Following<L> {
    pub(super) async fn next_event(&mut self) -> Event {
        let again_in = self.held.as_ref().map(|_| DISK_AGAIN);
        let due_in = self.next_tending().into_iter().chain(self.next_heartbeat()).chain(again_in).min();
        let Self { with, incoming, attempts, held, .. } = self;
        let feeds = &with.feeds;
        let wants_more = feeds.wants_more();
        // While everything is being dropped, or one is held up by the disk, none are given out.
        let has_orders = feeds.queued() > 0 && feeds.position().is_some() && held.is_none();
        tokio::select! {
            Some(outcome) = with.apply.outcomes.recv() => Event::Outcome(outcome),
            // Not reading is how the control plane learns that this node is slow.
            Some((number, message)) = incoming.next(), if wants_more => Event::Message(number, message),
            Some(attempt) = attempts.join_next() => match attempt {
                Ok((number, outcome)) => Event::Opened(number, outcome),
                // It was given up.
                Err(_) => Event::Due,
            },
            () = sleep(due_in) => Event::Due,
            Ok(_) = with.apply.orders.reserve(), if has_orders => Event::RoomForOrders,
            Ok(()) = with.durable.changed() => Event::TermDurable,
            () = with.reload.notified() => Event::Reload,
        }
    }

    pub(super) fn handle(&mut self, event: Event) {
        match event {
            Event::Opened(number, outcome) => self.opened(number, outcome),
            Event::Message(number, message) => self.handle_message(number, message),
            Event::Outcome(outcome) => self.handle_outcomes(outcome),
            Event::TermDurable => self.renew(),
            Event::RoomForOrders | Event::Due => {}
            // What cannot be used was told by whoever read it; the streams stay.
            Event::Reload => match self.with.credentials.as_ref().map(|credentials| credentials.reload()) {
                None | Some(Ok(_)) => {
                    for number in self.links.keys().copied().collect::<Vec<_>>() {
                        self.lose(number, Ended::Reload);
                    }
                }
                Some(Err(_)) => {}
            },
        }
    }

    fn handle_message(&mut self, number: u64, message: Result<Option<ToNode>, tonic::Status>) {
        let Some(link) = self.links.get_mut(&number) else { return };
        let ended = match (message, link.line) {
            (Ok(Some(ToNode::Welcome(welcome))), None) => {
                self.welcome(number, welcome);
                return self.renew();
            }
            (Ok(Some(ToNode::GoAway(go_away))), None) => Ended::GoAway(go_away),
            (Ok(Some(_)), None) => InboxError::Unexpected("a message before Welcome").into(),
            (Ok(Some(message)), Some(line)) => {
                if std::mem::take(&mut link.is_fresh) && !matches!(message, ToNode::Reset(_)) {
                    link.sites = None;
                }
                let was_of_use = match &message {
                    ToNode::Records(records) => !records.is_empty(),
                    ToNode::LeaseGrant(grant) => !grant.duration.is_zero(),
                    _ => false,
                };
                let aim = link.aim;
                match self.with.feeds.handle(boottime(), line, message) {
                    Ok(()) => {
                        if let Some(way) = self.ways.get_mut(&aim).filter(|_| was_of_use) {
                            way.backoff.reset();
                        }
                        return self.renew();
                    }
                    Err(error) => {
                        if matches!(error, InboxError::Gap { .. }) {
                            ::metrics::counter!("batoff_edge_gaps_total").increment(1);
                            tracing::error!(%error, replica = line.replica.0, "gap in the order of records");
                        }
                        error.into()
                    }
                }
            }
            (Ok(None), _) => Ended::Failed("the control plane closed the stream".to_owned()),
            (Err(status), None) if status.code() == Code::FailedPrecondition => {
                Ended::Refused(connect::refusal(&status))
            }
            (Err(status), _) => Ended::Failed(connect::refusal(&status)),
        };
        self.lose(number, ended);
    }

    /// Takes over what the applier has done, and whatever else it has done meanwhile: all of it goes out with one ack.
    fn handle_outcomes(&mut self, mut outcome: Outcome) {
        for taken in 1.. {
            if let Some(trouble) = self.handle_outcome(outcome) {
                let welcomed = self.links.values().filter_map(FeedLink::welcomed);
                welcomed.for_each(|(_, outgoing)| tell(outgoing, trouble.clone()));
            }
            if taken == OUTCOMES_AT_ONCE {
                return;
            }
            match self.with.apply.outcomes.try_recv() {
                Ok(next) => outcome = next,
                Err(_) => return,
            }
        }
    }

    /// The control plane has answered our `Hello`, so it knows our policy, durably; and everything that it completed
    /// before, while it may have counted us as fenced, is in force here.
    pub(super) fn agree(&mut self) {
        // Once for each set of replicas, and a tiny file: not worth a thread of its own.
        match self.with.state.set_serves_without_lease(Some(self.with.feeds.set())) {
            Ok(()) => {
                self.with.feeds.handle_agreed();
                self.with.fence.agree();
            }
            Err(error) => tracing::error!(
                %error,
                "cannot remember that this node serves without a lease; it stops without one until it can"
            ),
        }
    }

    /// Moves on whatever can move: resets and records to the applier, acks and heartbeats to the control planes.
    pub(super) fn pump(&mut self) {
        self.end_links();
        self.pump_reset();
        while (self.held.is_some() || self.with.feeds.queued() > 0)
            && let Ok(room) = self.with.apply.orders.try_reserve()
            && let Some(received) = self.held.take().or_else(|| self.with.feeds.poll_record())
        {
            if matches!(received.record.body, Body::ReplicaSet(_))
                && !take_back(&self.with.fence, &self.with.state, &mut self.with.feeds)
            {
                self.held = Some(received);
                break;
            }
            self.told.handed(&received);
            room.send(Order::Record(received));
        }
        let replicas: Vec<(u64, Replica)> =
            self.links.iter().filter_map(|(number, link)| Some((*number, link.line?.replica))).collect();
        for (_, replica) in &replicas {
            if let Some(list) = self.with.feeds.poll_replicas(*replica) {
                self.learn(*replica, &list.replicas);
            }
        }
        // An old or empty log is caught up with without a single record.
        if replicas.iter().any(|(_, replica)| self.with.feeds.is_following(*replica)) {
            self.moved();
        }
        self.tell_path();
        let mut has_beaten = false;
        for (number, replica) in replicas {
            has_beaten |= self.say(number, replica);
        }
        if has_beaten {
            self.tell_overflow();
        }
    }

    /// Those whose other end wants so, and those that are of no use any more.
    fn end_links(&mut self) {
        let feeds = &mut self.with.feeds;
        let ended = |(number, link): (&u64, &FeedLink)| {
            let replica = link.line?.replica;
            let ended = match feeds.poll_go_away(replica) {
                Some(go_away) => Ended::GoAway(go_away),
                None if feeds.is_void(replica) => Ended::Void,
                None => return None,
            };
            Some((*number, ended))
        };
        for (number, ended) in self.links.iter().filter_map(ended).collect::<Vec<_>>() {
            self.lose(number, ended);
        }
    }

    fn pump_reset(&mut self) {
        let Some(reset) = self.with.feeds.poll_reset() else { return };
        self.held = None;
        self.with.status.set_caught_up(false);
        self.with.standing.clear();
        self.renew();
        self.store();
        let from = self.with.feeds.reset_from();
        let mut links = self.links.iter_mut();
        let Some((&number, link)) = links.find(|(_, link)| link.line.map(|line| line.replica) == from) else {
            return self.with.feeds.handle_reset_refused();
        };
        let refused = match link.sites.take() {
            None => Ended::SitesUnknown,
            Some(_)
                if !self.with.feeds.has_agreed()
                    && !take_back(&self.with.fence, &self.with.state, &mut self.with.feeds) =>
            {
                Ended::TooBusy
            }
            Some(sites) => match self.with.apply.orders.try_send(Order::Reset { reset, sites }) {
                Ok(()) => return,
                Err(_) => Ended::TooBusy,
            },
        };
        self.with.feeds.handle_reset_refused();
        self.lose(number, refused);
        self.end_links();
    }

    /// Whatever is to be said to one control plane. Gives whether a heartbeat was.
    fn say(&mut self, number: u64, replica: Replica) -> bool {
        let Some(link) = self.links.get_mut(&number) else { return false };
        let Some(outgoing) = &link.outgoing else { return false };
        let feeds = &mut self.with.feeds;
        while let Some(count) = feeds.poll_count(replica) {
            self.counter.ask(count, outgoing);
        }
        while let Ok(room) = outgoing.try_reserve() {
            let Some(ack) = feeds.poll_ack(replica) else { break };
            self.told.acked(replica, ack.cursor);
            room.send(FromNode::Ack(ack));
        }
        let Ok(room) = outgoing.try_reserve() else { return false };
        let Some(mut heartbeat) = feeds.poll_heartbeat(boottime(), replica) else { return false };
        let index = &self.with.index;
        self.told.acked(replica, heartbeat.cursor);
        heartbeat.index = link.told_size.poll_news(heartbeat.sent_at, || {
            let size = index.size();
            IndexSize { objects: size.entries, bytes: size.bytes }
        });
        room.send(FromNode::Heartbeat(heartbeat));
        let leased_for = feeds.granted_until(replica).since(boottime());
        metrics::replica(replica, leased_for, !feeds.fills_in(replica), feeds.arrivals(replica));
        true
    }

    /// When the next heartbeat is due, to whichever replica.
    fn next_heartbeat(&self) -> Option<Duration> {
        let now = boottime();
        let one = |link: &FeedLink| {
            let (line, outgoing) = link.welcomed()?;
            let due_in = self.with.feeds.next_heartbeat_of(line.replica)?.since(now);
            Some(if outgoing.capacity() == 0 { due_in.max(ROOM_WITHIN) } else { due_in })
        };
        self.links.values().filter_map(one).min()
    }

    /// Tells of objects with too many tags, as often as a heartbeat is due. The place beside it is the heartbeat's own. To all
    /// or to none: what was told counts as told.
    fn tell_overflow(&self) {
        let feeds = &self.with.feeds;
        let welcomed = self.links.values().filter_map(FeedLink::welcomed);
        let following = welcomed.filter(|(line, _)| feeds.is_following(line.replica));
        let rooms: Result<Vec<_>, _> = following.map(|(_, outgoing)| outgoing.try_reserve()).collect();
        let Ok(rooms) = rooms else { return };
        if rooms.is_empty() {
            return;
        }
        let overflowed = self.with.overflow.take_news(std::time::Instant::now());
        if !overflowed.is_empty() {
            let cursor: Cursor = feeds.cursor();
            for room in rooms {
                room.send(FromNode::Ack(Ack { cursor, reports: Vec::new(), overflowed: overflowed.clone() }));
            }
        }
    }
}

/// What the control planes know of an available node may be something else to those that count from here on. So it is to agree
/// anew, and that is durable when this returns true, before any of them can be told that the node has come so far.
fn take_back(fence: &Fence, state: &StateDir, feeds: &mut Feeds) -> bool {
    if fence.policy() != LeasePolicy::Serve {
        return true;
    }
    fence.disagree();
    match state.set_serves_without_lease(None) {
        Ok(()) => {
            feeds.handle_disagreed();
            true
        }
        Err(error) => {
            tracing::error!(
                %error,
                "cannot remember that this node has to agree with other control planes; the change of their set waits"
            );
            false
        }
    }
}

pub(super) fn tell(outgoing: &mpsc::Sender<FromNode>, trouble: Trouble) {
    // A stream that is full has more urgent news; the trouble is told again at the next welcome.
    let _ = outgoing.try_send(FromNode::Trouble(trouble));
}

async fn sleep(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}
