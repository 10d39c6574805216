mod faults;
mod fleet;
mod golden;
mod large;
mod lossy_proxy;
mod model;
mod moving;
mod older;
mod opening;
mod replicas;
mod secured;
mod trimming;

use std::sync::Arc;

use batoff_log::conformance::{ManualClock, Subject};
use batoff_log::{Appended, Dedupe, NewRecord, NewTask, PurgeLog, Store, StoredRecord, TaskRow};
use batoff_types::{Seq, SiteId, TaskId, UnixMillis};
use bytes::Bytes;

use crate::testing::EtcdServers;
use crate::{EtcdConfig, EtcdStore};

/// A new store in a cluster of its own.
async fn subject() -> Subject {
    let servers = EtcdServers::start(1).await;
    let clock = ManualClock::default();
    let store = open(&servers, &clock).await;
    Subject { store, clock, keep: Box::new(servers) }
}

mod conformance {
    batoff_log::conformance_suite!(super::subject);
}

async fn open(servers: &EtcdServers, clock: &ManualClock) -> Arc<EtcdStore> {
    EtcdStore::open(servers.config(clock.clock())).await.unwrap()
}

/// Opens a store that asks this member first.
async fn open_at(servers: &EtcdServers, member: usize, clock: &ManualClock) -> Arc<EtcdStore> {
    let mut endpoints = servers.endpoints();
    endpoints.rotate_left(member);
    EtcdStore::open(EtcdConfig::new(endpoints, clock.clock())).await.unwrap()
}

fn seq(number: u64) -> Seq {
    Seq::new(number).unwrap()
}

fn site() -> SiteId {
    "shop".parse().unwrap()
}

fn task_id(number: u64) -> TaskId {
    TaskId::from_bytes(u128::from(number).to_be_bytes())
}

fn record(body: impl Into<Bytes>) -> NewRecord {
    NewRecord { body: body.into(), accepted_at: UnixMillis(1_000), task: None, dedupe: Vec::new() }
}

/// A record with a task, whose row holds the record once more.
fn task_record(body: impl Into<Bytes>, task: u64) -> NewRecord {
    let body = body.into();
    let task = NewTask { site: site(), task: task_id(task), meta: body.clone() };
    NewRecord { task: Some(task), ..record(body) }
}

/// The same, recognised as a repeat by its task's number until then.
fn keyed_record(body: impl Into<Bytes>, task: u64, expires_at: UnixMillis) -> NewRecord {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&task.to_be_bytes());
    let dedupe = vec![Dedupe { key, body_hash: [7; 32], fresh_for_ms: 0, expires_at }];
    NewRecord { dedupe, ..task_record(body, task) }
}

async fn append_one(store: &EtcdStore, record: NewRecord) -> Appended {
    let answers = store.log().append(vec![record]).await.unwrap();
    assert_eq!(answers.len(), 1);
    answers[0]
}

/// Every record that the store can read, and that their numbers follow one another.
async fn everything(log: &dyn PurgeLog) -> Vec<StoredRecord> {
    let mut records: Vec<StoredRecord> = Vec::new();
    let mut next = log.state().await.unwrap().first;
    loop {
        let page = log.read(next, 1_000, usize::MAX).await.unwrap();
        let Some(last) = page.last() else { return records };
        for record in &page {
            assert_eq!(record.seq, next, "no gap");
            next = next.next();
        }
        assert_eq!(last.seq.next(), next);
        records.extend(page);
    }
}

/// All tasks, newest first.
async fn tasks(log: &dyn PurgeLog) -> Vec<TaskRow> {
    let mut rows: Vec<TaskRow> = Vec::new();
    loop {
        let before = rows.last().map(|row| row.task);
        let page = log.list_tasks(&site(), before, 1_000).await.unwrap();
        if page.is_empty() {
            return rows;
        }
        rows.extend(page);
    }
}

/// How many keys of etcd begin with this, below the log's prefix.
async fn keys_below(store: &EtcdStore, kind: &str) -> usize {
    let shared = store.shared();
    let prefix = format!("{}{kind}", crate::DEFAULT_PREFIX);
    let mut request = crate::rpc::KeyRange::below(prefix.into()).read(0);
    request.keys_only = true;
    shared.client.range(&request).await.unwrap().kvs.len()
}
