//! The chunks of a backup, written and read one after the other.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use super::error::BackupError;

/// The version of everything in a backup. A change of a chunk, of a row or of a frame of the log is a new one.
pub(super) const VERSION: u32 = 1;

const MAGIC: &[u8; 8] = b"batoffBK";
const HEAD: usize = 16;
/// Bytes of a chunk before its content.
const CHUNK_HEAD: usize = 5;
/// Content of one chunk: a group of the log is the largest, and is bounded below this.
const CONTENT_MAX: usize = 256 * 1024 * 1024;
/// Rows go into chunks of about so many bytes.
const ROWS_BYTES: usize = 256 * 1024;

/// What a chunk holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum ChunkKind {
    /// Salt, and where the checkpoint stands.
    Begin = 1,
    /// Rows of pairs: key and row.
    Pairs = 2,
    /// Rows of tasks: number and row.
    Tasks = 3,
    /// Rows of completions: number and row.
    Completions = 4,
    /// Keys of accepted requests: key and row.
    Keys = 5,
    /// How the log begins.
    Log = 6,
    /// A group of it.
    Group = 7,
    /// How many there are of each; nothing comes after.
    End = 8,
}

impl ChunkKind {
    fn of(byte: u8) -> Option<Self> {
        let all = [
            Self::Begin,
            Self::Pairs,
            Self::Tasks,
            Self::Completions,
            Self::Keys,
            Self::Log,
            Self::Group,
            Self::End,
        ];
        all.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Writes chunks.
pub(super) struct ChunkWriter<'w> {
    out: &'w mut dyn Write,
    salt: u64,
    number: u64,
    pub(super) bytes: u64,
    rows: Vec<u8>,
}

impl<'w> ChunkWriter<'w> {
    /// Writes the head of the file. `salt` tells this backup's chunks from those of any other.
    pub(super) fn begin(out: &'w mut dyn Write, salt: u64) -> Result<Self, BackupError> {
        let mut head = [0; HEAD];
        head[..8].copy_from_slice(MAGIC);
        head[8..12].copy_from_slice(&VERSION.to_le_bytes());
        let crc = crc32fast::hash(&head[..12]);
        head[12..].copy_from_slice(&crc.to_le_bytes());
        out.write_all(&head).map_err(BackupError::Written)?;
        Ok(Self { out, salt, number: 0, bytes: HEAD as u64, rows: Vec::new() })
    }

    pub(super) fn put(&mut self, kind: ChunkKind, parts: &[&[u8]]) -> Result<(), BackupError> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let length = u32::try_from(length).map_err(|error| BackupError::Written(io::Error::other(error)))?;
        let crc = checksum(self.salt, self.number, kind, length, parts);
        let head = [&[kind as u8][..], &length.to_le_bytes()].concat();
        let mut write = |bytes: &[u8]| self.out.write_all(bytes).map_err(BackupError::Written);
        write(&head)?;
        parts.iter().try_for_each(|part| write(part))?;
        write(&crc.to_le_bytes())?;
        self.number += 1;
        self.bytes += (CHUNK_HEAD + 4) as u64 + u64::from(length);
        Ok(())
    }

    /// One more row; it is written with others.
    pub(super) fn put_row(&mut self, kind: ChunkKind, key: &[u8], row: &[u8]) -> Result<(), BackupError> {
        for part in [key, row] {
            let length =
                u32::try_from(part.len()).map_err(|error| BackupError::Written(io::Error::other(error)))?;
            self.rows.extend_from_slice(&length.to_le_bytes());
            self.rows.extend_from_slice(part);
        }
        if self.rows.len() >= ROWS_BYTES { self.end_rows(kind) } else { Ok(()) }
    }

    /// There are no more rows of that kind.
    pub(super) fn end_rows(&mut self, kind: ChunkKind) -> Result<(), BackupError> {
        let rows = std::mem::take(&mut self.rows);
        if rows.is_empty() { Ok(()) } else { self.put(kind, &[&rows]) }
    }

    pub(super) fn finish(self) -> Result<u64, BackupError> {
        self.out.flush().map_err(BackupError::Written)?;
        Ok(self.bytes)
    }
}

fn checksum(salt: u64, number: u64, kind: ChunkKind, length: u32, parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(&number.to_le_bytes());
    hasher.update(&[kind as u8]);
    hasher.update(&length.to_le_bytes());
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize()
}

/// Reads chunks, and believes none whose checksum does not fit.
pub(super) struct ChunkReader {
    path: PathBuf,
    file: BufReader<File>,
    /// Of the first chunk, which begins with it.
    salt: Option<u64>,
    number: u64,
    /// Where the next chunk begins.
    at: u64,
    content: Vec<u8>,
}

