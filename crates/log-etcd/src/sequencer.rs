//! The group commit: whatever waits while a transaction runs goes into the next one, and the compare on the log's head
//! decides which replica's group is next.
//!
//! ```text
//!  requests ─▶ draft on the index at group 41 ─▶ IF h was written with 41 THEN put l/42, put h ELSE read l/42 … ─▶ answers
//!                    ▲                                                        │
//!                    └── another replica's 42: take it in, decide anew ◀──────┤
//!                        our own 42, whose answer was lost: it is done ◀──────┘
//! ```
//!
//! **An answer that is lost** is found out: the same group is sent again. Either it was not carried out, and then the
//! compare holds now and fails for the first one should it come late; or it was, and what is found at its place is ours by
//! the writer's random id and its number.

mod pace;

use std::sync::Arc;
use std::time::Duration;

use batoff_log::StoreError;
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::pace::Politeness;
use crate::client::{EtcdError, RETRY_AFTER};
use crate::draft::{DraftedWrites, draft};
use crate::envelope::{PIECE_BYTES_MAX, SealedValue, ValueWriter};
use crate::index::GroupEntry;
use crate::measure;
use crate::names::{KeyNames, PartsShelf};
use crate::queue::LogWrite;
use crate::rpc::{KeyRange, RequestOp, TxnRequest, TxnResponse, if_modified_at, put, read};
use crate::shared::StoreCore;
use crate::stored::{Envelope, Group, Head};
use crate::witness::GroupMark;

/// Records of a group beyond which what waits goes into the next one.
const GROUP_RECORDS: usize = 1_000;

/// Bytes of a group beyond which what waits goes into the next one. Larger values hold up the heartbeats between members.
const GROUP_BYTES: usize = 256 * 1024;

/// How long to wait after all endpoints have refused, before asking them again.
const ROUND_PAUSE: Duration = Duration::from_millis(50);

/// Groups of others that a lost race brings at once.
const LOST_TO_GROUPS: i64 = 8;

/// The one that appends for this replica.
pub(crate) struct Sequencer {
    shared: Arc<StoreCore>,
    requests: mpsc::Receiver<LogWrite>,
    /// Taken from the queue and not in a group yet.
    next: Option<LogWrite>,
    writer: ValueWriter,
    pace: Politeness,
    /// The last group could not be written, so nobody waits longer than for one round of the endpoints.
    is_out: bool,
}

/// What became of one sending of a group.
enum Sent {
    Committed,
    /// Another's is there: decide anew. The answers that were lost are no question any more.
    DecideAnew,
    /// What was found does not say whether ours was there.
    Lost,
}

impl Sequencer {
    pub(crate) fn new(shared: Arc<StoreCore>, requests: mpsc::Receiver<LogWrite>) -> Self {
        Self {
            shared,
            requests,
            next: None,
            writer: ValueWriter::new(),
            pace: Politeness::default(),
            is_out: false,
        }
    }

    /// Runs until the store is closed; what is still waiting then was certainly not done.
    pub(crate) async fn run(mut self) {
        let stopping = self.shared.stopping.clone();
        loop {
            let first = match self.next.take() {
                Some(request) => Some(request),
                None => tokio::select! {
                    request = self.requests.recv() => request,
                    () = stopping.cancelled() => None,
                },
            };
            let Some(first) = first.filter(|_| !stopping.is_cancelled()) else { break };
            tokio::time::sleep(self.pace.politeness()).await;
            let requests = self.collect(first);
            if !requests.is_empty() {
                self.commit(requests).await;
            }
        }
        self.requests.close();
        let refusal = || Err(StoreError::Unavailable { retry_after: RETRY_AFTER });
        if let Some(request) = self.next.take() {
            request.answer(refusal());
        }
        while let Some(request) = self.requests.recv().await {
            request.answer(refusal());
        }
    }

    /// What goes into one group: `first` and whatever waits, but for what has waited too long.
    fn collect(&mut self, first: LogWrite) -> Vec<LogWrite> {
        let (mut records, mut bytes, mut requests) = (0, 0, Vec::new());
        let mut next = Some(first);
        let max = self.shared.write_time_max;
        while let Some(request) = next.take().or_else(|| self.requests.try_recv().ok()) {
            if request.since().elapsed() > max {
                request.answer(Err(StoreError::Unavailable { retry_after: RETRY_AFTER }));
                continue;
            }
            // What makes room is done.
            if self.shared.is_short() && matches!(request, LogWrite::Append { .. }) {
                request.answer(Err(StoreError::Full));
                continue;
            }
            let is_full =
                records + request.records() > GROUP_RECORDS || bytes + request.bytes() > GROUP_BYTES;
            if !requests.is_empty() && (is_full || request.wants_a_group_of_its_own()) {
                self.next = Some(request);
                break;
            }
            records += request.records();
            bytes += request.bytes();
            let is_alone = request.wants_a_group_of_its_own();
            requests.push(request);
            if is_alone {
                break;
            }
        }
        requests
    }

