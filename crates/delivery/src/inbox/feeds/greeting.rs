//! The beginning of a stream. Who answers at an endpoint the node learns from `Welcome`, so a `Hello` is for anybody, and the
//! stream becomes that of a replica when one has welcomed it.

use batoff_types::message::{Hello, PROTOCOL_VERSION, Position, ToNode, Welcome};
use batoff_types::{Moment, SEMANTICS_VERSION, Term};

use super::{FeedLine, Feeds};
use crate::inbox::InboxError;
use crate::inbox::feed::{Phase, ReplicaFeed};

/// What a stream has said of the node, until it is known whose it is.
#[derive(Clone, Copy, Debug)]
pub struct HelloSaid {
    connection: u64,
    position: Option<Position>,
    /// How often the node had been made to drop everything.
    resets: u64,
}

impl Feeds {
    /// The first message of a stream to whoever answers, and what [`Feeds::handle_welcomed`] needs of it. `connection` is
    /// higher than that of any stream before, by any run of the daemon. Changes nothing.
    pub fn greet(&self, connection: u64) -> (Hello, HelloSaid) {
        let hello = Hello {
            node: self.config.node.clone(),
            instance: self.instance,
            position: self.position,
            protocol: PROTOCOL_VERSION,
            semantics: SEMANTICS_VERSION,
            version: self.config.version.clone(),
            caches: self.config.caches.clone(),
            policy: self.config.policy,
            parents: self.config.parents.clone(),
            connection: Some(connection),
        };
        (hello, HelloSaid { connection, position: self.position, resets: self.resets })
    }

    /// A replica has answered that `Hello`. Its former stream is forgotten, as by [`Feeds::hello`].
    ///
    /// # Errors
    /// Nothing has changed: the stream is to be dropped. A replaced process, a stream that was opened later, or a reset since
    /// the `Hello`.
    pub fn handle_welcomed(
        &mut self,
        now: Moment,
        said: HelloSaid,
        welcome: Welcome,
    ) -> Result<FeedLine, InboxError> {
        let line = FeedLine { replica: welcome.replica, connection: said.connection };
        if let Some(feed) = self.replicas.get(&line.replica) {
            if welcome.term < feed.granted.term() {
                return Err(InboxError::LowerTerm { given: welcome.term, seen: feed.granted.term() });
            }
            if line.connection < feed.connection {
                return Err(InboxError::Outdated("a stream that was opened later leads to the same replica"));
            }
        }
        // It would be taken for one that stands where it does not stand any more, perhaps in another log.
        if said.position.is_some() && said.resets != self.resets {
            return Err(InboxError::Outdated("everything was dropped since Hello"));
        }
        self.begin(line, said.position);
        self.handle(now, line, ToNode::Welcome(welcome)).map(|()| line)
    }

    /// So many streams have begun that nobody has welcomed yet. Who answers may have what others lack.
    pub fn handle_awaited(&mut self, awaited: usize) {
        let fewer = awaited < self.awaited;
        self.awaited = awaited;
        if fewer {
            self.weigh_again();
        }
    }

    pub(super) fn begin(&mut self, line: FeedLine, said: Option<Position>) {
        let others = || self.replicas.iter().filter(|(replica, _)| **replica != line.replica);
        if !others().any(|(_, feed)| feed.sends()) {
            self.queue.clear();
            self.received = self.handed;
        }
        if !others().any(|(_, feed)| feed.phase == Phase::Resetting) {
            self.reset = None;
            self.resetting = None;
        }
        let feed = self.replicas.entry(line.replica).or_insert_with(|| ReplicaFeed::new(Term(0)));
        feed.begin(line.connection, said);
    }
}
