//! The task that takes the seat, and shows again and again that it is still this process's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use batoff_delivery::{LeaseTimes, Seat, SeatAnswer, SeatConfig, SeatRequest};
use batoff_log::{CasError, Expect, Guard, Key, Store, StoreError, Write};
use batoff_types::{InstanceId, Moment, Replica, Term};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use super::lock::FolderLock;
use super::row;
use super::tenure::{HeldSeat, SeatProof, SeatStage, Tenure};
use crate::clock::Clock;
use crate::metrics;
use crate::store::rows::unreadable;

/// The name of the seat's row, among the replica's own.
const SEAT: &str = "seat";

/// How long a request to the store may take. It has to be far less than a proof counts.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(3);

/// The seat that a process wants.
#[derive(Clone, Debug)]
pub struct SeatWanted {
    /// Which.
    pub replica: Replica,
    /// How long a proof counts, the same for every process that ever takes the seat.
    pub seat: Duration,
    /// As in [`SeatConfig`].
    pub term_least: Term,
    /// For the rates of clocks.
    pub times: LeaseTimes,
}

/// See the module. Nothing happens until it [runs](Self::run).
pub struct SeatKeeper {
    store: Arc<dyn Store>,
    clock: Clock,
    process: InstanceId,
    key: Key,
    seat: Seat,
    held: Arc<HeldSeat>,
    trouble: Option<String>,
    /// It releases the seat, or has.
    is_leaving: bool,
}

impl SeatKeeper {
    /// For a process that starts now and holds `lock`; and its tenure, which this keeps up to date.
    pub fn new(store: Arc<dyn Store>, clock: Clock, wanted: SeatWanted, lock: FolderLock) -> (Self, Tenure) {
        let process = InstanceId::from_ulid(Ulid::generate());
        let SeatWanted { replica, seat, term_least, times } = wanted;
        let config = SeatConfig { replica, process, place: lock.place().cloned(), seat, term_least, times };
        let held = Arc::new(HeldSeat {
            until: AtomicU64::new(0),
            shown: Mutex::new(SeatProof::default()),
            stage: watch::Sender::new(SeatStage::Asking { trouble: None }),
            lost: CancellationToken::new(),
            hurry: Notify::new(),
            seat,
            _lock: lock,
        });
        let tenure = Tenure { replica, seat: Some(Arc::clone(&held)) };
        let keeper = Self {
            key: tenure.key(SEAT),
            seat: Seat::new(config, clock.now()),
            store,
            clock,
            process,
            held,
            trouble: None,
            is_leaving: false,
        };
        (keeper, tenure)
    }

    /// Takes the seat and keeps it, until `stop`; then it can be released. When it is lost that is told, and nothing more
    /// is done.
    pub async fn run(mut self, stop: CancellationToken) -> Self {
        metrics::replica(self.seat.replica());
        stop.run_until_cancelled(self.keep()).await;
        self
    }

    /// From now on this process grants and states nothing. Then that is written into the seat's row, so that a successor
    /// need not wait, wherever it runs. It is the last row that this process can write as the replica. Goes on trying
    /// until it is done; to be given up at any time.
    pub async fn release(mut self) {
        // What was asked when it was stopped gets no answer any more.
        self.seat.handle_answer(self.clock.now(), SeatAnswer::Unknown);
        self.seat.release(self.clock.now());
        self.is_leaving = true;
        self.held.shown.lock().guard = None;
        self.show();
        while self.seat.next_timeout().is_some() {
            self.turn().await;
        }
    }

    async fn keep(&mut self) {
        while self.seat.next_timeout().is_some() {
            self.turn().await;
        }
        // It is lost. Whoever started this decides when it ends.
        std::future::pending::<()>().await;
    }

