//! What this replica has last seen of the log, in a small file of its own machine.
//!
//! A cluster whose members come back with older data, disks that lied or a snapshot put back with the same names, looks
//! like any other log. A replica that runs notices that it has become shorter. One that was started meanwhile knows
//! nothing, unless it has noted what it had seen: nodes that have gone on would take other records for those that they
//! have, and what was purged in the lost ones would be served by a node that never heard of them.
//!
//! So the last group is noted by its number and by who wrote it, which is random: a log that has lost it is refused even
//! when it has become longer since. The file is written a moment after a group is there, by a task of its own, so that a
//! disk that stands still holds up nobody. It is flushed once a second. What is missing then is noticed less, never too
//! much; and each replica has its own.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use batoff_types::LogId;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use crate::stored::Envelope;

/// `log id 16 | cluster 8 | revision of the identity 8 | group 8 | writer 16 | his how-manieth value 8 | crc 4`.
const BYTES: usize = 68;

/// How often what was written is flushed.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// One group of all that ever had its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupMark {
    pub(crate) group: u64,
    writer: [u8; 16],
    number: u64,
}

impl GroupMark {
    pub(crate) fn of(group: u64, envelope: &Envelope) -> Self {
        let mut writer = [0; 16];
        let bytes = envelope.writer.len().min(writer.len());
        writer[..bytes].copy_from_slice(&envelope.writer[..bytes]);
        Self { group, writer, number: envelope.number }
    }
}

/// Which life of a log: one that was moved away and back again has begun another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogLife {
    pub(crate) log_id: LogId,
    pub(crate) cluster: u64,
    /// Of the write that made it the log of this cluster.
    pub(crate) revision: i64,
}

/// What the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeenGroup {
    life: LogLife,
    pub(crate) mark: GroupMark,
}

impl SeenGroup {
    /// What is missing from this log, if anything is: it begins and ends with these groups, and has `found` where the one
    /// was that was seen.
    pub(crate) fn refutes(
        &self,
        life: LogLife,
        first: u64,
        last: u64,
        found: Option<GroupMark>,
    ) -> Option<String> {
        let group = self.mark.group;
        if life != self.life {
            return None;
        }
        if last < group {
            return Some(format!("it ends with group {last}, but group {group} was in it"));
        }
        // What was trimmed cannot be compared.
        (first <= group && found != Some(self.mark))
            .then(|| format!("its group {group} is another one than it was"))
    }
}

/// What the file at `path` says; `None` when there is none, or one that a power cut has torn.
pub(crate) fn read(path: &Path) -> io::Result<Option<SeenGroup>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(decode(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Notes the last group of the log in the file at `path`, until the store is closed.
pub(crate) async fn keep(
    path: PathBuf,
    life: LogLife,
    mut last: watch::Receiver<Option<GroupMark>>,
    stopping: CancellationToken,
) {
    // What was there when the store was opened counts, too.
    last.mark_changed();
    let mut note = SeenFile { path, file: None };
    let (mut written, mut flushed, mut is_failing) = (None, Instant::now(), false);
    loop {
        let flush_at = flushed + FLUSH_EVERY;
        let stops = tokio::select! {
            changed = last.changed() => changed.is_err(),
            () = tokio::time::sleep_until(flush_at), if written.is_some() => false,
            () = stopping.cancelled() => true,
        };
        let Some(mark) = *last.borrow_and_update() else {
            if stops {
                return;
            }
            continue;
        };
        let flushes = stops || Instant::now() >= flush_at;
        let seen = SeenGroup { life, mark };
        let done = tokio::task::spawn_blocking(move || {
            let done = note.write(&seen, flushes);
            (note, done)
        });
        let Ok((back, done)) = done.await else { return };
        note = back;
        match done {
            Ok(()) => is_failing = false,
            Err(error) => {
                note.file = None;
                if !std::mem::replace(&mut is_failing, true) {
                    let path = note.path.display();
                    tracing::warn!(%error, %path, "what was seen of the log cannot be noted: after a restart an older copy of it would not be recognised");
                }
            }
        }
        if stops {
            return;
        }
        if flushes {
            flushed = Instant::now();
        }
        // What is written and not flushed.
        written = (!flushes).then_some(());
    }
}

struct SeenFile {
    path: PathBuf,
    file: Option<File>,
}

impl SeenFile {
    fn write(&mut self, seen: &SeenGroup, flushes: bool) -> io::Result<()> {
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&self.path)?
            }
        };
        file.write_all_at(&encode(seen), 0)?;
        if flushes {
            file.sync_data()?;
        }
        self.file = Some(file);
        Ok(())
    }
}

