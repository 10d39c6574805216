//! The stream to the control plane: kept open, resumed where it was, and never waited for by anything that serves.
//!
//! One task owns the [`Inbox`](batoff_delivery::Inbox), which decides, and everything about the stream. It chooses an event
//! and then applies it synchronously; slow work (rules, caches, disk) runs elsewhere and comes back as an event.
//!
//! ```text
//!  control plane                         this task                                  elsewhere on the node
//!
//!    Welcome, Records, Lease  ──▶ session: inbox.handle ──▶ pump ── Order ────────▶ apply: rule in force, objects out
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
//! | `session` | What happens on one stream, from its `Hello` to its end, and why does it end? |
//! | `connect` | How is a stream opened: addresses, certificates, time limits? |
//! | `backoff` | How long to wait before the next one? |
//! | `index_size` | When is the control plane told how large the index is? |
//! | `counter` | How many objects would a purge hit here? (asked beside the stream, so that it never holds it up) |
//!
//! Here is the loop around them: one stream after another, until the daemon stops; then the lease is given up. What a
//! message means is `batoff_delivery`'s to say, what it does to caches is [`apply`](crate::apply)'s.

use std::sync::Arc;
use std::time::Duration;

use batoff_types::message::LeasePolicy;
use tokio_util::sync::CancellationToken;

use self::backoff::Backoff;
pub use self::connect::{Dial, Dialing};
use self::counter::Counter;
pub(crate) use self::following::Follower;
use self::following::Following;
use self::index_size::ToldSize;
use self::session::Ended;
use crate::config::Endpoint;

mod backoff;
mod connect;
mod counter;
mod following;
mod index_size;
mod session;
#[cfg(test)]
mod tests;

impl<L: Clone + Send + Sync + 'static> Follower<L> {
    /// Follows until `stop`. The lease is given up before it returns.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let fence = Arc::clone(&self.fence);
        let caches = self.caches.clone();
        let uncounted = self.caches.iter().filter(|cache| !cache.is_counted());
        let uncounted = uncounted.map(|cache| cache.name().to_owned()).collect();
        let counter = Counter::spawn(Arc::clone(&self.index), uncounted);
        let mut following = Following {
            with: self,
            counter,
            backoff: Backoff::new(),
            troubles: Vec::new(),
            sites: None,
            told_size: ToldSize::default(),
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
        // Nodes that start together should not all ask the same replica first.
        let mut turn = rand::random_range(0..self.with.endpoints.len().max(1));
        let mut elsewhere = Vec::new();
        loop {
            let choices = if elsewhere.is_empty() { &self.with.endpoints } else { &elsewhere };
            let Some(endpoint) = choices.get(turn % choices.len().max(1)).cloned() else { return };
            turn = turn.wrapping_add(1);
            elsewhere.clear();

            let ended = self.stream(&endpoint).await;
            self.with.status.disconnected(&ended.to_string());
            let wait = match &ended {
                Ended::Reload => Duration::ZERO,
                Ended::GoAway(go_away) => {
                    elsewhere = go_away.endpoints.iter().filter_map(|text| self.allowed(text)).collect();
                    go_away.reconnect_after.max(self.backoff.next())
                }
                Ended::Failed(_) | Ended::Connect(_) | Ended::Inbox(_) | Ended::SitesUnknown => {
                    self.backoff.next()
                }
            };
            tracing::warn!(endpoint = %endpoint.uri(), reason = %ended, again_in = ?wait, "no stream to the control plane");
            ::metrics::counter!("batoff_edge_reconnects_total").increment(1);
            self.while_applying(tokio::time::sleep(wait)).await;
        }
    }

    /// Opens one stream and follows it to its end.
    async fn stream(&mut self, endpoint: &Endpoint) -> Ended {
        let hello = self.with.inbox.hello();
        let (credentials, dial) = (self.with.credentials.clone(), self.with.dial.clone());
        match self.while_applying(connect::open(credentials.as_deref(), endpoint, dial.as_ref(), hello)).await
        {
            Ok(stream) => self.session(stream).await,
            Err(error) => Ended::Connect(error),
        }
    }

    /// Waits for something without leaving the applier waiting.
    async fn while_applying<T>(&mut self, waited_for: impl Future<Output = T>) -> T {
        let mut waited_for = std::pin::pin!(waited_for);
        loop {
            tokio::select! {
                value = &mut waited_for => return value,
                Some(outcome) = self.with.apply.outcomes.recv() => {
                    // Told again at the next welcome.
                    let _ = self.handle_outcome(outcome);
                }
            }
        }
    }

    /// An endpoint that the control plane named, if the configuration's own rules allow it.
    fn allowed(&self, text: &str) -> Option<Endpoint> {
        match self.with.control.endpoint(text) {
            Ok(endpoint) => Some(endpoint),
            Err(error) => {
                tracing::warn!(%error, "the control plane named an endpoint that this node may not use");
                None
            }
        }
    }
}
