//! The streams to the control planes: kept open, resumed where they were, and never waited for by anything that serves.
//!
//! One task owns the [`Feeds`](batoff_delivery::Feeds), which decide, and everything about the streams: one to each replica,
//! or one alone. It chooses an event and then applies it synchronously; slow work (connecting, rules, caches, disk) runs
//! elsewhere and comes back as an event.
//!
//! ```text
//!  control planes                        this task                                  elsewhere on the node
//!
//!    Welcome, Records, Lease  ──▶ session: feeds.handle ──▶ pump ── Order ────────▶ apply: rule in force, objects out
//!                                                             │                         │
//!    Hello, Ack, Heartbeat    ◀── session ◀───────────────────┘                         │
//!    Trouble                  ◀───────────── handle_outcome ◀─────── Outcome ───────────┘
//!                                              │ moved
//!                                              ├─▶ saver       the position, and the term before a lease of it counts
//!                                              ├─▶ standing    what local caches may be told of this node
//!                                              └─▶ status      /readyz
//!                                            renew ──▶ fence, Cache::serve_until: until when may be served
//!                                            tell_path ──▶ path: from where on fills through the parents count
//! ```
//!
//! | module | answers |
//! | --- | --- |
//! | `following` | What does the task know, and what follows when the position or the lease has moved? |
//! | `session` | What comes on the streams, and what is said on them? |
//! | `ways` | To whom are there to be streams, how does one begin, and how does it end? |
//! | `link` | What belongs to one stream, and to those that follow one another? |
//! | `book` | Where is each control plane? |
//! | `connect` | How is a stream opened: addresses, certificates, time limits? |
//! | `greeting` | Does a control plane answer, and what time has it? (for whoever diagnoses a node; no stream is opened) |
//! | `backoff` | How long to wait before the next one? |
//! | `index_size` | When is the control plane told how large the index is? |
//! | `told` | What is a collector told of a traced purge? |
//! | `counter` | How many objects would a purge hit here? (asked beside the stream, so that it never holds it up) |
//!
//! Of several control planes the feeds choose which bring records at once (`[control] feeds`); each heartbeat tells its
//! replica whether it does.
//!
//! Here is the loop around them, until the daemon stops; then the lease is given up. What a
//! message means is `batoff_delivery`'s to say, what it does to caches is [`apply`](crate::apply)'s.

use std::collections::BTreeMap;
use std::sync::Arc;

use batoff_types::message::LeasePolicy;
use tokio::task::JoinSet;
use tokio_stream::StreamMap;
use tokio_util::sync::CancellationToken;

use self::book::AddressBook;
pub use self::connect::{Dial, Dialing};
use self::counter::Counter;
pub(crate) use self::following::Follower;
use self::following::Following;
pub use self::greeting::ControlAnswer;
use self::told::TracedPurges;
use crate::boottime;

mod backoff;
mod book;
mod connect;
mod counter;
mod following;
mod greeting;
mod index_size;
mod link;
mod session;
#[cfg(test)]
mod tests;
mod told;
mod ways;

impl<L: Clone + Send + Sync + 'static> Follower<L> {
    /// Follows until `stop`. The lease is given up before it returns.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let fence = Arc::clone(&self.fence);
        let caches = self.caches.clone();
        let uncounted = self.caches.iter().filter(|cache| !cache.is_counted());
        let uncounted = uncounted.map(|cache| cache.name().to_owned()).collect();
        let counter = Counter::spawn(Arc::clone(&self.index), uncounted);
        let book = AddressBook::of(&self.known.endpoints, |text| self.control.endpoint(text).ok());
        let mut following = Following {
            told: TracedPurges::new(self.traces.clone()),
            book,
            last_number: self.first_number,
            // Nodes that start together should not all ask the same replica first.
            turn: rand::random_range(0..self.endpoints.len().max(1)),
            with: self,
            ways: BTreeMap::new(),
            links: BTreeMap::new(),
            incoming: StreamMap::new(),
            attempts: JoinSet::new(),
            held: None,
            lost_since: None,
            last_ended: String::new(),
            counter,
            troubles: Vec::new(),
            parents_unknown: String::new(),
        };
        stop.run_until_cancelled(following.run()).await;
        fence.close();
        if fence.policy() == LeasePolicy::Revalidate {
            for cache in &caches {
                cache.serve_until(batoff_types::Moment::ZERO);
            }
        }
        following.store();
    }
}

impl<L: Clone + Send + Sync + 'static> Following<L> {
    async fn run(&mut self) {
        loop {
            self.tend();
            if !self.with.feeds.wants_more() {
                // It is us who do not listen.
                self.with.feeds.handle_not_read(boottime());
            }
            let event = self.next_event().await;
            self.handle(event);
            self.pump();
        }
    }
}
