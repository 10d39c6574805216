//! Trimming: records go, what must outlive them (rows of tasks, keys that have not expired) is left in pages.
//!
//! ```text
//!  before   x/ rows 1 … 40 |          l/ groups 7  8  9  10        f = group 7, record 41
//!  trim(58)                                   ╰──┬──╯
//!  after    x/ rows 1 … 57 |                  l/ 9  10             f = group 9, record 58
//! ```
//!
//! Pages first, each with all that the index knows; then one transaction deletes the groups and moves `f`. A crash between
//! the two leaves pages that know more than they need: the log is applied on top of them and ends at the same. Each write
//! compares `f`, which the trimmer has written at the beginning: of two replicas that trim at once, the earlier one stops.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use batoff_log::{StoreError, TaskRow};
use batoff_types::{Seq, UnixMillis};
use bytes::Bytes;
use prost::Message;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::client::{EtcdError, RETRY_AFTER};
use crate::envelope::ValueWriter;
use crate::index::PAGE_SEQS;
use crate::names::PartsShelf;
use crate::rpc::{Compare, Headed, KeyRange, RequestOp, TxnRequest, delete, if_modified_at, put};
use crate::shared::StoreCore;
use crate::stored::{Decision, Envelope, First, Group, Page, Row, SeenKey, Task};

/// Groups that one transaction deletes.
const GROUPS_AT_ONCE: u64 = 64;

/// How long a trim goes on although others trim, too, or calls fail.
const TRIM_TIME_MAX: Duration = Duration::from_secs(10);

/// How long to leave the others alone, at least.
const YIELD_MS: u64 = 100;

/// The one that trims for this replica.
pub(crate) struct Trimmer {
    shared: Arc<StoreCore>,
    held: Mutex<HeldByTrimmer>,
}

struct HeldByTrimmer {
    writer: ValueWriter,
    /// Parts that nobody referred to at the last trim. Those of a group that is being written are referred to soon.
    orphans: HashSet<Bytes>,
}

/// Why a step came to nothing.
enum StepError {
    /// Another replica trims, or a call has failed that may be repeated.
    Again,
    Failed(StoreError),
}

impl From<StoreError> for StepError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable { .. } | StoreError::Unknown { .. } => Self::Again,
            error => Self::Failed(error),
        }
    }
}

impl Trimmer {
    pub(crate) fn new(shared: Arc<StoreCore>) -> Self {
        let held = HeldByTrimmer { writer: ValueWriter::new(), orphans: HashSet::new() };
        Self { shared, held: Mutex::new(held) }
    }

    /// See [`PurgeLog::trim`](batoff_log::PurgeLog::trim).
    pub(crate) async fn trim(&self, keep_from: Seq) -> Result<Seq, StoreError> {
        let mut held = self.held.lock().await;
        let deadline = Instant::now() + TRIM_TIME_MAX;
        let mut has_trimmed = false;
        loop {
            self.shared.catch_up().await?;
            let (first, target) = self.target(keep_from);
            if target.group <= first.group {
                if has_trimmed {
                    self.sweep(&mut held.orphans).await;
                }
                return Ok(Seq::new(first.seq).unwrap_or(Seq::FIRST));
            }
            match self.step(&mut held.writer, keep_from).await {
                Ok(()) => has_trimmed = true,
                // The write that fills the cluster is carried out.
                Err(StepError::Failed(StoreError::Full)) => {
                    self.shared.catch_up().await?;
                    if self.target(keep_from).0 == first {
                        return Err(StoreError::Full);
                    }
                    has_trimmed = true;
                }
                Err(StepError::Failed(error)) => return Err(error),
                Err(StepError::Again) if Instant::now() < deadline => {
                    let pause = Duration::from_millis(YIELD_MS + rand::random_range(0..YIELD_MS));
                    tokio::time::sleep(pause).await;
                }
                Err(StepError::Again) => return Err(StoreError::Unknown { retry_after: RETRY_AFTER }),
            }
        }
    }

    /// Where the log begins, and where it will after one step.
    fn target(&self, keep_from: Seq) -> (First, First) {
        let index = self.shared.index.read();
        let first = First { group: index.first_group(), seq: index.first_seq().get() };
        (first, index.trim_target(keep_from, GROUPS_AT_ONCE))
    }

    /// Trims some groups.
    async fn step(&self, writer: &mut ValueWriter, keep_from: Seq) -> Result<(), StepError> {
        let ends = self.shared.read_ends().await?;
        let token = self.take(&ends.first, ends.first_revision).await?;
        let (first, target) = self.target(keep_from);
        if first != ends.first || target.group <= first.group {
            return Err(StepError::Again);
        }
        let groups = self.shared.groups(first.group, target.group - 1).await?.ok_or(StepError::Again)?;
        let mut keys = self.keys_to_keep(groups);
        let pages = self.shared.index.read().pages_for(&target);
        for page in pages {
            self.write_page(writer, token, page, &first, &target, keys.remove(&page).unwrap_or_default())
                .await?;
        }
        self.finish(token, &target).await?;
        self.shared.trimmed(&target);
        Ok(())
    }

