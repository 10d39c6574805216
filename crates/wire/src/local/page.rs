//! The layout of the page that the daemon keeps for each cache of the local API: see the end of `local.proto`.
//!
//! Only bytes are made and read here. Who writes them into a file, and who maps it, is elsewhere.

use batoff_types::{Cursor, FillToken, Generation, InstanceId};

/// The first bytes of every page.
pub const MAGIC: [u8; 8] = *b"BATOFFPG";

/// The version of the layout.
pub const VERSION: u32 = 1;

/// The size of the file, in bytes.
pub const PAGE_BYTES: usize = 4_096;

/// What is used of it, in bytes.
pub const BLOCK_BYTES: usize = 104;

/// The same in words of 8 bytes.
pub const BLOCK_WORDS: usize = BLOCK_BYTES / 8;

/// Where the sequence stands, in bytes.
pub const SEQUENCE_AT: usize = 32;

/// The serving right of an available node: no limit.
pub const NO_LIMIT: u64 = u64::MAX;

const CHECK_AT: usize = 96;

/// What a page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// The boot of the machine in which it was written.
    pub boot_id: [u8; 16],
    /// How often it was written, twice over; even.
    pub sequence: u64,
    /// The daemon's process.
    pub instance: InstanceId,
    /// The token of a fill that begins now.
    pub token: FillToken,
    /// A fill whose token is before this will be discarded.
    pub floor: Cursor,
    /// The session that is in sync; 0 when none is.
    pub session: u64,
    /// Nanoseconds of `CLOCK_BOOTTIME` before which cached objects may be served; [`NO_LIMIT`] for an available node.
    pub serve_until: u64,
}

/// Bytes that are no page which can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageProblem {
    /// Not begun by a daemon.
    #[error("this is not a page of the local API")]
    Magic,
    /// Of a layout that this build does not know.
    #[error(
        "the page has layout {0}, and {VERSION} is known here; bring cache and daemon to the same release"
    )]
    Version(u32),
    /// In the middle of a change. Read again.
    #[error("the page is being written")]
    Torn,
}

impl Page {
    /// The bytes as they stand in the file.
    pub fn encode(&self) -> [u8; BLOCK_BYTES] {
        let mut bytes = [0; BLOCK_BYTES];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &MAGIC);
        put(8, &VERSION.to_le_bytes());
        put(12, &(BLOCK_BYTES as u32).to_le_bytes());
        put(16, &self.boot_id);
        put(SEQUENCE_AT, &self.sequence.to_le_bytes());
        put(40, &self.instance.to_bytes());
        put(56, &self.token.generation.0.to_le_bytes());
        put(64, &self.token.applied.get().to_le_bytes());
        put(72, &self.floor.get().to_le_bytes());
        put(80, &self.session.to_le_bytes());
        put(88, &self.serve_until.to_le_bytes());
        let check = u64::from(crc32fast::hash(&bytes[..CHECK_AT]));
        bytes[CHECK_AT..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// Reads a copy that was made of the file. The caller compares the boot, and the sequence with the file's after
    /// copying.
    pub fn decode(bytes: &[u8; BLOCK_BYTES]) -> Result<Self, PageProblem> {
        if bytes[..8] != MAGIC {
            return Err(PageProblem::Magic);
        }
        let version = word(bytes, 8) as u32;
        if version != VERSION {
            return Err(PageProblem::Version(version));
        }
        let sequence = word(bytes, SEQUENCE_AT);
        let check = u64::from(crc32fast::hash(&bytes[..CHECK_AT]));
        if !sequence.is_multiple_of(2) || word(bytes, CHECK_AT) != check {
            return Err(PageProblem::Torn);
        }
        Ok(Self {
            boot_id: sixteen(bytes, 16),
            sequence,
            instance: InstanceId::from_bytes(sixteen(bytes, 40)),
            token: FillToken {
                generation: Generation(word(bytes, 56)),
                applied: Cursor::new(word(bytes, 64)),
            },
            floor: Cursor::new(word(bytes, 72)),
            session: word(bytes, 80),
            serve_until: word(bytes, 88),
        })
    }
}

/// The bytes of a boot id as the kernel prints it; `None` when the text is none.
pub fn boot_id(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.trim().chars().filter(|&c| c != '-').collect();
    if digits.len() != 32 {
        return None;
    }
    Some(u128::from_str_radix(&digits, 16).ok()?.to_be_bytes())
}

fn word(bytes: &[u8; BLOCK_BYTES], at: usize) -> u64 {
    bytes[at..at + 8].iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

fn sixteen(bytes: &[u8; BLOCK_BYTES], at: usize) -> [u8; 16] {
    std::array::from_fn(|i| bytes[at + i])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Page {
        Page {
            boot_id: [7; 16],
            sequence: 4,
            instance: InstanceId::from_bytes([9; 16]),
            token: FillToken { generation: Generation(3), applied: Cursor::new(0x0102_0304_0506_0708) },
            floor: Cursor::new(17),
            session: 0x7FFF_0000_0000_0001,
            serve_until: NO_LIMIT,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(Page::decode(&page().encode()), Ok(page()));
    }

    /// Other languages count bytes: they must stand where the contract says.
    #[test]
    fn each_field_stands_where_the_contract_says() {
        let bytes = page().encode();
        assert_eq!(&bytes[..16], b"BATOFFPG\x01\0\0\0\x68\0\0\0");
        assert_eq!(bytes[16..32], [7; 16]);
        assert_eq!(bytes[32..40], [4, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[40..56], [9; 16]);
        assert_eq!(bytes[56..64], [3, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[64..72], [8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(bytes[72..80], [17, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[80..88], [1, 0, 0, 0, 0, 0, 255, 127]);
        assert_eq!(bytes[88..96], [255; 8]);
        assert_eq!(bytes[100..104], [0; 4]);
    }

    #[test]
    fn any_byte_that_is_not_its_own_is_noticed() {
        for at in 0..BLOCK_BYTES {
            let mut bytes = page().encode();
            bytes[at] ^= 0x20;
            assert!(Page::decode(&bytes).is_err(), "byte {at}");
        }
        let odd = Page { sequence: 5, ..page() };
        assert_eq!(Page::decode(&odd.encode()), Err(PageProblem::Torn));
    }

    #[test]
    fn a_boot_id_is_read_as_the_kernel_prints_it() {
        let id = boot_id("00112233-4455-6677-8899-aabbccddeeff\n");
        assert_eq!(id, Some(std::array::from_fn(|i| (i * 17) as u8)));
        assert_eq!(boot_id("0011"), None);
    }
}
