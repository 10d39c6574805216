//! The way into the purge log: may this purge go in now?

mod goes_on;
mod turnstile;

use std::sync::Arc;
use std::time::Duration;

use batoff_log::{Appended, Dedupe, NewRecord, NewTask, Store, StoreError};
use batoff_types::{
    Body, HostPattern, Moment, Purge, Record, Selector, Seq, SiteChange, SiteTable, TaskId, TraceParent,
    UnixMillis,
};
use batoff_wire::Requester;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};
use tokio_util::sync::CancellationToken;

use self::goes_on::GoesOn;
use self::turnstile::{Overloaded, Pass, Turnstile};
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::ids::TaskIds;
use crate::metrics;
use crate::store::task_record;
use crate::store::turn::SharedTurn;

/// How long a submission waits for the store before its answer is `outcome_unknown`. The append itself goes on.
pub const APPEND_PATIENCE: Duration = Duration::from_secs(5);

/// How long a rejected submitter is asked to wait.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The record that says which control plane changes sites now, where several share the store.
const SITES_TURN: &str = "sites-turn";

/// For so long: the time to decide, the longest append, and as much again for clocks that differ.
const SITES_TURN_TIME: Duration = Duration::from_secs(20);

/// How long a change may take from the turn to its append.
const SITES_DECIDED_WITHIN: Duration = Duration::from_secs(5);

/// How often it is asked for.
const SITES_TURN_AGAIN: Duration = Duration::from_millis(50);

/// The one way into the purge log: admits, bounds, counts. The group commit itself is the store's. What is more than the log
/// can take is refused before it has waited for a second.
pub struct Commit {
    store: Arc<dyn Store>,
    catalog: Arc<Catalog>,
    ids: Arc<TaskIds>,
    clock: Clock,
    turnstile: Arc<Turnstile>,
    /// Purges hold it shared from the check of their hostnames until they are durable; a change of a site holds it
    /// alone until the catalog has taken it over. So no purge is accepted under names that its site has just lost.
    sites: Arc<RwLock<()>>,
    draining: CancellationToken,
}

/// A purge that has passed every check of the API.
#[derive(Clone, Debug)]
pub struct Submission {
    /// What to purge; its hostnames are checked once more, against the table of sites at the moment of the append.
    pub purge: Purge,
    /// The request's id, passed through to every node's log lines.
    pub request_id: Arc<str>,
    /// Who asked, and from where: it stands in the record, for the audit log.
    pub requester: Option<Requester>,
    /// What makes a later request a repeat of this one: the signature, and the `Idempotency-Key`.
    pub dedupe: Vec<Dedupe>,
    /// Where what becomes of it is told, if it is traced.
    pub trace: Option<TraceParent>,
}

/// A purge that is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its task: of the first submission, when this is a repeat.
    pub task: TaskId,
    /// Where its record stands.
    pub seq: Seq,
    /// When it was accepted: the first submission, when this is a repeat.
    pub accepted_at: UnixMillis,
    /// The number of its items.
    pub items_total: usize,
    /// Whether it had been accepted before and nothing was done now.
    pub replayed: bool,
}

/// The right to make one purge durable now. Given back when it is dropped.
pub struct Turn(Pass);

/// Why a submission was not accepted, by what the caller can do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Certainly nothing was accepted; try again.
    #[error("cannot be made durable now: {reason}")]
    Unavailable {
        /// When to try again.
        retry_after: Duration,
        /// Why, for people.
        reason: &'static str,
    },
    /// It may or may not take effect; resend the same bytes or the same key.
    #[error("the outcome is not known yet")]
    OutcomeUnknown {
        /// When to try again.
        retry_after: Duration,
    },
    /// The same `Idempotency-Key` was used with another body.
    #[error("the Idempotency-Key was used with another body")]
    KeyReused,
    /// The site lost the hostname of this selector (or was removed) after the request was checked.
    #[error("the site no longer owns the hostname of item {item}")]
    SiteChanged {
        /// The selector's index in the purge.
        item: usize,
    },
    /// The record is larger than the store takes.
    #[error("the record is larger than the {limit} bytes that the store takes")]
    TooLarge {
        /// In bytes.
        limit: usize,
    },
}