    /// Brings these requests into the log, and answers them.
    async fn commit(&mut self, requests: Vec<LogWrite>) {
        let begin = Instant::now();
        match self.bring_in(&requests, begin).await {
            Ok(draft) => {
                self.is_out = false;
                if draft.group.is_some() {
                    measure::committed(begin.elapsed(), draft.records);
                }
                for (request, answer) in requests.into_iter().zip(draft.answers) {
                    request.answer(Ok(answer));
                }
            }
            Err(error) => {
                self.is_out = matches!(error, StoreError::Unavailable { .. } | StoreError::Unknown { .. });
                for request in requests {
                    request.answer(Err(error.clone()));
                }
            }
        }
    }

    async fn bring_in(&mut self, requests: &[LogWrite], begin: Instant) -> Result<DraftedWrites, StoreError> {
        let since = requests.iter().map(LogWrite::since).min().unwrap_or(begin);
        let deadline = since + self.shared.write_time_max;
        self.pace.begin();
        let mut is_newest = false;
        loop {
            self.shared.check_running()?;
            let mut draft = draft(&self.shared.index.read(), requests, self.shared.now());
            let Some(group) = draft.group.take() else {
                // What is in the index is true; what is not in it may have come since.
                if !draft.needs_newest || is_newest {
                    return Ok(draft);
                }
                self.shared.catch_up().await?;
                is_newest = true;
                continue;
            };
            match self.send(&draft, &group, deadline).await? {
                Sent::Committed => {
                    draft.group = Some(group);
                    return Ok(draft);
                }
                Sent::DecideAnew => {
                    self.pace.lost();
                    measure::conflict();
                }
                Sent::Lost => {
                    self.shared.catch_up().await?;
                    return Err(StoreError::Unknown { retry_after: RETRY_AFTER });
                }
            }
            if Instant::now() >= deadline {
                return Err(StoreError::Unavailable { retry_after: RETRY_AFTER });
            }
        }
    }

    /// Sends one group until its outcome is known.
    async fn send(
        &mut self,
        draft: &DraftedWrites,
        group: &Group,
        deadline: Instant,
    ) -> Result<Sent, StoreError> {
        let shared = Arc::clone(&self.shared);
        let mut sealed = self.writer.seal(PartsShelf::Groups, group);
        let mut is_staged = false;
        // Whether a sending of it may have been carried out.
        let mut is_doubtful = false;
        let mut failures = 0;
        loop {
            let sent = Instant::now();
            let outcome = match is_staged {
                true => Ok(()),
                false => sealed.stage(&shared.client, &shared.names).await,
            };
            let outcome = match outcome {
                Ok(()) => {
                    is_staged = true;
                    shared.client.txn(&self.transaction(draft, group, &sealed)).await
                }
                // A part that may have been written is written once more.
                Err(error) => Err(error.of_a_part()),
            };
            let error = match outcome {
                Ok(answer) if answer.succeeded => {
                    shared.has_answered(None, true);
                    self.pace.won(sent.elapsed());
                    self.keep(draft, group, &sealed, answer)?;
                    return Ok(Sent::Committed);
                }
                Ok(answer) => match self.lost_race(draft, &sealed, &answer, is_doubtful).await? {
                    Some(sent) => return Ok(sent),
                    // Nothing has changed but that its parts were swept.
                    None => {
                        sealed = self.writer.seal(PartsShelf::Groups, group);
                        is_staged = false;
                        continue;
                    }
                },
                Err(error) => error,
            };
            failures += 1;
            let has_asked_all = failures % shared.client.endpoints() == 0;
            if has_asked_all || !error.is_of_the_endpoint() {
                shared.has_answered(Some(&error), true);
            }
            match error {
                EtcdError::Unknown(_) => {
                    is_doubtful = true;
                    measure::unknown_outcome();
                    tracing::debug!(%error, group = group.group, "the outcome of a group is not known; sending it again");
                }
                EtcdError::NotDone(_) => {}
                EtcdError::Full => return self.find_out(draft, &sealed, is_doubtful).await,
                other if !is_doubtful => return Err(shared.told(other, true)),
                _ => return Err(StoreError::Unknown { retry_after: RETRY_AFTER }),
            }
            if Instant::now() >= deadline || shared.is_closed() || (self.is_out && has_asked_all) {
                let retry_after = RETRY_AFTER;
                return Err(match is_doubtful {
                    true => StoreError::Unknown { retry_after },
                    false => StoreError::Unavailable { retry_after },
                });
            }
            if has_asked_all {
                tokio::time::sleep(ROUND_PAUSE).await;
            }
        }
    }

