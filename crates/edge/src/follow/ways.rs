//! To whom are there to be streams, and how does one begin and end?
//!
//! ```text
//!   no list of replicas yet      one way, to anyone: round the configured endpoints until somebody answers
//!   a list                       a way to each replica of it; what leads to anyone becomes the way to who answered
//!   a list, and nobody answers   the way to anyone again, beside the others: they may all have moved
//! ```
//! Two streams to one replica: the later one stays.

use std::time::Duration;

use batoff_delivery::InboxError;
use batoff_types::Replica;
use batoff_types::message::{PROTOCOL_VERSION_ALONE, ReplicaAt, Welcome};
use tokio::time::Instant;
use tonic::Code;

use super::connect::{self, ConnectError, WELCOME_MAX};
use super::following::Following;
use super::index_size::ToldSize;
use super::link::{Aim, Ended, FeedLink, Way};
use crate::config::Endpoint;
use crate::{boottime, metrics};

/// Without any stream for so long, this node looks beyond the replicas that it knows.
const SEEK_AFTER: Duration = Duration::from_secs(5);

/// An attempt to connect that has told nothing by then has failed in a way of its own.
const ATTEMPT_MAX: Duration = Duration::from_secs(15);

/// Before an endpoint is tried again that led to another replica than it should: trying costs that one its stream.
const MISDIRECTED_WAIT: Duration = Duration::from_secs(60);