    /// Asks what is to be asked, or waits until something is.
    async fn turn(&mut self) {
        if let Some(request) = self.seat.poll_request(self.clock.now()) {
            let answer = self.ask(&request).await;
            self.seat.handle_answer(self.clock.now(), answer);
            self.show();
        } else if let Some(at) = self.seat.next_timeout() {
            let pause = at.since(self.clock.now()).max(Duration::from_millis(1));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.held.hurry.notified() => self.seat.hurry(self.clock.now()),
            }
        }
    }

    /// Every request gets an answer.
    async fn ask(&mut self, request: &SeatRequest) -> SeatAnswer {
        let trouble = match tokio::time::timeout(REQUEST_TIME_MAX, self.carry_out(request)).await {
            Ok(Ok(answer)) => {
                self.trouble = None;
                return answer;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", REQUEST_TIME_MAX.as_secs()),
        };
        // The same again and again is told once.
        if self.trouble.as_ref() != Some(&trouble) {
            tracing::warn!(
                replica = self.seat.replica().0,
                trouble,
                "the store does not say whose the seat is"
            );
            self.trouble = Some(trouble);
        }
        SeatAnswer::Unknown
    }

    async fn carry_out(&self, request: &SeatRequest) -> Result<SeatAnswer, StoreError> {
        let kv = self.store.kv();
        match request {
            SeatRequest::Read => {
                let Some(found) = kv.get(&self.key).await? else { return Ok(SeatAnswer::Record(None)) };
                let record = row::decode(&found.value).map_err(|why| unreadable(&self.key, why))?;
                if record.process == self.process {
                    self.guard_by(found.version);
                }
                Ok(SeatAnswer::Record(Some(record)))
            }
            SeatRequest::Replace { expected, new } => {
                let found = kv.get(&self.key).await?;
                let record = found.as_ref().map(|found| row::decode(&found.value)).transpose();
                if record.map_err(|why| unreadable(&self.key, why))? != *expected {
                    return Ok(SeatAnswer::Conflict);
                }
                let expect = found.map_or(Expect::Absent, |found| Expect::Version(found.version));
                let write = Write::Put { value: row::encode(new).into(), ttl: None };
                match kv.cas(&self.key, expect, write).await {
                    Ok(version) => {
                        self.guard_by(version);
                        Ok(SeatAnswer::Replaced)
                    }
                    Err(CasError::Conflict(_)) => Ok(SeatAnswer::Conflict),
                    Err(CasError::Store(error)) => Err(error),
                }
            }
            SeatRequest::Head => Ok(SeatAnswer::Head(self.store.log().state().await?.tail)),
        }
    }

    fn guard_by(&self, version: batoff_log::Version) {
        // What was released guards nothing: a successor may already read what this process would write.
        if self.is_leaving {
            return;
        }
        self.held.shown.lock().guard = Some(Guard { key: self.key.clone(), version });
    }

    /// Tells all others how far it is.
    fn show(&mut self) {
        let replica = self.seat.replica();
        self.held.until.store(self.seat.held_until().as_micros(), Ordering::Release);
        let term = self.seat.term();
        if let Some(term) = term {
            self.held.shown.lock().term = Some(term);
        }
        let stage = if self.seat.is_lost() {
            SeatStage::Lost
        } else if self.seat.is_released() {
            SeatStage::Released
        } else if let Some(floor) = self.seat.floor() {
            SeatStage::Seated { floor }
        } else if let Some(until) = self.seat.waits_until() {
            SeatStage::Waiting { until }
        } else {
            SeatStage::Asking { trouble: self.trouble.clone() }
        };
        let now = self.clock.now();
        let told = stage.clone();
        let is_new = self.held.stage.send_if_modified(|shown| {
            let is_new = *shown != stage;
            *shown = stage;
            is_new
        });
        if is_new {
            self.tell(&told, replica, term, now);
        }
        metrics::seat_lost(told == SeatStage::Lost);
        if told == SeatStage::Lost {
            self.held.lost.cancel();
        }
    }

    fn tell(&self, stage: &SeatStage, replica: Replica, term: Option<Term>, now: Moment) {
        let (replica, term) = (replica.0, term.map(|term| term.0));
        match stage {
            SeatStage::Asking { .. } => {}
            SeatStage::Waiting { until } => tracing::info!(
                replica,
                term,
                seconds = until.since(now).as_secs(),
                "waiting until an earlier process of this replica has certainly stopped"
            ),
            SeatStage::Seated { floor } => {
                tracing::info!(replica, term, %floor, "this process has the replica's seat");
            }
            SeatStage::Released => tracing::info!(replica, "this process has released the replica's seat"),
            SeatStage::Lost => tracing::error!(
                replica,
                "another process has taken this replica's seat; this one sends its nodes away, stop it"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use batoff_log::embedded::{EmbeddedConfig, EmbeddedStore};
    use batoff_log::system_clock;
    use tempfile::TempDir;
    use tokio::task::JoinHandle;

    use super::*;

    struct Process {
        tenure: Tenure,
        running: JoinHandle<SeatKeeper>,
        stop: CancellationToken,
    }

    /// A process of replica 2 with its data in `dir`.
    fn start(store: &Arc<EmbeddedStore>, dir: &TempDir, term_least: u64) -> Process {
        let wanted = SeatWanted {
            replica: Replica(2),
            seat: Duration::from_secs(1),
            term_least: Term(term_least),
            times: LeaseTimes::default(),
        };
        let store = Arc::clone(store) as Arc<dyn Store>;
        let lock = FolderLock::take(dir.path()).unwrap();
        let (keeper, tenure) = SeatKeeper::new(store, Clock::system(), wanted, lock);
        let stop = CancellationToken::new();
        Process { tenure, running: tokio::spawn(keeper.run(stop.clone())), stop }
    }

    #[tokio::test]
    async fn a_seat_goes_to_the_last_who_asks_for_it_and_its_rows_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(EmbeddedConfig::new(dir.path(), system_clock())).unwrap();
        let [here, there] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let key = Key::from("replica/2/lease-max-ms");

        let first = start(&store, &here, 7);
        first.tenure.seated().await.unwrap();
        assert_eq!(first.tenure.term(), Some(Term(7)));
        assert_eq!((first.tenure.key("lease-max-ms"), first.tenure.key("a") == key), (key.clone(), false));
        first.tenure.put(store.kv(), &key, "first").await.unwrap();

        // At another place: it cannot know that the first is gone.
        let second = start(&store, &there, 0);
        first.tenure.lost().await;
        let why = first.tenure.trouble(Moment::ZERO).unwrap();
        assert!(why.contains("another process") && why.contains("replica 2"), "{why}");
        let refused = first.tenure.put(store.kv(), &key, "zombie").await;
        assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
        let refused = first.tenure.delete(store.kv(), &key).await;
        assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
        let why = second.tenure.trouble(Moment::ZERO).unwrap();
        assert!(why.starts_with("waits ") && why.contains("replica 2"), "{why}");
        assert_eq!(second.tenure.floor(), None);
        second.tenure.seated().await.unwrap();
        assert_eq!((second.tenure.term(), second.tenure.floor()), (Some(Term(8)), Some(Default::default())));
        second.tenure.put(store.kv(), &key, "second").await.unwrap();
        assert_eq!(store.kv().get(&key).await.unwrap().unwrap().value, "second");

        // At the same place, whose lock it has got: the second is certainly gone, and it had waited.
        second.stop.cancel();
        second.running.await.unwrap();
        drop(second.tenure);
        let third = start(&store, &there, 0);
        third.tenure.seated().await.unwrap();
        assert_eq!(third.tenure.term(), Some(Term(9)));
        third.tenure.put(store.kv(), &key, "third").await.unwrap();
        store.close().await;
    }

    #[tokio::test]
    async fn a_seat_that_was_released_is_had_at_once_at_another_place() {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(EmbeddedConfig::new(dir.path(), system_clock())).unwrap();
        let [here, there] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let key = Key::from("replica/2/lease-max-ms");
        let first = start(&store, &here, 0);
        first.tenure.seated().await.unwrap();
        first.stop.cancel();
        first.running.await.unwrap().release().await;
        assert_eq!(first.tenure.held_until(), Some(Moment::ZERO));
        let why = first.tenure.trouble(Moment::ZERO).unwrap();
        assert!(why.contains("has released the seat of replica 2"), "{why}");
        let refused = first.tenure.put(store.kv(), &key, "late").await;
        assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");

        let second = start(&store, &there, 0);
        let mut stages = second.tenure.seat.as_ref().unwrap().stage.subscribe();
        let first_news = stages.wait_for(|stage| !matches!(stage, SeatStage::Asking { .. })).await.unwrap();
        assert!(matches!(&*first_news, SeatStage::Seated { .. }), "{first_news:?}");
        drop(first_news);
        assert_eq!(second.tenure.term(), Some(Term(2)));
        store.close().await;
    }

    #[tokio::test]
    async fn a_seat_is_held_by_proofs_and_not_longer_than_they_count() {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(EmbeddedConfig::new(dir.path(), system_clock())).unwrap();
        let here = tempfile::tempdir().unwrap();
        let process = start(&store, &here, 0);
        process.tenure.seated().await.unwrap();
        let begin = process.tenure.held_until().unwrap();
        while process.tenure.held_until() == Some(begin) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // The store answers no more: nothing is proved, and nothing is taken for granted.
        store.close().await;
        let last = loop {
            let until = process.tenure.held_until().unwrap();
            tokio::time::sleep(Duration::from_millis(400)).await;
            if process.tenure.held_until() == Some(until) {
                break until;
            }
        };
        let before = Moment::from_micros(last.as_micros() - 1);
        assert_eq!(process.tenure.trouble(before), None);
        let why = process.tenure.trouble(last).unwrap();
        assert!(why.contains("no lease is granted"), "{why}");
        assert!(!process.tenure.is_own_since(last));
    }

    #[tokio::test]
    async fn a_proof_that_is_wanted_comes_before_the_next_one_of_its_own_accord() {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(EmbeddedConfig::new(dir.path(), system_clock())).unwrap();
        let here = tempfile::tempdir().unwrap();
        let clock = Clock::system();
        // Proofs are so far apart that nobody lives to see two.
        let wanted = SeatWanted {
            replica: Replica(2),
            seat: Duration::from_secs(3_600),
            term_least: Term(0),
            times: LeaseTimes::default(),
        };
        let lock = FolderLock::take(here.path()).unwrap();
        let (keeper, tenure) = SeatKeeper::new(Arc::clone(&store) as _, clock.clone(), wanted, lock);
        let keeping = tokio::spawn(keeper.run(CancellationToken::new()));
        tenure.seated().await.unwrap();
        let noticed = clock.now();
        while !tenure.is_own_since(noticed) {
            tenure.hurry();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        keeping.abort();
        store.close().await;
    }

    #[tokio::test]
    async fn a_row_that_cannot_be_read_is_nobodys_seat() {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(EmbeddedConfig::new(dir.path(), system_clock())).unwrap();
        let here = tempfile::tempdir().unwrap();
        let key = Key::from("replica/2/seat");
        let noise = Write::Put { value: "noise".into(), ttl: None };
        store.kv().cas(&key, Expect::Any, noise).await.unwrap();
        let process = start(&store, &here, 0);
        let why = loop {
            let why = process.tenure.trouble(Moment::ZERO).unwrap();
            if why.contains("replica/2/seat") {
                break why;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        assert!(why.contains("does not give the seat of replica 2"), "{why}");
        store.close().await;
    }
}
