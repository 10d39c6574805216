//! The bytes of a segment's head and of a group's. Numbers are little-endian. A change here is a new `layout::FORMAT`.

use batoff_types::UnixMillis;

use super::super::aligned::BLOCK;

/// Bytes of a group before its frames.
pub(in crate::embedded) const GROUP_HEAD: usize = 64;

const SEGMENT_MAGIC: &[u8; 8] = b"batoffPL";
const GROUP_MAGIC: &[u8; 4] = b"btGr";
/// Bytes of a segment's head that mean something; the rest of its block is zero.
const SEGMENT_HEAD: usize = 88;
/// Where the checksum of a head or a group begins to count.
const CHECKED_FROM: usize = 16;
const GROUP_CHECKED_FROM: usize = 8;

/// What a segment says of itself, in its first block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::embedded) struct SegmentHead {
    /// Which store it belongs to; unlike the log's identity, the same for ever.
    pub(in crate::embedded) lineage: u128,
    /// 1, 2, 3, …
    pub(in crate::embedded) number: u64,
    /// Drawn for this use of the file: what an earlier one has left does not fit it.
    pub(in crate::embedded) salt: u64,
    /// The number of the first record that it can hold.
    pub(in crate::embedded) first_seq: u64,
    /// The number of its first group.
    pub(in crate::embedded) first_group: u64,
    /// The latest `accepted_at` of all records before it.
    pub(in crate::embedded) high: UnixMillis,
    /// Bytes of the file.
    pub(in crate::embedded) bytes: u64,
}

impl SegmentHead {
    /// Its block.
    pub(in crate::embedded) fn write(&self, block: &mut [u8]) {
        block.fill(0);
        block[..8].copy_from_slice(SEGMENT_MAGIC);
        block[16..32].copy_from_slice(&self.lineage.to_le_bytes());
        let numbers = [self.number, self.salt, self.first_seq, self.first_group, self.high.0, self.bytes];
        for (place, number) in block[32..80].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let crc = crc32fast::hash(&block[CHECKED_FROM..]);
        block[8..12].copy_from_slice(&crc.to_le_bytes());
    }

    /// `None` when the block is none that was written so.
    pub(in crate::embedded) fn read(block: &[u8]) -> Option<Self> {
        let is_sound = block.len() >= SEGMENT_HEAD
            && block.starts_with(SEGMENT_MAGIC)
            && block[8..12] == crc32fast::hash(&block[CHECKED_FROM..]).to_le_bytes()
            && block[12..16] == [0; 4];
        if !is_sound {
            return None;
        }
        let (lineage, _) = block[16..].split_first_chunk::<16>()?;
        Some(Self {
            lineage: u128::from_le_bytes(*lineage),
            number: number(block, 32)?,
            salt: number(block, 40)?,
            first_seq: number(block, 48)?,
            first_group: number(block, 56)?,
            high: UnixMillis(number(block, 64)?),
            bytes: number(block, 72)?,
        })
    }
}

/// What a group says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::embedded) struct GroupHead {
    /// Bytes of the frames.
    pub(in crate::embedded) bytes: u32,
    /// How many of the frames are records.
    pub(in crate::embedded) records: u32,
    /// The number of its first record, or of the next one when it has none.
    pub(in crate::embedded) first_seq: u64,
    /// 1, 2, 3, … through all segments.
    pub(in crate::embedded) group: u64,
    /// The segment that it was written to.
    pub(in crate::embedded) segment: u64,
    /// The latest `accepted_at` through its last record.
    pub(in crate::embedded) high: UnixMillis,
}

impl GroupHead {
    /// Bytes from the first of the head to the end of the last block.
    pub(in crate::embedded) fn span(&self) -> usize {
        (GROUP_HEAD + self.bytes as usize).next_multiple_of(BLOCK)
    }

    /// Writes the head of a group whose frames are there, from byte [`GROUP_HEAD`] on.
    pub(in crate::embedded) fn write(&self, salt: u64, group: &mut [u8]) {
        group[..GROUP_HEAD].fill(0);
        group[..4].copy_from_slice(GROUP_MAGIC);
        group[8..12].copy_from_slice(&self.bytes.to_le_bytes());
        group[12..16].copy_from_slice(&self.records.to_le_bytes());
        let numbers = [self.first_seq, self.group, self.segment, self.high.0];
        for (place, number) in group[16..48].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let crc = self.checksum(salt, group);
        group[4..8].copy_from_slice(&crc.to_le_bytes());
    }

    /// What a head that begins here claims; nothing of it is checked.
    pub(in crate::embedded) fn claim(head: &[u8]) -> Option<Self> {
        if head.len() < GROUP_HEAD || !head.starts_with(GROUP_MAGIC) {
            return None;
        }
        let narrow = |at: usize| head[at..].first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes));
        Some(Self {
            bytes: narrow(8)?,
            records: narrow(12)?,
            first_seq: number(head, 16)?,
            group: number(head, 24)?,
            segment: number(head, 32)?,
            high: UnixMillis(number(head, 40)?),
        })
    }

    /// Whether the group that begins here is the one that was written.
    pub(in crate::embedded) fn is_sound(&self, salt: u64, group: &[u8]) -> bool {
        group.len() >= GROUP_HEAD + self.bytes as usize
            && group[4..8] == self.checksum(salt, group).to_le_bytes()
    }

    fn checksum(&self, salt: u64, group: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&salt.to_le_bytes());
        hasher.update(&group[GROUP_CHECKED_FROM..GROUP_HEAD + self.bytes as usize]);
        hasher.finalize()
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes))
}