/// A chunk that was read.
pub(super) struct ReadChunk<'r> {
    pub(super) kind: ChunkKind,
    /// Where it begins in the file.
    pub(super) at: u64,
    pub(super) content: &'r [u8],
}

impl ChunkReader {
    pub(super) fn open(path: &Path) -> Result<Self, BackupError> {
        let failed = |source| BackupError::File { path: path.to_owned(), source };
        let mut file = BufReader::with_capacity(1024 * 1024, File::open(path).map_err(failed)?);
        let mut head = Vec::new();
        file.by_ref().take(HEAD as u64).read_to_end(&mut head).map_err(failed)?;
        if !head.starts_with(MAGIC) {
            return Err(BackupError::Foreign(path.to_owned()));
        }
        if head.len() < HEAD {
            return Err(BackupError::Cut { path: path.to_owned(), at: head.len() as u64 });
        }
        if head[12..] != crc32fast::hash(&head[..12]).to_le_bytes() {
            let detail = "its head does not match its checksum".to_owned();
            return Err(BackupError::Altered { path: path.to_owned(), at: 0, detail });
        }
        let found = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
        if found != VERSION {
            return Err(BackupError::Version { path: path.to_owned(), found, supported: VERSION });
        }
        let path = path.to_owned();
        Ok(Self { path, file, salt: None, number: 0, at: HEAD as u64, content: Vec::new() })
    }

    /// The next chunk.
    pub(super) fn next(&mut self) -> Result<ReadChunk<'_>, BackupError> {
        let at = self.at;
        let mut head = [0; CHUNK_HEAD];
        self.read_exactly(&mut head, at)?;
        let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
        let kind = ChunkKind::of(head[0]).filter(|_| length as usize <= CONTENT_MAX);
        let Some(kind) = kind else { return Err(self.altered(at, "no chunk begins there")) };
        let mut content = std::mem::take(&mut self.content);
        content.resize(length as usize, 0);
        self.read_exactly(&mut content, at)?;
        self.content = content;
        let mut crc = [0; 4];
        self.read_exactly(&mut crc, at)?;
        let salt = match (self.salt, self.content.first_chunk::<8>()) {
            (Some(salt), _) => salt,
            (None, Some(first)) if kind == ChunkKind::Begin => u64::from_le_bytes(*first),
            (None, _) => return Err(self.altered(at, "it does not begin with its beginning")),
        };
        if crc != checksum(salt, self.number, kind, length, &[&self.content]).to_le_bytes() {
            return Err(self.altered(at, "what stands there does not match its checksum"));
        }
        self.salt = Some(salt);
        self.number += 1;
        self.at += (CHUNK_HEAD + 4) as u64 + u64::from(length);
        Ok(ReadChunk { kind, at, content: &self.content })
    }

    /// Nothing comes any more; how many bytes there were.
    pub(super) fn end(mut self) -> Result<u64, BackupError> {
        let at = self.at;
        match self.file.read(&mut [0]) {
            Ok(0) => Ok(at),
            Ok(_) => Err(self.altered(at, "more follows after its end")),
            Err(source) => Err(BackupError::File { path: self.path, source }),
        }
    }

    /// What is wrong with the chunk at `at`.
    pub(super) fn altered(&self, at: u64, detail: impl Into<String>) -> BackupError {
        BackupError::Altered { path: self.path.clone(), at, detail: detail.into() }
    }

    fn read_exactly(&mut self, out: &mut [u8], at: u64) -> Result<(), BackupError> {
        self.file.read_exact(out).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => BackupError::Cut { path: self.path.clone(), at },
            _ => BackupError::File { path: self.path.clone(), source },
        })
    }
}

/// The rows of a chunk; `None` among them where the rest is not what rows look like.
pub(super) fn rows(mut content: &[u8]) -> impl Iterator<Item = Option<(&[u8], &[u8])>> {
    fn part<'c>(content: &mut &'c [u8]) -> Option<&'c [u8]> {
        let (length, rest) = content.split_first_chunk::<4>()?;
        let (part, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        *content = rest;
        Some(part)
    }
    std::iter::from_fn(move || {
        if content.is_empty() {
            return None;
        }
        let row = part(&mut content).and_then(|key| Some((key, part(&mut content)?)));
        if row.is_none() {
            content = &[];
        }
        Some(row)
    })
}

/// Takes numbers and bytes from a content, in the order in which they were put.
pub(super) struct Fields<'c>(pub(super) &'c [u8]);

impl<'c> Fields<'c> {
    pub(super) fn number(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*number))
    }

    pub(super) fn wide(&mut self) -> Option<u128> {
        let (number, rest) = self.0.split_first_chunk::<16>()?;
        self.0 = rest;
        Some(u128::from_le_bytes(*number))
    }

    pub(super) const fn rest(self) -> &'c [u8] {
        self.0
    }
}