impl Commit {
    /// At most `in_flight` submissions are in the log's hands at a time; none come in once `draining` is cancelled.
    pub fn new(
        store: Arc<dyn Store>,
        catalog: Arc<Catalog>,
        ids: Arc<TaskIds>,
        clock: Clock,
        in_flight: usize,
        draining: CancellationToken,
    ) -> Self {
        let turnstile = Turnstile::new(in_flight, clock.clone());
        Self { store, catalog, ids, clock, turnstile, sites: Arc::default(), draining }
    }

    /// Waits until a purge may go in, less than a second.
    ///
    /// # Errors
    /// [`CommitError::Unavailable`] when more is submitted than can be made durable in time, and while the process drains.
    pub async fn turn(&self) -> Result<Turn, CommitError> {
        if self.draining.is_cancelled() {
            return Err(CommitError::Unavailable {
                retry_after: RETRY_AFTER,
                reason: "this control plane is stopping",
            });
        }
        let pass = self.turnstile.enter().await.map_err(|Overloaded| CommitError::Unavailable {
            retry_after: RETRY_AFTER,
            reason: "more is submitted than can be made durable in time",
        })?;
        Ok(Turn(pass))
    }

    /// Makes a purge durable as soon as it may go in.
    pub async fn submit(&self, submission: Submission) -> Result<Accepted, CommitError> {
        let turn = self.turn().await?;
        self.submit_in(turn, submission).await
    }

    /// Makes a purge durable. Once called it runs to its end even if the caller goes away.
    pub async fn submit_in(&self, turn: Turn, submission: Submission) -> Result<Accepted, CommitError> {
        let sites = Arc::clone(&self.sites).read_owned().await;
        still_owned(&self.catalog.table(), &submission.purge)?;

        let Submission { purge, request_id, requester, dedupe, trace } = submission;
        let (site, items_total, soft) = (purge.site.clone(), purge.selectors.len(), purge.soft);
        let kinds: Vec<_> = purge.selectors.iter().map(Selector::kind).collect();
        let record = Record { trace, ..self.record(Body::Purge(purge), Arc::clone(&request_id)) };
        let (task, accepted_at) = (record.task, record.accepted_at);
        let body = match &requester {
            Some(requester) => batoff_wire::encode_requested(&record, requester),
            None => batoff_wire::encode_record(&record),
        };
        let new = NewRecord {
            accepted_at,
            task: Some(NewTask { site: site.clone(), task, meta: task_record::meta_of(&body) }),
            body,
            dedupe,
        };
        let hold = AppendHold { _pass: Some(turn.0), _sites: Some(sites), ..AppendHold::default() };
        match self.append(vec![new], hold).await?.first().copied() {
            Some(Appended::New { seq }) => {
                metrics::purge_accepted(&kinds);
                let trace = trace.map(tracing::field::display);
                tracing::info!(%site, %task, %seq, request_id = &*request_id, items = items_total, soft, trace, "purge accepted");
                Ok(Accepted { task, seq, accepted_at, items_total, replayed: false })
            }
            Some(Appended::Duplicate { seq, task }) => self.replayed(seq, task).await,
            Some(Appended::Conflict) => Err(CommitError::KeyReused),
            None => Err(CommitError::OutcomeUnknown { retry_after: RETRY_AFTER }),
        }
    }

    /// Makes changes of sites durable, all or none, and waits until every later submission is checked against them.
    /// `decide` sees the table as it is, with no purge on its way. A name that goes from one site to another must be
    /// given up by the first in a change of its own.
    pub async fn change_sites<E: From<CommitError>>(
        &self,
        request_id: &str,
        decide: impl FnOnce(&SiteTable) -> Result<Vec<SiteChange>, E>,
    ) -> Result<(), E> {
        let turn = self.sites_turn().await?;
        let alone = Arc::clone(&self.sites).write_owned().await;
        let bodies: Vec<Body> = match decide(&self.catalog.table()) {
            Ok(changes) if !changes.is_empty() => changes.into_iter().map(Body::Site).collect(),
            nothing => {
                if let Some(turn) = turn {
                    turn.turn.give_back().await;
                }
                return nothing.map(drop);
            }
        };
        if turn.as_ref().is_some_and(|turn| self.clock.now() >= turn.ends_at) {
            return Err(others_change_sites().into());
        }
        // Kept by the append itself: should this caller go away, no purge may pass before the change is in force.
        let hold =
            AppendHold { alone: Some(alone), turn: turn.map(|turn| turn.turn), ..AppendHold::default() };
        self.append_all(bodies, request_id, hold).await?;
        Ok(())
    }