impl<L: Clone + Send + Sync + 'static> Following<L> {
    /// Ends what is late, and begins what is due.
    pub(super) fn tend(&mut self) {
        let now = Instant::now();
        for (number, ended) in self.late(now) {
            self.lose(number, ended);
        }
        self.find_ways(now);
        // Whoever hears of a node that it stands nowhere resets it, too. The answer to one is waited for.
        let waits = self.with.feeds.is_resetting() && self.linked().next().is_some();
        let due = |way: &Way| way.link.is_none() && way.again_at <= now && !waits;
        let due: Vec<Aim> = self.ways.iter().filter(|(_, way)| due(way)).map(|(aim, _)| *aim).collect();
        for aim in due {
            self.dial(aim);
        }
        let awaited = self.links.values().filter(|link| link.line.is_none()).count();
        self.with.feeds.handle_awaited(awaited);
    }

    /// When [`Following::tend`] has something to do, if nothing happens until then.
    pub(super) fn next_tending(&self) -> Option<Duration> {
        let now = Instant::now();
        let moment = boottime();
        let silent = |link: &FeedLink| Some(self.with.feeds.silent_at(link.line?.replica)?.since(moment));
        let late = |link: &FeedLink| match link.line {
            Some(_) => silent(link),
            None => Some(deadline(link).saturating_duration_since(now)),
        };
        let waits = self.with.feeds.is_resetting() && self.linked().next().is_some();
        let ways = self.ways.values().filter(|way| way.link.is_none() && !waits);
        let ways = ways.map(|way| way.again_at.saturating_duration_since(now));
        let seeking = self.lost_since.filter(|_| !self.ways.contains_key(&Aim::Anyone));
        let seeking = seeking.map(|since| (since + SEEK_AFTER).saturating_duration_since(now));
        self.links.values().filter_map(late).chain(ways).chain(seeking).min()
    }

    fn late(&self, now: Instant) -> Vec<(u64, Ended)> {
        let moment = boottime();
        let ended = |link: &FeedLink| match link.line {
            Some(line) => {
                let silent = self.with.feeds.silent_at(line.replica).is_some_and(|at| at <= moment);
                let silence = self.with.feeds.silence_max().as_secs_f64();
                silent.then(|| Ended::Failed(format!("no answer for {silence:.1} s")))
            }
            None if now < deadline(link) => None,
            None => Some(Ended::Failed(format!("no Welcome within {} s", WELCOME_MAX.as_secs()))),
        };
        self.links.iter().filter_map(|(number, link)| Some((*number, ended(link)?))).collect()
    }

    /// Brings the ways in line with the list of replicas.
    fn find_ways(&mut self, now: Instant) {
        let linked: Vec<Replica> = self.linked().collect();
        let feeds = &self.with.feeds;
        self.book.forget(|replica| feeds.concerns(replica), |replica| linked.contains(&replica));
        for replica in self.book.replicas() {
            self.ways.entry(Aim::Replica(replica)).or_insert_with(|| Way::new(now));
        }
        let is_left = |aim: &Aim| matches!(aim, Aim::Replica(replica) if !self.book.contains(*replica));
        let left: Vec<Aim> = self.ways.keys().copied().filter(is_left).collect();
        for aim in left {
            tracing::info!(?aim, "nobody lists this control plane any more; it is left");
            if let Some(number) = self.ways.remove(&aim).and_then(|way| way.link) {
                self.drop_link(number);
            }
        }
        for number in self.links.keys().copied().collect::<Vec<_>>() {
            self.settle_on_way(number);
        }
        self.lost_since = if linked.is_empty() { self.lost_since.or(Some(now)) } else { None };
        let is_lost = self.lost_since.is_some_and(|since| now >= since + SEEK_AFTER);
        if self.book.is_empty() || (is_lost && linked.is_empty()) {
            self.ways.entry(Aim::Anyone).or_insert_with(|| Way::new(now));
        } else if let Some(way) = self.ways.get(&Aim::Anyone) {
            let link = way.link.and_then(|number| self.links.get(&number));
            if link.is_none_or(|link| link.line.is_none()) {
                let way = self.ways.remove(&Aim::Anyone);
                way.and_then(|way| way.link).into_iter().for_each(|number| self.drop_link(number));
            }
        }
    }

    /// A stream belongs on the way to whoever welcomed it, wherever it was begun.
    fn settle_on_way(&mut self, number: u64) {
        let Some(link) = self.links.get_mut(&number) else { return };
        let Some(line) = link.line else { return };
        let (from, to) = (link.aim, Aim::Replica(line.replica));
        if from == to || !self.ways.contains_key(&to) {
            return;
        }
        link.aim = to;
        if let Some(way) = self.ways.get_mut(&from).filter(|way| way.link == Some(number)) {
            way.link = None;
            if from != Aim::Anyone {
                way.again_at = Instant::now() + MISDIRECTED_WAIT;
            }
        }
        let before = self.ways.get_mut(&to).and_then(|way| way.link.replace(number));
        before.into_iter().for_each(|number| self.drop_link(number));
    }

    fn dial(&mut self, aim: Aim) {
        let Some(endpoint) = self.choose(aim) else { return };
        let Some(way) = self.ways.get_mut(&aim) else { return };
        self.last_number += 1;
        let number = self.last_number;
        let (mut hello, said) = self.with.feeds.greet(number);
        if way.older {
            (hello.protocol, hello.connection) = (PROTOCOL_VERSION_ALONE, None);
        }
        way.link = Some(number);
        let (credentials, dial, to) =
            (self.with.credentials.clone(), self.with.dial.clone(), endpoint.clone());
        let attempt = self.attempts.spawn(async move {
            (number, connect::open(credentials.as_deref(), &to, dial.as_ref(), hello).await)
        });
        let link = FeedLink {
            aim,
            endpoint,
            attempt,
            since: Instant::now(),
            outgoing: None,
            said: Some(said),
            line: None,
            sites: None,
            is_fresh: false,
            told_size: ToldSize::default(),
        };
        self.links.insert(number, link);
    }

    fn choose(&mut self, aim: Aim) -> Option<Endpoint> {
        if let Aim::Replica(replica) = aim {
            return self.book.endpoint(replica).cloned();
        }
        let elsewhere = &mut self.ways.get_mut(&aim)?.elsewhere;
        let choices = if elsewhere.is_empty() { &self.with.endpoints } else { &*elsewhere };
        let choice = choices.get(self.turn % choices.len().max(1)).cloned();
        self.turn = self.turn.wrapping_add(1);
        elsewhere.clear();
        choice
    }

    /// An attempt to connect has come to its end.
    pub(super) fn opened(&mut self, number: u64, outcome: Result<connect::Stream, ConnectError>) {
        let Some(link) = self.links.get_mut(&number) else { return };
        match outcome {
            Ok(stream) => {
                link.outgoing = Some(stream.outgoing);
                link.since = Instant::now();
                self.incoming.insert(number, stream.incoming);
            }
            Err(ConnectError::Refused(status)) if status.code() == Code::FailedPrecondition => {
                let refused = ConnectError::Refused(status).to_string();
                self.lose(number, Ended::Refused(refused));
            }
            Err(error) => self.lose(number, Ended::Connect(error)),
        }
    }

    /// Somebody has answered.
    pub(super) fn welcome(&mut self, number: u64, welcome: Welcome) {
        let Some(link) = self.links.get_mut(&number) else { return };
        let Some(said) = link.said.take() else { return };
        let line = match self.with.feeds.handle_welcomed(boottime(), said, welcome) {
            Ok(line) => line,
            Err(error) => return self.lose(number, error.into()),
        };
        let Some(welcome) = self.with.feeds.poll_welcome(line.replica) else { return };
        tracing::info!(
            log_id = %welcome.log_id,
            replica = line.replica.0,
            set = %welcome.set,
            term = welcome.term.0,
            tail = %welcome.tail,
            cursor = %self.with.feeds.cursor(),
            "connected to the control plane"
        );
        if let Aim::Replica(aimed) = link.aim
            && aimed != line.replica
        {
            tracing::warn!(
                endpoint = %link.endpoint.uri(), should_be = aimed.0, is = line.replica.0,
                "another control plane answers at this endpoint than the one that is said to be there; correct \
                 [replica] advertise there"
            );
        }
        link.line = Some(line);
        link.is_fresh = true;
        for way in self.ways.values_mut() {
            way.backoff.set_limits(welcome.reconnect_min, welcome.reconnect_max);
        }
        link.sites = Some(welcome.sites);
        let is_other = |(other, link): (&u64, &FeedLink)| {
            let leads_there =
                link.line.map_or(link.aim == Aim::Replica(line.replica), |it| it.replica == line.replica);
            (*other != number && leads_there).then_some(*other)
        };
        for other in self.links.iter().filter_map(is_other).collect::<Vec<_>>() {
            self.drop_link(other);
        }
        self.settle_on_way(number);
        metrics::replica_connected(line.replica, true);
        self.tell_status();
        // The term is to be durable before anything is done in it.
        self.store();
        if let Some((_, outgoing)) = self.links.get(&number).and_then(FeedLink::welcomed) {
            self.troubles.iter().for_each(|trouble| super::session::tell(outgoing, trouble.clone()));
        }
        self.with.overflow.tell_anew();
    }

    /// A stream is over; the next one on its way begins after a while.
    pub(super) fn lose(&mut self, number: u64, ended: Ended) {
        let Some(link) = self.take_link(number) else { return };
        let elsewhere = match &ended {
            Ended::GoAway(go_away) => {
                go_away.endpoints.iter().filter_map(|text| self.allowed(text)).collect()
            }
            _ => Vec::new(),
        };
        let mut wait = Duration::ZERO;
        if let Some(way) = self.ways.get_mut(&link.aim).filter(|way| way.link.is_none_or(|it| it == number)) {
            way.link = None;
            way.elsewhere = elsewhere;
            let was_older = std::mem::take(&mut way.older);
            wait = match &ended {
                Ended::Reload | Ended::Moved => Duration::ZERO,
                // Once each: what refuses both waits its turn.
                Ended::Refused(_) if !was_older => {
                    way.older = true;
                    Duration::ZERO
                }
                Ended::GoAway(go_away) => go_away.reconnect_after.max(way.backoff.next()),
                Ended::Refused(_)
                | Ended::Failed(_)
                | Ended::Connect(_)
                | Ended::Inbox(_)
                | Ended::Void
                | Ended::TooBusy
                | Ended::SitesUnknown => way.backoff.next(),
            };
            way.again_at = Instant::now() + wait;
            way.ended = ended.to_string();
        }
        let replica = link.replica();
        match &ended {
            Ended::Inbox(InboxError::Outdated(_)) | Ended::Void => {
                tracing::info!(endpoint = %link.endpoint.uri(), replica, reason = %ended, again_in = ?wait, "a stream was overtaken");
            }
            _ => {
                tracing::warn!(endpoint = %link.endpoint.uri(), replica, reason = %ended, again_in = ?wait, "no stream to the control plane");
            }
        }
        ::metrics::counter!("batoff_edge_reconnects_total").increment(1);
        self.last_ended = ended.to_string();
        self.tell_status();
    }

    /// A stream that is not needed any more.
    fn drop_link(&mut self, number: u64) {
        if let Some(link) = self.take_link(number)
            && let Some(way) = self.ways.get_mut(&link.aim).filter(|way| way.link == Some(number))
        {
            way.link = None;
        }
    }

    fn take_link(&mut self, number: u64) -> Option<FeedLink> {
        let link = self.links.remove(&number)?;
        link.attempt.abort();
        self.incoming.remove(&number);
        if let Some(line) = link.line {
            let is_present = self.with.feeds.line(line.replica) == line;
            self.with.feeds.handle_disconnected(line);
            if is_present {
                metrics::replica_connected(line.replica, false);
            }
        }
        Some(link)
    }

    /// Replica `from` said where they all are.
    pub(super) fn learn(&mut self, from: Replica, list: &[ReplicaAt]) {
        let linked: Vec<Replica> = self.linked().collect();
        let mut book = std::mem::take(&mut self.book);
        let moved = book.learn(from, list, |replica| linked.contains(&replica), |text| self.allowed(text));
        self.book = book;
        for replica in moved {
            let Some(way) = self.ways.get_mut(&Aim::Replica(replica)) else { continue };
            way.again_at = Instant::now();
            let Some(number) = way.link else { continue };
            // It may have been found there by the configuration, while what was stored was out of date.
            let is_there = |link: &FeedLink| Some(&link.endpoint) == self.book.endpoint(replica);
            if !self.links.get(&number).is_some_and(is_there) {
                self.lose(number, Ended::Moved);
            }
        }
        self.store();
    }

    /// Those that have welcomed this node.
    pub(super) fn linked(&self) -> impl Iterator<Item = Replica> {
        self.links.values().filter_map(|link| Some(link.line?.replica))
    }

    /// An endpoint that a control plane named, if the configuration's own rules allow it.
    pub(super) fn allowed(&self, text: &str) -> Option<Endpoint> {
        match self.with.control.endpoint(text) {
            Ok(endpoint) => Some(endpoint),
            Err(error) => {
                tracing::warn!(%error, "the control plane named an endpoint that this node may not use");
                None
            }
        }
    }
}

/// Until when a stream has to be welcomed.
fn deadline(link: &FeedLink) -> Instant {
    link.since + if link.outgoing.is_some() { WELCOME_MAX } else { ATTEMPT_MAX }
}
