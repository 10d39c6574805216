//! Opening a store, and what runs while it is open.

use std::sync::Arc;

use async_trait::async_trait;
use batoff_log::{Health, Kv, Presence, PurgeLog, Store};
use batoff_types::LogId;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::client::EtcdClient;
use crate::config::EtcdConfig;
use crate::follower::{compact, follow};
use crate::kv::{EtcdPairs, expire};
use crate::load::load;
use crate::log::EtcdLog;
use crate::names::KeyNames;
use crate::open::{adopt, identify, inspect};
use crate::open_error::EtcdOpenError;
use crate::presence::Replicas;
use crate::queue::WriteQueue;
use crate::room::watch_room;
use crate::sequencer::Sequencer;
use crate::shared::StoreCore;
use crate::witness::{self, LogLife};

/// A store in an etcd cluster, one of several over the same log.
///
/// Call [`Store::close`] at the end; one that is only dropped lets go of the cluster a moment later, and its presence is
/// seen for ten seconds more.
pub struct EtcdStore {
    shared: Arc<StoreCore>,
    log: EtcdLog,
    pairs: EtcdPairs,
    replicas: Arc<Replicas>,
    tasks: TaskTracker,
}

impl EtcdStore {
    /// Opens the log under the prefix, or makes a new one when there is none. Reads the whole log once, for the index of
    /// tasks and requests: about a second for half a million records.
    ///
    /// # Errors
    /// When no endpoint answers, when a member is too old or belongs to another cluster, when what is there is another
    /// log than was expected, a restored copy, damaged, or of a format that this build does not know.
    pub async fn open(config: EtcdConfig) -> Result<Arc<Self>, EtcdOpenError> {
        let names = KeyNames::new(&config.prefix)?;
        let client = EtcdClient::new(&config)?;
        let cluster = inspect(&client).await?;
        client.expect_cluster(cluster);
        let identity = identify(&client, &names, cluster, config.log_id).await?;
        let life = LogLife { log_id: identity.log_id, cluster, revision: identity.revision };
        let seen = match &config.seen {
            Some(file) => {
                witness::read(file).map_err(|source| EtcdOpenError::Seen { file: file.clone(), source })?
            }
            None => None,
        };
        let look_for = seen.map(|seen| seen.mark.group);
        let loaded = load(&client, &names, (config.clock)(), look_for).await?;
        if let (Some(seen), Some(file)) = (seen, &config.seen)
            && let Some(lacks) =
                seen.refutes(life, loaded.index.first_group(), loaded.index.group(), loaded.found)
        {
            return Err(EtcdOpenError::Older { log_id: identity.log_id, lacks, file: file.clone() });
        }
        let loaded_at = loaded.revision;
        let watcher = client.twin();
        let clients = (client, watcher);
        let shared = StoreCore::new(clients, names, config.clock, identity, config.write_time_max, loaded);
        let shared = Arc::new(shared);

        let (requests, receiver) = WriteQueue::new();
        let replicas = Replicas::new(Arc::clone(&shared));
        let tasks = TaskTracker::new();
        let vital = |what| VitalTask { what, shared: Arc::clone(&shared) };
        let (appends, follows) = (vital("appends"), vital("follows the log"));
        tasks.spawn(appends.run(Sequencer::new(Arc::clone(&shared), receiver).run()));
        tasks.spawn(follows.run(follow(Arc::clone(&shared), loaded_at)));
        tasks.spawn(watch_room(Arc::clone(&shared), config.quota_bytes));
        tasks.spawn(expire(Arc::clone(&shared)));
        tasks.spawn(Arc::clone(&replicas).run());
        if let Some(file) = config.seen {
            let last = shared.last_group.subscribe();
            tasks.spawn(witness::keep(file, life, last, shared.stopping.clone()));
        }
        if let Some(keep) = config.compact_after {
            tasks.spawn(compact(Arc::clone(&shared), keep));
        }
        tasks.close();
        Ok(Arc::new(Self {
            log: EtcdLog::new(Arc::clone(&shared), requests),
            pairs: EtcdPairs::new(Arc::clone(&shared)),
            replicas,
            shared,
            tasks,
        }))
    }

    /// Makes the log in this cluster, a restored snapshot, a log of its own with a new identity, so that every node that
    /// followed the old one starts anew instead of taking its cursor for a place in this one. No store may have it open.
    pub async fn adopt_copy(config: EtcdConfig) -> Result<LogId, EtcdOpenError> {
        let names = KeyNames::new(&config.prefix)?;
        let client = EtcdClient::new(&config)?;
        let cluster = inspect(&client).await?;
        adopt(&client, &names, cluster).await
    }

    /// Which log this is.
    pub fn log_id(&self) -> LogId {
        self.shared.identity.log_id
    }

    #[cfg(test)]
    pub(crate) fn shared_arc(&self) -> Arc<StoreCore> {
        Arc::clone(&self.shared)
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> &StoreCore {
        &self.shared
    }
}

impl Drop for EtcdStore {
    fn drop(&mut self) {
        self.shared.stopping.cancel();
    }
}

#[async_trait]
impl Store for EtcdStore {
    fn log(&self) -> &dyn PurgeLog {
        &self.log
    }

    fn kv(&self) -> &dyn Kv {
        &self.pairs
    }

    fn presence(&self) -> &dyn Presence {
        &*self.replicas
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.shared.health.subscribe()
    }

    async fn close(&self) {
        self.shared.stopping.cancel();
        self.tasks.wait().await;
        self.shared.health.send_replace(Health::Down { reason: "it was closed".to_owned() });
    }
}

/// A task without which the store is of no use.
struct VitalTask {
    what: &'static str,
    shared: Arc<StoreCore>,
}

impl VitalTask {
    async fn run(self, work: impl Future<Output = ()>) {
        work.await;
    }
}

impl Drop for VitalTask {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let reason = format!("what {} has stopped unexpectedly", self.what);
            self.shared.health.send_replace(Health::Stopped { reason });
        }
    }
}
