//! From the data folder into etcd, and back out of it as long as nothing happened there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use batoff_log::embedded::{EmbeddedConfig, EmbeddedStore, OpenError, Seal};
use batoff_log::moving::MovedCounts;
use batoff_log::{LogState, Store};
use batoff_log_etcd::{EtcdMove, EtcdMoveError, FoundLog, ImportedLog};
use batoff_types::LogId;

use super::ground::{
    MigrateFailed, MigrateProgress, Migrated, ProgressListener, blocking, copy, etcd_of, remove_if_there,
};
use crate::clock::Clock;
use crate::config::Config;
use crate::engine;
use crate::seat::FolderLock;

/// The copy of the store, in the data folder, as long as it is needed.
const COPY: &str = "moving.backup";

/// What a store in a data folder turned out to be.
enum StoreInFolder {
    /// It is here, and nobody else has it.
    Open(Arc<EmbeddedStore>),
    /// It is sealed; this is its log.
    Sealed(LogId),
}

/// Moves the log of the data folder into etcd. `config` is the one with which the control plane will start.
///
/// # Errors
/// See [`MigrateFailed`]. The store in the data folder is as it was, or sealed: then a repetition goes on, and
/// [`undo`] takes the seal off.
pub async fn to_etcd(
    config: &Config,
    clock: &Clock,
    told: ProgressListener<'_>,
) -> Result<Migrated, MigrateFailed> {
    let section = etcd_of(config)?;
    let dir = &config.data.dir;
    let to = EtcdMove::connect(&engine::settings(section, clock.wall_fn())?).await;
    let to = to.map_err(EtcdMoveError::Open)?;
    let _alone = FolderLock::take(dir)?;
    let store = match open(dir, clock, &to).await? {
        StoreInFolder::Open(store) => store,
        StoreInFolder::Sealed(log_id) => match to.find().await? {
            FoundLog::Log(found, None) if found == log_id => {
                engine::remember(dir, log_id)?;
                remove_if_there(&dir.join(COPY))?;
                return Ok(Migrated { log_id, counts: None });
            }
            FoundLog::Log(found, Some(moved)) if found == log_id => {
                return Err(MigrateFailed::Elsewhere { log_id, to: moved.to });
            }
            // An earlier run has died between the seal and the end. Nothing was ever accepted there.
            FoundLog::Half(found) if found == log_id => {
                EmbeddedStore::unseal(dir)?;
                match open(dir, clock, &to).await? {
                    StoreInFolder::Open(store) => store,
                    StoreInFolder::Sealed(_) => return Err(EtcdMoveError::Overtaken.into()),
                }
            }
            _ => {
                let prefix = section.prefix.clone();
                return Err(EtcdMoveError::Missing { prefix, expected: log_id }.into());
            }
        },
    };
    let moved = move_out(&store, &to, dir, clock, told).await;
    store.close().await;
    // Customers' hosts stand in it, and a repetition makes another one.
    remove_if_there(&dir.join(COPY))?;
    let (log_id, imported) = moved?;
    to.finish(&imported).await?;
    engine::remember(dir, log_id)?;
    Ok(Migrated { log_id, counts: Some(imported.counts) })
}

/// Everything up to the seal. The store is open from the copy to the seal, so nothing can be accepted in between.
async fn move_out(
    store: &Arc<EmbeddedStore>,
    to: &EtcdMove,
    dir: &Path,
    clock: &Clock,
    told: ProgressListener<'_>,
) -> Result<(LogId, ImportedLog), MigrateFailed> {
    told(MigrateProgress::Copying);
    let contents = copy(store, &dir.join(COPY), clock).await?;
    let bytes = contents.summary().bytes;
    let LogState { first, tail, .. } = contents.outline().state;
    let expected = tail.next().get() - first.get();
    let mut last = false;
    let mut writing = |counts: &MovedCounts| {
        told(MigrateProgress::Writing(*counts));
        if counts.records >= expected && !last {
            last = true;
            told(MigrateProgress::Comparing);
        }
    };
    let imported =
        to.import(contents.outline(), contents.parts(), contents.parts(), bytes, &mut writing).await?;
    let seal = Seal { at: clock.wall(), cluster: to.cluster() };
    let sealing = Arc::clone(store);
    blocking(dir, move || Ok(sealing.seal(seal)?)).await?;
    Ok((contents.outline().state.log_id, imported))
}

async fn open(dir: &Path, clock: &Clock, to: &EtcdMove) -> Result<StoreInFolder, MigrateFailed> {
    if !EmbeddedStore::is_in(dir) {
        return Err(MigrateFailed::NoStore(dir.to_owned()));
    }
    let config = EmbeddedConfig::new(dir, clock.wall_fn());
    let folder: PathBuf = dir.to_owned();
    let configured = to.cluster();
    blocking(dir, move || match EmbeddedStore::open(config) {
        Ok(store) => Ok(StoreInFolder::Open(store)),
        Err(source @ OpenError::Moved { cluster, .. }) if cluster != configured => {
            Err(MigrateFailed::OtherCluster { source, configured })
        }
        Err(source @ OpenError::Moved { .. }) => match EmbeddedStore::log_beside(&folder)? {
            Some(log_id) => Ok(StoreInFolder::Sealed(log_id)),
            None => Err(source.into()),
        },
        Err(error) => Err(error.into()),
    })
    .await
}

/// Takes the log back into the data folder that it was moved from, as long as nothing was written in etcd since: then the
/// store is as it was, and what lies in etcd is no log any more.
///
/// # Errors
/// See [`MigrateFailed`]. The log in etcd goes on then.
pub async fn undo(config: &Config, clock: &Clock) -> Result<Migrated, MigrateFailed> {
    let section = etcd_of(config)?;
    let dir = &config.data.dir;
    let to = EtcdMove::connect(&engine::settings(section, clock.wall_fn())?).await;
    let to = to.map_err(EtcdMoveError::Open)?;
    let _alone = FolderLock::take(dir)?;
    let log_id = match open(dir, clock, &to).await? {
        StoreInFolder::Open(store) => {
            // It was never sealed, so nothing was ever accepted elsewhere.
            let log_id = store.log().state().await;
            store.close().await;
            log_id?.log_id
        }
        StoreInFolder::Sealed(log_id) => {
            to.withdraw(log_id).await?;
            engine::forget(dir)?;
            EmbeddedStore::unseal(dir)?;
            log_id
        }
    };
    remove_if_there(&dir.join(COPY))?;
    Ok(Migrated { log_id, counts: None })
}