    /// Whether a group is in the log that was refused for want of room: the one that fills the cluster is.
    async fn find_out(
        &self,
        draft: &DraftedWrites,
        sealed: &SealedValue,
        is_doubtful: bool,
    ) -> Result<Sent, StoreError> {
        let unknown = StoreError::Unknown { retry_after: RETRY_AFTER };
        let request = TxnRequest { success: self.look_at(draft.after + 1), ..TxnRequest::default() };
        let Ok(answer) = self.shared.client.read_txn(&request).await else { return Err(unknown) };
        match self.lost_race(draft, sealed, &answer, is_doubtful).await? {
            Some(Sent::Committed) => Ok(Sent::Committed),
            Some(Sent::Lost) => Err(unknown),
            // Another's is there, so no sending of it can be carried out any more.
            Some(Sent::DecideAnew) => Err(StoreError::Full),
            None if is_doubtful => Err(unknown),
            None => Err(StoreError::Full),
        }
    }

    fn transaction(&self, draft: &DraftedWrites, group: &Group, sealed: &SealedValue) -> TxnRequest {
        let names = &self.shared.names;
        let head = Head { group: group.group, tail: draft.tail.get() };
        let mut compare = vec![
            if_modified_at(names.head(), draft.head_revision),
            if_modified_at(names.identity(), self.shared.identity.revision),
        ];
        compare.extend(sealed.if_staged(names));
        TxnRequest {
            compare,
            success: vec![
                put(names.group(group.group), sealed.value()),
                put(names.head(), head.encode_to_vec()),
            ],
            failure: self.look_at(group.group),
        }
    }

    /// What lies at the place of a group and behind it, and what the compare is about.
    fn look_at(&self, group: u64) -> Vec<RequestOp> {
        let names = &self.shared.names;
        let one = |key| read(KeyRange::one(key).read(1));
        vec![read(names.groups_from(group).read(LOST_TO_GROUPS)), one(names.head()), one(names.identity())]
    }

    /// The group is in the log.
    fn keep(
        &self,
        draft: &DraftedWrites,
        group: &Group,
        sealed: &SealedValue,
        answer: TxnResponse,
    ) -> Result<(), StoreError> {
        let revision = crate::rpc::Headed::revision(&answer);
        let key = self.shared.names.group(group.group);
        let place = sealed.place(&self.shared.names);
        let mark = GroupMark::of(group.group, sealed.envelope());
        if self.shared.apply(&key, group.clone(), revision, place, mark)? {
            return Ok(());
        }
        // The index stood at the group before when this one was decided, and never goes back.
        debug_assert!(false, "group {} follows {}", group.group, draft.after);
        Err(StoreError::Unknown { retry_after: RETRY_AFTER })
    }

    /// The compare has failed: whose group is there instead? `None` when the head is as it was.
    async fn lost_race(
        &self,
        draft: &DraftedWrites,
        sealed: &SealedValue,
        answer: &TxnResponse,
        is_doubtful: bool,
    ) -> Result<Option<Sent>, StoreError> {
        let shared = &self.shared;
        let identity = answer.kvs(2).first().map_or(0, |kv| kv.mod_revision);
        if identity != shared.identity.revision {
            tracing::error!("the log in etcd has got another identity");
            return Err(shared.noted(StoreError::WrongCluster));
        }
        let first = answer.kvs(0).first();
        let is_next = first.is_some_and(|kv| shared.names.group_of(&kv.key) == Some(draft.after + 1));
        let is_ours = match first {
            Some(kv) if is_next => sealed.is(&Envelope::open(&kv.key, kv.value.clone())?),
            _ => false,
        };
        for kv in answer.kvs(0) {
            if !shared.take_in(&kv.key, kv.value.clone(), kv.mod_revision).await? {
                break;
            }
        }
        if is_ours {
            return Ok(Some(Sent::Committed));
        }
        if is_next {
            return Ok(Some(Sent::DecideAnew));
        }
        if answer.kvs(1).first().is_some_and(|head| head.mod_revision == draft.head_revision) {
            return Ok(None);
        }
        // What was at its place has been trimmed.
        if is_doubtful {
            return Ok(Some(Sent::Lost));
        }
        shared.catch_up().await?;
        Ok(Some(Sent::DecideAnew))
    }
}

impl SealedValue {
    /// Where a group of this value lies.
    fn place(&self, names: &KeyNames) -> GroupEntry {
        let envelope = self.envelope();
        let bytes = PIECE_BYTES_MAX * usize::try_from(envelope.parts).unwrap_or(0) + envelope.body.len();
        GroupEntry { bytes, parts: envelope.parts_range(PartsShelf::Groups, names), ..GroupEntry::default() }
    }
}
