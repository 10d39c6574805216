//! What is done for whoever may purge, be it with a token or in the console: items, quota, guard, durability. There is no
//! other way from a request into the log.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use batoff_log::{Dedupe, StoreError};
use batoff_types::{NodeName, Purge, Selector, SiteId};
use batoff_wire::{Requester, RequesterIdentity};

use super::buckets::key_of;
use super::items::{self, Cost};
use super::problem::{Code, ItemError, Problem};
use super::purge_body::PurgeRequest;
use super::quota::Rates;
use super::slices::NotTaken;
use super::state::Api;
use super::traced::RequestTrace;
use crate::commit::{Accepted, CommitError, RETRY_AFTER, Submission};
use crate::tracker::Counts;

/// Nodes without an answer that a refusal names; further ones are told as a number.
const UNCOUNTED_NAMED_MAX: usize = 5;

/// When a count that not all nodes answered is worth asking again.
const COUNT_AGAIN: Duration = Duration::from_secs(2);

/// A purge of somebody who may purge this site.
pub struct WantedPurge<'a> {
    /// Whose objects.
    pub site: &'a SiteId,
    /// Which of them.
    pub request: &'a PurgeRequest,
    /// The request's id.
    pub request_id: Arc<str>,
    /// Who asks.
    pub requester: Requester,
    /// What makes a later request a repeat of this one.
    pub dedupe: Vec<Dedupe>,
    /// What is told of it, if it is traced.
    pub trace: Option<&'a mut RequestTrace>,
}

impl Api {
    /// Purges, or says why not. Durable when it returns; it may be that it was before.
    pub async fn purge(&self, asked: WantedPurge<'_>, rates: Rates) -> Result<Accepted, Problem> {
        let WantedPurge { site, request, request_id, requester, dedupe, mut trace } = asked;
        if let Some(trace) = &mut trace {
            trace.asked(site, &request_id);
        }
        let table = self.services.catalog.table();
        let selectors = items::selectors(request, site, &table, rates.burst())?;
        let cost = Cost::of(&selectors);
        let taken = match self.quotas.take(site, rates, cost) {
            Some(taken) => taken,
            // In a box, so that who needs no slice does not carry it along.
            None => Box::pin(self.quotas.take_slice(site, rates, cost)).await,
        };
        // What was accepted already costs nothing, wherever that was: a client that resends gets its reply, and goes on
        // asking in vain otherwise. With quota left the append itself tells.
        if let Err(NotTaken::Short(_)) = &taken {
            match Box::pin(self.services.commit.repeat_of(&dedupe)).await {
                Ok(None) => {}
                Ok(Some(accepted)) => return Ok(accepted),
                Err(CommitError::KeyReused) => return Err(key_reused()),
                Err(error) => tracing::debug!(%error, %site, "a repeat cannot be looked for"),
            }
        }
        let taken = Taken::of(self, site, cost, taken)?;
        if let Some(max) = request.max_objects {
            let counts = self.services.tracker.count(site, &selectors).await;
            check_objects(&counts, max)?;
        }
        let turn = self.services.commit.turn().await.map_err(|error| refused(error, request, site))?;
        // From here on the purge may take effect even if the client goes away, so what it costs is spent.
        let cost = taken.spend();
        if let Some(trace) = &mut trace {
            trace.step("admit");
        }
        let submission = Submission {
            purge: Purge { site: site.clone(), selectors, soft: request.soft },
            request_id,
            requester: Some(requester),
            dedupe,
            trace: trace.as_ref().map(|trace| trace.at()),
        };
        let outcome = self.services.commit.submit_in(turn, submission).await;
        if let Some(trace) = trace {
            trace.step("append");
            if let Ok(accepted) = &outcome {
                trace.accepted(accepted);
            }
        }
        match outcome {
            Ok(accepted) => {
                if accepted.replayed {
                    self.quotas.give_back(site, cost);
                }
                Ok(accepted)
            }
            Err(error) => {
                if !matches!(error, CommitError::OutcomeUnknown { .. }) {
                    self.quotas.give_back(site, cost);
                }
                Err(refused(error, request, site))
            }
        }
    }

    /// What the purge would hit: its items in normal form, and how many objects each. Costs nothing of the site's quotas, and
    /// one dry run of whoever asks, for counting keeps every node busy.
    pub async fn count(
        &self,
        site: &SiteId,
        request: &PurgeRequest,
        asker: &RequesterIdentity,
    ) -> Result<(Vec<Selector>, Counts), Problem> {
        let table = self.services.catalog.table();
        let selectors = items::selectors(request, site, &table, self.rates(site).burst())?;
        self.dry_runs.take(self.services.clock.now(), key_of(asker)).map_err(|wait| {
            let detail = match asker {
                RequesterIdentity::Token(_) => {
                    "the token's dry runs are used up: 60 at once, and one more a second"
                }
                RequesterIdentity::Account(_) => {
                    "this account's dry runs are used up: 60 at once, and one more a second"
                }
            };
            Problem::detailed(Code::RateLimited, detail).retry_after(wait)
        })?;
        let counts = self.services.tracker.count(site, &selectors).await;
        Ok((selectors, counts))
    }
}

fn check_objects(counts: &Counts, max: u64) -> Result<(), Problem> {
    let objects = counts.total();
    if objects <= max && counts.missing.is_empty() {
        return Ok(());
    }
    if objects <= max {
        return Err(uncounted(counts));
    }
    let detail = format!(
        "the purge would hit {objects} objects on the {} of {} nodes that answered",
        counts.nodes_answered, counts.nodes_total
    );
    let mut problem = Problem::detailed(Code::TooManyObjects, detail);
    problem
        .errors
        .push(ItemError::at("/max_objects", format!("{objects} is over {max}")).with_value(max.to_string()));
    Err(problem)
}

