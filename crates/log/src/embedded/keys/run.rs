//! A file of keys: `key 32 | rows::SeenKey 72 | crc 4`, row after row.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use batoff_types::UnixMillis;

use super::super::fault::Fault;
use super::super::names;
use super::super::rows::SeenKey;

const KEY: usize = 32;
const ROW: usize = KEY + 72 + 4;

/// Keys that expire within so many milliseconds share a run; the others go into another.
const SOON_MS: u64 = 3_600_000;

/// Keys and what is remembered under each.
pub(in crate::embedded) type KeyRows = HashMap<[u8; KEY], SeenKey>;

/// What a checkpoint notes of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::embedded) struct RunName {
    pub(in crate::embedded) number: u64,
    pub(in crate::embedded) rows: u32,
    /// When its last key expires.
    pub(in crate::embedded) expires_at: UnixMillis,
}

impl RunName {
    /// Its file in `dir`.
    pub(in crate::embedded) fn path(&self, dir: &Path) -> PathBuf {
        dir.join(names::key_run(self.number))
    }
}

/// A run that can be read.
#[derive(Debug)]
pub(in crate::embedded) struct KeyRun {
    name: RunName,
    path: PathBuf,
    file: File,
}

/// A run that was just written, and its keys in the order of its rows.
#[derive(Debug)]
pub(in crate::embedded) struct WrittenRun {
    pub(in crate::embedded) run: KeyRun,
    pub(in crate::embedded) keys: Vec<[u8; KEY]>,
}

impl KeyRun {
    /// Opens a run, verifies all of it, and tells `each` of its keys.
    pub(in crate::embedded) fn open(
        dir: &Path,
        name: RunName,
        mut each: impl FnMut(u32, [u8; KEY], SeenKey),
    ) -> Result<Self, Fault> {
        let path = name.path(dir);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Fault::Damaged(format!("{} is missing", path.display())));
            }
            file => file?,
        };
        if file.metadata()?.len() != u64::from(name.rows) * ROW as u64 {
            return Err(Fault::Damaged(format!("{} has not {} keys", path.display(), name.rows)));
        }
        let mut reader = BufReader::with_capacity(256 * 1024, &file);
        for row in 0..name.rows {
            let mut bytes = [0; ROW];
            reader.read_exact(&mut bytes)?;
            let (key, seen) = decode(&bytes).ok_or_else(|| damage(&path, row))?;
            each(row, key, seen);
        }
        Ok(Self { name, path, file })
    }

    pub(in crate::embedded) fn name(&self) -> RunName {
        self.name
    }

    pub(super) fn number(&self) -> u64 {
        self.name.number
    }

    pub(super) fn rows(&self) -> u32 {
        self.name.rows
    }

    /// The row's key and what is remembered under it; `None` for a row that there is not.
    pub(in crate::embedded) fn read(&self, row: u32) -> Result<Option<([u8; KEY], SeenKey)>, Fault> {
        if row >= self.name.rows {
            return Ok(None);
        }
        let mut bytes = [0; ROW];
        self.file.read_exact_at(&mut bytes, u64::from(row) * ROW as u64)?;
        decode(&bytes).map(Some).ok_or_else(|| damage(&self.path, row))
    }
}

/// Writes those of `rows` that are alive `now` into at most two runs, numbered from `number` on; durable when it returns.
pub(in crate::embedded) fn write_runs(
    dir: &Path,
    number: u64,
    rows: &KeyRows,
    now: UnixMillis,
) -> io::Result<Vec<WrittenRun>> {
    let alive = rows.iter().filter(|(_, seen)| now < seen.expires_at);
    let (soon, late): (Vec<_>, Vec<_>) = alive.partition(|(_, seen)| seen.expires_at.0 - now.0 <= SOON_MS);
    let parts = [soon, late].into_iter().filter(|rows| !rows.is_empty());
    (number..).zip(parts).map(|(number, rows)| write_run(dir, number, &rows)).collect()
}

fn write_run(dir: &Path, number: u64, rows: &[(&[u8; KEY], &SeenKey)]) -> io::Result<WrittenRun> {
    let name = RunName {
        number,
        rows: u32::try_from(rows.len()).map_err(io::Error::other)?,
        expires_at: rows.iter().map(|(_, seen)| seen.expires_at).max().unwrap_or_default(),
    };
    let path = name.path(dir);
    // One that an interrupted checkpoint has left is written over.
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    let mut out = BufWriter::with_capacity(256 * 1024, &file);
    for (key, seen) in rows {
        out.write_all(&encode(key, seen))?;
    }
    out.flush()?;
    drop(out);
    file.sync_all()?;
    let keys = rows.iter().map(|(key, _)| **key).collect();
    Ok(WrittenRun { run: KeyRun { name, path, file }, keys })
}

fn encode(key: &[u8; KEY], seen: &SeenKey) -> [u8; ROW] {
    let mut bytes = [0; ROW];
    bytes[..KEY].copy_from_slice(key);
    bytes[KEY..ROW - 4].copy_from_slice(&seen.to_row());
    let crc = crc32fast::hash(&bytes[..ROW - 4]);
    bytes[ROW - 4..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; ROW]) -> Option<([u8; KEY], SeenKey)> {
    let (content, crc) = bytes.split_at(ROW - 4);
    if crc != crc32fast::hash(content).to_le_bytes() {
        return None;
    }
    let (key, seen) = content.split_first_chunk::<KEY>()?;
    Some((*key, SeenKey::from_row(seen.try_into().ok()?)))
}

fn damage(path: &Path, row: u32) -> Fault {
    let at = u64::from(row) * ROW as u64;
    Fault::Damaged(format!("{} at byte {at}: key {row} does not match its checksum", path.display()))
}