fn encode(seen: &SeenGroup) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    bytes[..16].copy_from_slice(&u128::from(seen.life.log_id.ulid()).to_le_bytes());
    bytes[16..24].copy_from_slice(&seen.life.cluster.to_le_bytes());
    bytes[24..32].copy_from_slice(&seen.life.revision.to_le_bytes());
    bytes[32..40].copy_from_slice(&seen.mark.group.to_le_bytes());
    bytes[40..56].copy_from_slice(&seen.mark.writer);
    bytes[56..64].copy_from_slice(&seen.mark.number.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..64]);
    bytes[64..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<SeenGroup> {
    let bytes: &[u8; BYTES] = bytes.try_into().ok()?;
    let (said, crc) = bytes.split_first_chunk::<64>()?;
    if crc32fast::hash(said).to_le_bytes() != crc {
        return None;
    }
    let (log_id, rest) = said.split_first_chunk::<16>()?;
    let (cluster, rest) = rest.split_first_chunk::<8>()?;
    let (revision, rest) = rest.split_first_chunk::<8>()?;
    let (group, rest) = rest.split_first_chunk::<8>()?;
    let (writer, number) = rest.split_first_chunk::<16>()?;
    Some(SeenGroup {
        life: LogLife {
            log_id: LogId::from_ulid(Ulid::from(u128::from_le_bytes(*log_id))),
            cluster: u64::from_le_bytes(*cluster),
            revision: i64::from_le_bytes(*revision),
        },
        mark: GroupMark {
            group: u64::from_le_bytes(*group),
            writer: *writer,
            number: u64::from_le_bytes(number.try_into().ok()?),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(group: u64) -> SeenGroup {
        let log_id = LogId::from_ulid(Ulid::from(7));
        let life = LogLife { log_id, cluster: 5, revision: 9 };
        SeenGroup { life, mark: GroupMark { group, writer: [3; 16], number: 4 } }
    }

    #[test]
    fn what_was_noted_is_read_and_what_is_torn_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.seen");
        assert_eq!(read(&path).unwrap(), None);
        let mut file = SeenFile { path: path.clone(), file: None };
        for group in [41, 42] {
            file.write(&seen(group), group == 42).unwrap();
            assert_eq!(read(&path).unwrap(), Some(seen(group)));
        }
        let sound = std::fs::read(&path).unwrap();
        for at in 0..sound.len() {
            let mut torn = sound.clone();
            torn[at] ^= 1;
            std::fs::write(&path, torn).unwrap();
            assert_eq!(read(&path).unwrap(), None, "byte {at}");
            std::fs::write(&path, &sound[..at]).unwrap();
            assert_eq!(read(&path).unwrap(), None, "{at} bytes");
        }
    }

    #[test]
    fn only_a_log_that_has_lost_something_is_refuted() {
        let seen = seen(42);
        let other = GroupMark { number: 5, ..seen.mark };
        assert_eq!(seen.refutes(seen.life, 1, 42, Some(seen.mark)), None);
        assert_eq!(seen.refutes(seen.life, 42, 99, Some(seen.mark)), None);
        assert!(seen.refutes(seen.life, 1, 41, None).unwrap().contains("ends with group 41"));
        assert!(seen.refutes(seen.life, 1, 99, Some(other)).unwrap().contains("another one"));
        assert!(seen.refutes(seen.life, 1, 99, None).is_some());
        // All of it was trimmed, up to the last.
        assert!(seen.refutes(seen.life, 40, 39, None).is_some());
        assert_eq!(seen.refutes(seen.life, 43, 42, None), None, "trimmed");
        let again = LogLife { revision: 10, ..seen.life };
        assert_eq!(seen.refutes(again, 1, 7, None), None, "moved away and back");
    }
}