    /// Says that this replica trims from now on: whoever did before is refused. Returns what its writes compare.
    async fn take(&self, first: &First, revision: i64) -> Result<i64, StepError> {
        let answer =
            self.write(revision, vec![put(self.shared.names.first(), first.encode_to_vec())], None).await?;
        Ok(answer)
    }

    /// Deletes the groups before `target`, and lets the log begin there.
    async fn finish(&self, token: i64, target: &First) -> Result<(), StepError> {
        let names = &self.shared.names;
        let mut writes =
            vec![delete(&names.groups_before(target.group)), put(names.first(), target.encode_to_vec())];
        {
            let index = self.shared.index.read();
            let parts = index.places_before(target.group).filter_map(|place| place.parts.as_ref());
            writes.extend(parts.map(delete));
        }
        self.write(token, writes, None).await.map(|_| ())
    }

    /// Keys in these groups that must outlive them, by page.
    fn keys_to_keep(&self, groups: Vec<Group>) -> BTreeMap<u64, Vec<(u64, SeenKey)>> {
        let (now, index) = (self.shared.now(), self.shared.index.read());
        let mut kept: BTreeMap<u64, Vec<(u64, SeenKey)>> = BTreeMap::new();
        for group in groups {
            let mut next = group.first_seq;
            for entry in group.entries {
                let Some(Decision::Record(record)) = entry.entry else { continue };
                let seq = next;
                next += 1;
                for key in record.keys {
                    // Or it was used again since, by a later record.
                    let is_its = crate::stored::hash(&key.key)
                        .and_then(|hash| index.seen(&hash).copied())
                        .is_some_and(|seen| seen.seq.get() == seq);
                    if is_its && is_alive(&key, now) {
                        kept.entry(seq / PAGE_SEQS).or_default().push((seq, key));
                    }
                }
            }
        }
        kept
    }

    /// Writes one page as it is to be once the log begins at `target`.
    async fn write_page(
        &self,
        writer: &mut ValueWriter,
        token: i64,
        page: u64,
        first: &First,
        target: &First,
        keys: Vec<(u64, SeenKey)>,
    ) -> Result<(), StepError> {
        let (names, now) = (&self.shared.names, self.shared.now());
        let key = names.page(page);
        let mut rows: BTreeMap<u64, Row> = BTreeMap::new();
        for (seq, key) in self.keys_of_page(&key, page, first).await?.into_iter().chain(keys) {
            if is_alive(&key, now) {
                rows.entry(seq).or_insert_with(|| Row { seq, ..Row::default() }).keys.push(key);
            }
        }
        let end = target.seq.min((page + 1) * PAGE_SEQS);
        for task in self.shared.index.read().rows(page * PAGE_SEQS, end) {
            let seq = task.seq.get();
            let keys = rows.remove(&seq).map(|row| row.keys).unwrap_or_default();
            rows.insert(seq, Row { keys, ..row_of(task) });
        }
        let shelf = PartsShelf::Page(page);
        if rows.is_empty() {
            let writes = vec![delete(&KeyRange::one(key)), delete(&names.shelf(shelf))];
            return self.write(token, writes, None).await.map(|_| ());
        }
        let sealed = writer.seal(shelf, &Page { rows: rows.into_values().collect() });
        sealed.stage(&self.shared.client, names).await.map_err(|error| self.step_error(error))?;
        let mut writes = vec![put(key, sealed.value())];
        // Those of the page as it was, and of any that came to nothing.
        writes.extend(sealed.other_parts(names).iter().map(delete));
        self.write(token, writes, sealed.if_staged(names)).await.map(|_| ())
    }

    /// The keys that a page has for records that were trimmed before.
    async fn keys_of_page(
        &self,
        key: &Bytes,
        page: u64,
        first: &First,
    ) -> Result<Vec<(u64, SeenKey)>, StepError> {
        let shared = &self.shared;
        let found = shared.client.range(&KeyRange::one(key.clone()).read(1)).await;
        let found = found.map_err(|error| self.step_error(error))?;
        let Some(kv) = found.kvs.into_iter().next() else { return Ok(Vec::new()) };
        let envelope = Envelope::open(key, kv.value).map_err(|error| shared.noted(error))?;
        let unpacked =
            envelope.unpack::<Page>(PartsShelf::Page(page), key, &shared.client, &shared.names).await;
        let rows = unpacked.map_err(|error| shared.noted(error))?.ok_or(StepError::Again)?.rows;
        let old = rows.into_iter().filter(|row| row.seq < first.seq);
        Ok(old.flat_map(|row| row.keys.into_iter().map(move |key| (row.seq, key))).collect())
    }

