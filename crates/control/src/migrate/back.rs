//! From etcd into a new data folder.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use batoff_log::embedded::{EmbeddedConfig, EmbeddedStore, compose_backup};
use batoff_log::moving::{MovedCounts, compare};
use batoff_log::{Key, Store};
use batoff_log_etcd::{EtcdMove, EtcdMoveError, FoundLog};
use batoff_program::durable;
use tokio_util::sync::CancellationToken;

use super::ground::{
    MigrateFailed, MigrateProgress, Migrated, ProgressListener, blocking, copy, etcd_of, failed, private,
    remove_if_there,
};
use crate::clock::Clock;
use crate::config::{Config, EtcdSection};
use crate::engine;
use crate::init::{ADMIN_TOKEN_FILE, MASTER_KEY_FILE};
use crate::seat::FolderLock;
use crate::server::seat_in;
use crate::tracker::leave_term;

/// What the keys of other replicas' rows begin with.
const OTHERS: &str = "replica/";

/// Moves the log from etcd into `target`, which is empty or not there and becomes a data folder with the secrets of the
/// present one. `config` is the one with which the control plane ran on etcd.
///
/// # Errors
/// See [`MigrateFailed`]. Once the log is sealed in etcd nothing starts there: remove what was begun, and repeat with the
/// same folder.
pub async fn to_embedded(
    config: &Config,
    target: &Path,
    clock: &Clock,
    told: ProgressListener<'_>,
) -> Result<Migrated, MigrateFailed> {
    let section = etcd_of(config)?;
    let target = std::path::absolute(target).map_err(failed(target))?;
    refuse_occupied(&target)?;
    let from = EtcdMove::connect(&engine::settings(section, clock.wall_fn())?).await;
    let from = from.map_err(EtcdMoveError::Open)?;
    let name = target.display().to_string();
    match from.find().await? {
        FoundLog::Log(_, None) => {
            told(MigrateProgress::Waiting);
            take_seat(config, section, clock).await?;
        }
        FoundLog::Log(log_id, Some(moved)) if moved.to != name => {
            return Err(MigrateFailed::Elsewhere { log_id, to: moved.to });
        }
        // An earlier run has had the seat and died since; or there is no log, which the seal refuses.
        FoundLog::Log(..) | FoundLog::Half(_) | FoundLog::Nothing => {}
    }
    let (log_id, _) = from.seal(&name).await?;
    let [copied, again] = ["moving", "moving-check"].map(|kind| beside(&target, kind));
    let made = make(&from, &target, [&copied, &again], clock, told).await;
    // Both can be had again.
    remove_if_there(&copied)?;
    remove_if_there(&again)?;
    let counts = made?;
    for file in [MASTER_KEY_FILE, ADMIN_TOKEN_FILE] {
        copy_secret(&config.data.dir.join(file), &target.join(file))?;
    }
    durable::flush(&target).map_err(failed(&target))?;
    Ok(Migrated { log_id, counts: Some(counts) })
}

/// Makes the store of what is in etcd, opens it, and compares it with what is in etcd.
async fn make(
    from: &EtcdMove,
    target: &Path,
    [copied, again]: [&PathBuf; 2],
    clock: &Clock,
    told: ProgressListener<'_>,
) -> Result<MovedCounts, MigrateFailed> {
    told(MigrateProgress::Copying);
    let (outline, parts) = from.read(clock.wall()).await?;
    let (path, folder, now) = (copied.clone(), target.to_owned(), clock.wall());
    blocking(target, move || {
        remove_if_there(&path)?;
        let mut file = private(&path)?;
        let mut buffered = std::io::BufWriter::new(&mut file);
        compose_backup(&mut buffered, &outline, parts, now)?;
        drop(buffered);
        EmbeddedStore::restore_moved(&path, &folder)?;
        Ok(())
    })
    .await?;
    told(MigrateProgress::Comparing);
    let config = EmbeddedConfig::new(target, clock.wall_fn());
    let store = blocking(target, move || Ok(EmbeddedStore::open(config)?)).await?;
    let contents = copy(&store, again, clock).await;
    store.close().await;
    let contents = contents?;
    // What has expired meanwhile counts in neither: the store has begun to drop it.
    let now = clock.wall();
    let (outline, parts) = from.read(now).await?;
    let (of_etcd, of_copy) = (outline.without_expired(now), contents.outline().clone().without_expired(now));
    let parts = (parts.without_expired(now), contents.parts().without_expired(now));
    Ok(compare((&of_etcd, parts.0), (&of_copy, parts.1)).await?)
}

/// Takes the seat of the replica, so that no process acts for it any more, not even one that is frozen; and leaves a term
/// higher than any that nodes have seen.
async fn take_seat(config: &Config, section: &EtcdSection, clock: &Clock) -> Result<(), MigrateFailed> {
    let lock = FolderLock::take(&config.data.dir)?;
    let store: Arc<dyn Store> = engine::open_etcd(&config.data.dir, section, clock.wall_fn()).await?;
    let taken = async {
        let others = store.kv().scan(&Key::from(OTHERS), None, 1).await?;
        if let Some((key, _)) = others.first() {
            let key = String::from_utf8_lossy(key.as_bytes()).into_owned();
            let replica = key.trim_start_matches(OTHERS).split('/').next().unwrap_or_default().to_owned();
            return Err(MigrateFailed::NotAlone(replica));
        }
        let (keeper, tenure) = seat_in(&store, config, clock, lock).await?;
        let stop = CancellationToken::new();
        let keeping = tokio::spawn(keeper.run(stop.clone()));
        let seated = tenure.seated().await;
        let written = match (seated, tenure.term()) {
            (Ok(()), Some(term)) => leave_term(store.kv(), &tenure, term).await.map_err(MigrateFailed::from),
            // A seat comes with a term.
            (Ok(()), None) => Ok(()),
            (Err(lost), _) => Err(lost.into()),
        };
        stop.cancel();
        // Cancelled, it has nothing more to say.
        let _ = keeping.await;
        written
    }
    .await;
    store.close().await;
    taken
}

fn copy_secret(from: &Path, to: &Path) -> Result<(), MigrateFailed> {
    let content = zeroize::Zeroizing::new(fs::read(from).map_err(failed(from))?);
    let mut file = private(to)?;
    file.write_all(&content).and_then(|()| file.sync_all()).map_err(failed(to))
}

/// A file beside the new folder, which holds nothing but the store when that is made.
fn beside(target: &Path, kind: &str) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(format!(".{kind}"));
    name.into()
}

fn refuse_occupied(target: &Path) -> Result<(), MigrateFailed> {
    match fs::read_dir(target) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(target)(error)),
        Ok(mut entries) => match entries
            .find(|entry| entry.as_ref().map_or(true, |entry| entry.file_name() != "lost+found"))
        {
            None => Ok(()),
            Some(_) => Err(MigrateFailed::Occupied(target.to_owned())),
        },
    }
}