/// `max_objects` is a guard: it opens only when it is known that no more is hit.
fn uncounted(counts: &Counts) -> Problem {
    if !counts.uncounted.is_empty() {
        return never_counted(counts);
    }
    let named: Vec<_> = counts.missing.iter().take(UNCOUNTED_NAMED_MAX).map(ToString::to_string).collect();
    let more = counts.missing.len() - named.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let detail = format!(
        "max_objects needs the count of every node that may serve, and {}{more} gave none; nothing was queued. Try again, \
         or send the purge without max_objects",
        named.join(", ")
    );
    Problem::detailed(Code::CountUnavailable, detail).retry_after(COUNT_AGAIN)
}

/// As long as a node drives such a cache, trying again does not help.
fn never_counted(counts: &Counts) -> Problem {
    let named = |(node, caches): &(NodeName, Vec<String>)| format!("{node} ({})", caches.join(", "));
    let named: Vec<_> = counts.uncounted.iter().take(UNCOUNTED_NAMED_MAX).map(named).collect();
    let more = counts.uncounted.len() - named.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let detail = format!(
        "max_objects needs the count of every node that may serve, and {}{more} can give none: such caches find their objects \
         by themselves; nothing was queued. Send the purge without max_objects",
        named.join(", ")
    );
    Problem::detailed(Code::CountUnavailable, detail)
}

/// Quota that was taken; given back when the request ends before it is spent, be it because the client went away.
struct Taken<'a> {
    api: &'a Api,
    site: &'a SiteId,
    cost: Cost,
}

impl<'a> Taken<'a> {
    fn of(api: &'a Api, site: &'a SiteId, cost: Cost, taken: Result<(), NotTaken>) -> Result<Self, Problem> {
        match taken {
            Ok(()) => Ok(Self { api, site, cost }),
            Err(NotTaken::Store(error)) => {
                tracing::debug!(%error, %site, "a quota cannot be looked at");
                let (detail, again) = match error {
                    // That is what an operator has to see to; the quota is only the first to be written.
                    StoreError::Full => {
                        ("the purge log's storage is full; nothing was accepted", RETRY_AFTER * 5)
                    }
                    _ => ("the site's quota cannot be counted now; nothing was accepted", RETRY_AFTER),
                };
                Err(Problem::detailed(Code::Unavailable, detail).retry_after(again))
            }
            Err(NotTaken::Short(short)) => {
                let detail = format!(
                    "the quota \"{}\" of site {site} ({}: {} a minute) has {} left, and this needs {}; nothing was queued",
                    short.quota, short.what, short.per_minute, short.left, short.needed
                );
                let told = format!(
                    "{}: {} of {} a minute left, {} needed",
                    short.quota, short.left, short.per_minute, short.needed
                );
                api.services.overview.handle_over_quota(site, &told);
                Err(Problem::detailed(Code::RateLimited, detail).retry_after(short.wait))
            }
        }
    }

    fn spend(mut self) -> Cost {
        std::mem::take(&mut self.cost)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.api.quotas.give_back(self.site, self.cost);
    }
}

pub fn key_reused() -> Problem {
    let detail = "this Idempotency-Key came with another body within the last 24 h; take a new key";
    Problem::detailed(Code::IdempotencyKeyReused, detail)
}

fn refused(error: CommitError, request: &PurgeRequest, site: &SiteId) -> Problem {
    match error {
        CommitError::Unavailable { retry_after, reason } => {
            Problem::detailed(Code::Unavailable, format!("{reason}; nothing was accepted"))
                .retry_after(retry_after)
        }
        CommitError::OutcomeUnknown { retry_after } => {
            let detail =
                "it may or may not take effect: send the same bytes, or the same Idempotency-Key, again";
            Problem::detailed(Code::OutcomeUnknown, detail).retry_after(retry_after)
        }
        CommitError::KeyReused => key_reused(),
        CommitError::SiteChanged { item } => {
            let (pointer, value) = place_of(request, item);
            let detail = format!("the host is no longer a hostname of site {site}");
            Problem::of_item(Code::InvalidUrl, ItemError::at(pointer, detail).with_value(value))
        }
        CommitError::TooLarge { limit } => {
            let detail =
                format!("in normal form the purge is over the {limit} bytes of a record: split the request");
            Problem::detailed(Code::BodyTooLarge, detail)
        }
    }
}

/// Where in the body a selector came from: selectors stand in the order of these lists.
fn place_of(request: &PurgeRequest, mut item: usize) -> (Cow<'static, str>, String) {
    let lists = [
        ("urls", &request.urls),
        ("prefixes", &request.prefixes),
        ("tags", &request.tags),
        ("hosts", &request.hosts),
    ];
    for (name, list) in lists {
        match list.get(item) {
            Some(value) => return (format!("/{name}/{item}").into(), value.clone()),
            None => item -= list.len(),
        }
    }
    ("/everything".into(), "true".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selectors_place_in_the_body_is_found_again() {
        let request = PurgeRequest {
            urls: vec!["u0".into(), "u1".into()],
            hosts: vec!["h0".into()],
            ..PurgeRequest::default()
        };
        assert_eq!(place_of(&request, 1), ("/urls/1".into(), "u1".to_owned()));
        assert_eq!(place_of(&request, 2), ("/hosts/0".into(), "h0".to_owned()));
    }
}