    /// Writes on condition that `f` is of this revision; returns the revision of the write.
    async fn write(
        &self,
        first_revision: i64,
        success: Vec<RequestOp>,
        further: Option<Compare>,
    ) -> Result<i64, StepError> {
        let names = &self.shared.names;
        let mut compare = vec![
            if_modified_at(names.first(), first_revision),
            if_modified_at(names.identity(), self.shared.identity.revision),
        ];
        compare.extend(further);
        let request = TxnRequest { compare, success, failure: Vec::new() };
        match self.shared.client.txn(&request).await {
            Ok(answer) if answer.succeeded => Ok(answer.revision()),
            Ok(_) => Err(StepError::Again),
            Err(error) => Err(self.step_error(error)),
        }
    }

    fn step_error(&self, error: EtcdError) -> StepError {
        self.shared.told(error, true).into()
    }

    /// Deletes parts that belong to no group and did not at the last trim either: their writer has died, or has decided
    /// anew. On condition that no group has come since the index was read, for that may be theirs.
    async fn sweep(&self, orphans: &mut HashSet<Bytes>) {
        let names = &self.shared.names;
        let mut request = names.shelf(PartsShelf::Groups).read(0);
        request.keys_only = true;
        let Ok(found) = self.shared.client.range(&request).await else { return };
        if found.kvs.is_empty() {
            orphans.clear();
            return;
        }
        let (head, used): (i64, BTreeSet<Bytes>) = {
            let index = self.shared.index.read();
            let used = index.places().filter_map(|place| Some(place.parts.as_ref()?.begin.clone()));
            (index.head_revision(), used.collect())
        };
        let mut now_orphans = HashSet::new();
        for kv in found.kvs {
            let value = names.value_of_part(&kv.key);
            if !used.contains(&value) {
                now_orphans.insert(value);
            }
        }
        for value in now_orphans.intersection(orphans) {
            let request = TxnRequest {
                compare: vec![if_modified_at(names.head(), head)],
                success: vec![delete(&KeyRange::below(value.clone()))],
                failure: Vec::new(),
            };
            if let Err(error) = self.shared.client.txn(&request).await {
                tracing::debug!(%error, "parts of a value that nobody refers to stay for now");
            }
        }
        *orphans = now_orphans;
    }
}

fn is_alive(key: &SeenKey, now: UnixMillis) -> bool {
    now.0 < key.expires_at
}

pub(crate) fn row_of(task: &TaskRow) -> Row {
    Row {
        seq: task.seq.get(),
        accepted_at: task.accepted_at.0,
        task: Some(Task {
            site: Bytes::copy_from_slice(task.site.as_str().as_bytes()),
            task: Bytes::copy_from_slice(&task.task.to_bytes()),
            meta_is_body: false,
            meta: task.meta.clone(),
        }),
        completed: task.completion.is_some(),
        completion: task.completion.clone().unwrap_or_default(),
        keys: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use batoff_log::Store;
    use batoff_log::conformance::ManualClock;

    use super::*;
    use crate::EtcdStore;
    use crate::testing::EtcdServers;

    /// A trimmer that froze half-way would undo what the next one has written since.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whoever_trimmed_before_writes_nothing_any_more() {
        let servers = EtcdServers::start(1).await;
        let open = async || {
            EtcdStore::open(servers.config(ManualClock::default().clock()))
                .await
                .expect("a store can be opened")
        };
        let (slow, quick) = (open().await, open().await);
        let ends = slow.shared().read_ends().await.expect("the log's ends can be read");
        let trimmer = Trimmer::new(slow.shared_arc());
        let Ok(token) = trimmer.take(&ends.first, ends.first_revision).await else {
            panic!("nobody else trims")
        };
        let page = |token| {
            let trimmer = &trimmer;
            let ends = &ends;
            async move {
                let mut writer = ValueWriter::new();
                trimmer.write_page(&mut writer, token, 0, &ends.first, &ends.first, Vec::new()).await
            }
        };
        assert!(page(token).await.is_ok());
        let record = batoff_log::NewRecord {
            body: Bytes::from("x"),
            accepted_at: UnixMillis(1),
            task: None,
            dedupe: Vec::new(),
        };
        quick.log().append(vec![record]).await.expect("an append to a sound store succeeds");
        quick.log().trim(Seq::FIRST.next()).await.expect("trimming succeeds");
        assert!(matches!(page(token).await, Err(StepError::Again)));
        assert!(matches!(trimmer.finish(token, &ends.first).await, Err(StepError::Again)));
        assert_eq!(quick.log().state().await.expect("the state can be read").first, Seq::FIRST.next());
    }
}
