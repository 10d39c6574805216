//! A stream from its `Hello` to its end.

use std::time::Duration;

use batoff_delivery::InboxError;
use batoff_types::Moment;
use batoff_types::message::{Ack, FromNode, GoAway, IndexSize, ToNode, Trouble, Welcome};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::connect::{self, ConnectError, Stream, WELCOME_MAX};
use super::following::Following;
use super::index_size::ToldSize;
use crate::apply::{Order, Outcome};
use crate::boottime;

/// Outcomes that are taken over before anything is said, at most: a heartbeat never waits for long.
const OUTCOMES_AT_ONCE: usize = 256;

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("{0}")]
    Connect(ConnectError),
    #[error("{0}")]
    Failed(String),
    #[error("{0}")]
    Inbox(#[from] InboxError),
    #[error("the control plane asked to reconnect ({:?})", .0.reason)]
    GoAway(GoAway),
    #[error("reset in the middle of a stream; connecting again for the sites as of there")]
    SitesUnknown,
    #[error("the certificates are to be read again")]
    Reload,
}

/// What can happen on a stream.
enum Event {
    Message(Result<Option<ToNode>, tonic::Status>),
    Outcome(Outcome),
    RoomForOrders,
    HeartbeatDue,
    TermDurable,
    Silence,
    NotWelcomed,
    Reload,
}

