//! Random operations on two stores beside a naive model; the seed is printed.

use std::collections::BTreeMap;
use std::sync::Arc;

use batoff_log::conformance::ManualClock;
use batoff_log::{Appended, Store};
use batoff_types::{Seq, UnixMillis};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{everything, keyed_record, open, task_id, tasks};
use crate::EtcdStore;
use crate::testing::EtcdServers;

const STEPS: u32 = 250;
/// Tasks are drawn from so few that repeats are common.
const TASKS: u64 = 400;
const KEY_TTL_MS: u64 = 60_000;

/// What the log and the index must hold.
#[derive(Default)]
struct NaiveLog {
    bodies: Vec<String>,
    /// task → (record, accepted at, completion).
    tasks: BTreeMap<u64, (u64, u64, Option<String>)>,
    /// task → (record, expires at).
    keys: BTreeMap<u64, (u64, u64)>,
}

impl NaiveLog {
    fn append(&mut self, task: u64, accepted_at: u64, now: u64) -> Appended {
        if let Some((seq, _)) = self.keys.get(&task).filter(|(_, expires_at)| now < *expires_at) {
            return Appended::Duplicate { seq: Seq::new(*seq).unwrap(), task: task_id(task) };
        }
        self.bodies.push(body(task, now));
        let seq = self.bodies.len() as u64;
        self.tasks.entry(task).or_insert((seq, accepted_at, None));
        self.keys.insert(task, (seq, now + KEY_TTL_MS));
        Appended::New { seq: Seq::new(seq).unwrap() }
    }
}

fn body(task: u64, now: u64) -> String {
    format!("task {task} at {now}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_stores_that_are_reopened_now_and_then_agree_with_a_naive_log() {
    let seed: u64 = match std::env::var("BATOFF_ETCD_MODEL_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => rand::random(),
    };
    println!("BATOFF_ETCD_MODEL_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let servers = EtcdServers::start(1).await;
    let clock = ManualClock::default();
    let mut stores = [open(&servers, &clock).await, open(&servers, &clock).await];
    let mut model = NaiveLog::default();
    for step in 0..STEPS {
        let at = usize::from(random.random_bool(0.5));
        let log = stores[at].log();
        match random.random_range(0..100) {
            0..50 => {
                let batch: Vec<(u64, u64)> = (0..random.random_range(1..20))
                    .map(|_| (random.random_range(1..=TASKS), random.random_range(1_000..100_000)))
                    .collect();
                let now = clock.now().0;
                let records = batch.iter().map(|(task, accepted_at)| {
                    let expires_at = UnixMillis(now + KEY_TTL_MS);
                    let mut record = keyed_record(body(*task, now), *task, expires_at);
                    record.accepted_at = UnixMillis(*accepted_at);
                    record
                });
                let answers = log.append(records.collect()).await.unwrap();
                let expected: Vec<_> =
                    batch.iter().map(|(task, accepted_at)| model.append(*task, *accepted_at, now)).collect();
                assert_eq!(answers, expected, "seed {seed}, step {step}");
            }
            50..75 => {
                let rows: Vec<(u64, String)> = (0..random.random_range(1..15))
                    .map(|_| (random.random_range(1..=TASKS), format!("{step}")))
                    .collect();
                let completions = rows.iter().map(|(task, row)| (task_id(*task), Bytes::from(row.clone())));
                log.put_completions(completions.collect()).await.unwrap();
                for (task, row) in rows {
                    if let Some(known) = model.tasks.get_mut(&task) {
                        known.2 = Some(row);
                    }
                }
            }
            75..83 => {
                let keep_from = random.random_range(0..=model.bodies.len() as u64) + 1;
                log.trim(Seq::new(keep_from).unwrap()).await.unwrap();
            }
            83..88 => {
                let before = random.random_range(0..60_000);
                let forgotten = log.forget_tasks(UnixMillis(before)).await.unwrap();
                let old = model.tasks.len();
                model.tasks.retain(|_, (_, accepted_at, _)| *accepted_at >= before);
                assert_eq!(forgotten, (old - model.tasks.len()) as u64, "seed {seed}, step {step}");
            }
            88..94 => clock.advance_ms(random.random_range(0..KEY_TTL_MS / 2)),
            _ => {
                stores[at].close().await;
                stores[at] = open(&servers, &clock).await;
            }
        }
        if step % 10 == 0 {
            agree(&stores, &model, seed).await;
        }
    }
    agree(&stores, &model, seed).await;
}

async fn agree(stores: &[Arc<EtcdStore>; 2], model: &NaiveLog, seed: u64) {
    let mut expected: Vec<_> = model
        .tasks
        .iter()
        .map(|(task, (seq, at, row))| (*seq, task_id(*task), *at, row.clone().map(Bytes::from)))
        .collect();
    expected.sort_by_key(|row| std::cmp::Reverse(row.0));
    for store in stores {
        let state = store.log().state().await.unwrap();
        assert_eq!(state.tail.get(), model.bodies.len() as u64, "seed {seed}");
        for record in everything(store.log()).await {
            let number = usize::try_from(record.seq.get()).unwrap();
            assert_eq!(record.body, model.bodies[number - 1], "seed {seed}");
        }
        let found: Vec<_> = tasks(store.log())
            .await
            .into_iter()
            .map(|row| (row.seq.get(), row.task, row.accepted_at.0, row.completion))
            .collect();
        assert_eq!(found, expected, "seed {seed}");
    }
}