    /// Where other control planes change sites as well: the right to do it now, with all in the table that they have done.
    /// What two have decided by one table would give a name to two sites.
    ///
    /// Purges are not held up elsewhere: one that another control plane accepts in the instant in which a change of its
    /// names is on its way takes effect under them, as if it had come just before. It evicts, it lets nothing stay.
    async fn sites_turn(&self) -> Result<Option<SitesTurn>, CommitError> {
        if !self.store.is_shared() {
            return Ok(None);
        }
        let begun = self.clock.now();
        let turn = loop {
            match SharedTurn::take(&self.store, SITES_TURN, SITES_TURN_TIME).await.map_err(refused)? {
                Some(turn) => break turn,
                None if self.clock.now().since(begun) >= APPEND_PATIENCE => return Err(others_change_sites()),
                None => tokio::time::sleep(SITES_TURN_AGAIN).await,
            }
        };
        let ends_at = self.clock.now() + SITES_DECIDED_WITHIN;
        let caught_up = async {
            let tail = self.store.log().state().await.map_err(refused)?.tail;
            let caught_up = tokio::time::timeout(SITES_DECIDED_WITHIN, self.catalog.caught_up(tail)).await;
            caught_up.map_err(|_| others_change_sites())
        };
        match caught_up.await {
            Ok(()) => Ok(Some(SitesTurn { turn, ends_at })),
            Err(error) => {
                turn.give_back().await;
                Err(error)
            }
        }
    }

    /// Makes a record of the control plane's own durable: a node registered or removed.
    pub async fn append_body(&self, body: Body, request_id: &str) -> Result<Seq, CommitError> {
        let last = self.append_all(vec![body], request_id, AppendHold::default()).await?;
        last.ok_or(CommitError::OutcomeUnknown { retry_after: RETRY_AFTER })
    }

    async fn append_all(
        &self,
        bodies: Vec<Body>,
        request_id: &str,
        hold: AppendHold,
    ) -> Result<Option<Seq>, CommitError> {
        if bodies.is_empty() {
            return Ok(None);
        }
        let batch = bodies
            .into_iter()
            .map(|body| {
                let record = self.record(body, request_id.into());
                NewRecord {
                    body: batoff_wire::encode_record(&record),
                    accepted_at: record.accepted_at,
                    task: None,
                    dedupe: Vec::new(),
                }
            })
            .collect();
        let appended = self.append(batch, hold).await?;
        Ok(appended.into_iter().rev().find_map(|one| match one {
            Appended::New { seq } | Appended::Duplicate { seq, .. } => Some(seq),
            Appended::Conflict => None,
        }))
    }

    fn record(&self, body: Body, request_id: Arc<str>) -> Record {
        Record {
            // The store gives the number; the encoded form does not hold one.
            seq: Seq::FIRST,
            accepted_at: self.clock.wall(),
            task: self.ids.next(),
            request_id,
            semantics: body.semantics(),
            trace: None,
            body,
        }
    }

    async fn append(
        &self,
        batch: Vec<NewRecord>,
        mut hold: AppendHold,
    ) -> Result<Vec<Appended>, CommitError> {
        let store = Arc::clone(&self.store);
        let catalog = Arc::clone(&self.catalog);
        let clock = self.clock.clone();
        // A client that hangs up must not cancel an append half way, nor let go of the sites' lock while its record is still
        // on its way to the log.
        let running = GoesOn::with(async move {
            let began = clock.now();
            let outcome = store.log().append(batch).await;
            metrics::submission_seconds(clock.now().since(began));
            if let (true, Ok(appended)) = (hold.alone.is_some(), &outcome)
                && let Some(Appended::New { seq }) = appended.last()
            {
                catalog.applied(*seq).await;
            }
            // What may still come to be written keeps others waiting until the turn's time is over.
            if let Some(turn) = hold.turn.take()
                && !matches!(outcome, Err(StoreError::Unknown { .. }))
            {
                turn.give_back().await;
            }
            drop(hold);
            outcome
        });
        match tokio::time::timeout(APPEND_PATIENCE, running).await {
            Ok(Ok(appended)) => Ok(appended),
            Ok(Err(error)) => Err(refused(error)),
            Err(_) => Err(CommitError::OutcomeUnknown { retry_after: RETRY_AFTER }),
        }
    }