impl<L: Clone + Send + Sync + 'static> Following<L> {
    pub(super) async fn session(&mut self, mut stream: Stream) -> Ended {
        let mut welcomed = false;
        let opened = Instant::now();
        loop {
            if !self.with.inbox.wants_more() {
                // It is us who do not listen.
                self.with.inbox.handle_not_read(boottime());
            }
            let welcome_until = (!welcomed).then_some(opened + WELCOME_MAX);
            match self.next_event(&mut stream, welcome_until).await {
                Event::Message(Ok(Some(message))) => {
                    if let Err(error) = self.with.inbox.handle(boottime(), message) {
                        if matches!(error, InboxError::Gap { .. }) {
                            ::metrics::counter!("batoff_edge_gaps_total").increment(1);
                            tracing::error!(%error, "gap in the order of records");
                        }
                        return error.into();
                    }
                    if let Some(welcome) = self.with.inbox.poll_welcome() {
                        welcomed = true;
                        self.handle_welcome(welcome, &stream.outgoing);
                    }
                    self.renew();
                }
                Event::Message(Ok(None)) => {
                    return Ended::Failed("the control plane closed the stream".to_owned());
                }
                Event::Message(Err(status)) => return Ended::Failed(connect::refusal(&status)),
                Event::Outcome(outcome) => {
                    self.handle_outcomes(outcome, welcomed.then_some(&stream.outgoing));
                }
                Event::TermDurable => self.renew(),
                Event::RoomForOrders | Event::HeartbeatDue => {}
                Event::Silence => {
                    return Ended::Failed(format!(
                        "no answer for {:.1} s",
                        self.with.inbox.silence_max().as_secs_f64()
                    ));
                }
                Event::NotWelcomed => {
                    return Ended::Failed(format!("no Welcome within {} s", WELCOME_MAX.as_secs()));
                }
                // What cannot be used was told by whoever read it; the stream stays.
                Event::Reload => match self.with.credentials.as_ref().map(|credentials| credentials.reload())
                {
                    None | Some(Ok(_)) => return Ended::Reload,
                    Some(Err(_)) => continue,
                },
            }
            if let Some(ended) = self.pump(&stream.outgoing) {
                return ended;
            }
        }
    }

    async fn next_event(&mut self, stream: &mut Stream, welcome_until: Option<Instant>) -> Event {
        let inbox = &self.with.inbox;
        let wants_more = inbox.wants_more();
        let heartbeat_in = inbox.next_heartbeat_at().map(|at| at.since(boottime()));
        let silent_in = inbox.silent_at().map(|at| at.since(boottime()));
        tokio::select! {
            Some(outcome) = self.with.apply.outcomes.recv() => Event::Outcome(outcome),
            // Not reading is how the control plane learns that this node is slow.
            message = stream.incoming.message(), if wants_more => Event::Message(message),
            () = sleep(heartbeat_in) => Event::HeartbeatDue,
            Ok(_) = self.with.apply.orders.reserve(), if inbox.queued() > 0 => Event::RoomForOrders,
            Ok(()) = self.with.durable_term.changed() => Event::TermDurable,
            () = self.with.reload.notified() => Event::Reload,
            () = sleep(silent_in) => Event::Silence,
            () = sleep_until(welcome_until) => Event::NotWelcomed,
        }
    }

    fn handle_welcome(&mut self, welcome: Welcome, outgoing: &mpsc::Sender<FromNode>) {
        tracing::info!(
            log_id = %welcome.log_id,
            term = welcome.term.0,
            tail = %welcome.tail,
            cursor = %self.with.inbox.cursor(),
            "connected to the control plane"
        );
        self.backoff.set_limits(welcome.reconnect_min, welcome.reconnect_max);
        self.sites = Some(welcome.sites.clone());
        self.with.status.connected();
        // The term is to be durable before anything is done in it.
        self.store();
        for trouble in self.troubles.clone() {
            tell(outgoing, trouble);
        }
        self.with.overflow.tell_anew();
        self.told_size = ToldSize::default();
    }

    /// Takes over what the applier has done, and whatever else it has done meanwhile: all of it goes out with one ack.
    fn handle_outcomes(&mut self, mut outcome: Outcome, outgoing: Option<&mpsc::Sender<FromNode>>) {
        for taken in 1.. {
            if let (Some(trouble), Some(outgoing)) = (self.handle_outcome(outcome), outgoing) {
                tell(outgoing, trouble);
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
        // Once in the life of a state directory, and an empty file: not worth a thread of its own.
        match self.with.state.set_serves_without_lease(true) {
            Ok(()) => {
                self.with.inbox.handle_agreed();
                self.with.fence.agree();
            }
            Err(error) => tracing::error!(
                %error,
                "cannot remember that this node serves without a lease; it stops without one until it can"
            ),
        }
    }

    /// Moves on whatever can move: resets and records to the applier, acks and heartbeats to the control plane.
    fn pump(&mut self, outgoing: &mpsc::Sender<FromNode>) -> Option<Ended> {
        if let Some(reset) = self.with.inbox.poll_reset() {
            self.with.status.set_caught_up(false);
            self.with.standing.clear();
            self.renew();
            self.store();
            let Some(sites) = self.sites.take() else { return Some(Ended::SitesUnknown) };
            if self.with.apply.orders.try_send(Order::Reset { reset, sites }).is_err() {
                return Some(Ended::Failed("too much is under way for a reset; connecting again".to_owned()));
            }
        }
        while self.with.inbox.queued() > 0
            && let Ok(room) = self.with.apply.orders.try_reserve()
            && let Some(received) = self.with.inbox.poll_record()
        {
            self.sites = None;
            self.backoff.reset();
            room.send(Order::Record(received));
        }
        while let Some(count) = self.with.inbox.poll_count() {
            self.counter.ask(count, outgoing);
        }
        // An old or empty log is caught up with without a single record.
        if self.with.inbox.is_following() {
            self.moved();
        }
        self.tell_path();
        while let Ok(room) = outgoing.try_reserve() {
            let Some(ack) = self.with.inbox.poll_ack() else { break };
            room.send(FromNode::Ack(ack));
        }
        if let Ok(room) = outgoing.try_reserve()
            && let Some(mut heartbeat) = self.with.inbox.poll_heartbeat(boottime())
        {
            let index = &self.with.index;
            heartbeat.index = self.told_size.poll_news(heartbeat.sent_at, || {
                let size = index.size();
                IndexSize { objects: size.entries, bytes: size.bytes }
            });
            room.send(FromNode::Heartbeat(heartbeat));
            self.tell_overflow(outgoing);
        }
        if self.with.fence.until() > Moment::ZERO && self.with.fence.is_leased() {
            self.backoff.reset();
        }
        self.with.inbox.poll_go_away().map(Ended::GoAway)
    }

    /// Tells of objects with too many tags, as often as a heartbeat is due. The place beside it is the heartbeat's own.
    fn tell_overflow(&self, outgoing: &mpsc::Sender<FromNode>) {
        if self.with.inbox.is_following()
            && let Ok(room) = outgoing.try_reserve()
        {
            let overflowed = self.with.overflow.take_news(std::time::Instant::now());
            if !overflowed.is_empty() {
                let cursor = self.with.inbox.cursor();
                room.send(FromNode::Ack(Ack { cursor, reports: Vec::new(), overflowed }));
            }
        }
    }
}

fn tell(outgoing: &mpsc::Sender<FromNode>, trouble: Trouble) {
    // A stream that is full has more urgent news; the trouble is told again at the next welcome.
    let _ = outgoing.try_send(FromNode::Trouble(trouble));
}

async fn sleep(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