    /// What was accepted earlier of a request with these keys; `None` when it would be a new one. Asks the log, which knows
    /// what every control plane beside it has accepted.
    ///
    /// # Errors
    /// One of the keys was used with another body, or the log does not answer.
    pub async fn repeat_of(&self, keys: &[Dedupe]) -> Result<Option<Accepted>, CommitError> {
        if keys.is_empty() {
            return Ok(None);
        }
        match self.store.log().recognise(keys.to_vec()).await.map_err(refused)? {
            Some(Appended::Duplicate { seq, task }) => self.replayed(seq, task).await.map(Some),
            Some(Appended::Conflict) => Err(CommitError::KeyReused),
            Some(Appended::New { .. }) | None => Ok(None),
        }
    }

    async fn replayed(&self, seq: Seq, task: TaskId) -> Result<Accepted, CommitError> {
        let unknown = CommitError::OutcomeUnknown { retry_after: RETRY_AFTER };
        let row = self.store.log().find_task(task).await.map_err(refused)?.ok_or(unknown.clone())?;
        let found = task_record::of_row(self.store.as_ref(), &row).await.map_err(refused)?;
        let (_, purge) = found.ok_or(unknown)?;
        let (accepted_at, items_total) = (row.accepted_at, purge.selectors.len());
        Ok(Accepted { task, seq, accepted_at, items_total, replayed: true })
    }
}

/// What an append keeps others from doing until it has ended.
#[derive(Default)]
struct AppendHold {
    _pass: Option<Pass>,
    _sites: Option<OwnedRwLockReadGuard<()>>,
    /// With it, the append ends when the catalog has taken the record over.
    alone: Option<OwnedRwLockWriteGuard<()>>,
    /// Where other control planes must not change sites meanwhile.
    turn: Option<SharedTurn>,
}

/// See [`Commit::sites_turn`].
struct SitesTurn {
    turn: SharedTurn,
    /// A change must be on its way by then.
    ends_at: Moment,
}

fn others_change_sites() -> CommitError {
    CommitError::Unavailable { retry_after: RETRY_AFTER, reason: "another control plane changes sites" }
}

fn still_owned(table: &SiteTable, purge: &Purge) -> Result<(), CommitError> {
    if table.hostnames(purge.site.as_str()).is_none() {
        return Err(CommitError::SiteChanged { item: 0 });
    }
    let foreign = |selector: &Selector| {
        let host = match selector {
            Selector::Url(url) => url.host(),
            Selector::Prefix(prefix) => prefix.host(),
            Selector::Host(host) => host.as_str(),
            Selector::Tag(_) | Selector::Everything => return false,
        };
        table.owner(host) != Some(&purge.site)
    };
    match purge.selectors.iter().position(foreign) {
        Some(item) => Err(CommitError::SiteChanged { item }),
        None => Ok(()),
    }
}

/// The names whose owner changes when `site` goes from what the table says to `next`.
pub fn affected(table: &SiteTable, site: &str, next: &[HostPattern]) -> Vec<HostPattern> {
    let now = table.hostnames(site).unwrap_or_default();
    let gone = now.iter().filter(|name| !next.contains(name));
    let came = next.iter().filter(|name| !now.contains(name));
    gone.chain(came).cloned().collect()
}

fn refused(error: StoreError) -> CommitError {
    match error {
        StoreError::Unavailable { retry_after } => CommitError::Unavailable {
            retry_after: retry_after.max(RETRY_AFTER),
            reason: "the purge log is not available",
        },
        StoreError::Full => CommitError::Unavailable {
            retry_after: RETRY_AFTER * 5,
            reason: "the purge log's storage is full",
        },
        StoreError::Unknown { retry_after } => {
            CommitError::OutcomeUnknown { retry_after: retry_after.max(RETRY_AFTER) }
        }
        StoreError::TooLarge { limit } => CommitError::TooLarge { limit },
        StoreError::Invalid(_)
        | StoreError::Corrupt(_)
        | StoreError::WrongCluster
        | StoreError::Format(_) => {
            tracing::error!(%error, "the purge log refuses service");
            CommitError::Unavailable {
                retry_after: RETRY_AFTER * 30,
                reason: "the purge log needs an operator",
            }
        }
    }
}
