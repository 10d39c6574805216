//! The file that the script maps, byte by byte. All numbers are little-endian; those that change are doubles, which a Lua
//! reads without making an object, and exact up to 2^53.
//!
//! ```text
//!      0  "BATOFFTS"          8  the version         16  slots - 1           24, 32  seeds
//!     40  floor: what was fetched before it is gone         48  a number that no other table has
//!     64  how many epochs there are
//!   1024  the kernel's boot_id: of another boot, the lease is of another clock
//!   1088  the epochs, the one of new stamps first: 16 digits, and through which position its stamps are believed
//!    128  superseded   144  applied   160  serve until   176  probe   192 …  newest seq of each class: all twice
//!   4096  one byte for each length of a prefix: 1 if there is one
//!  16384  the slots: print (4 + 4), hard, soft, soft again, hard again
//! ```
//! A write into a mapped file is not seen as a whole by those who read at the same time. So what changes stands there
//! twice, and is written from front to back and read from back to front: two that are equal are both whole.

use super::print::{Print, PrintOf};

/// What the file begins with.
pub(super) const MAGIC: &[u8; 8] = b"BATOFFTS";

/// Of this layout and of the fingerprints.
pub(super) const VERSION: u32 = 2;

/// Runs of the daemon whose stamps are believed. What was fetched before so many of them is fetched anew.
pub(super) const EPOCHS_MAX: usize = 64;

/// An epoch, as stamps begin with it.
pub(super) const EPOCH_DIGITS: usize = 16;

/// Bytes of an epoch with its bound.
pub(super) const EPOCH_BYTES: usize = EPOCH_DIGITS + 8;

pub(super) const VERSION_AT: usize = 8;
pub(super) const MASK_AT: usize = 16;
pub(super) const SEEDS_AT: [usize; 2] = [24, 32];
pub(super) const FLOOR_AT: usize = 40;
pub(super) const SERIAL_AT: usize = 48;
pub(super) const EPOCH_COUNT_AT: usize = 64;
/// 36 characters.
pub(super) const BOOT_AT: usize = 1_024;
pub(super) const EPOCHS_AT: usize = 1_088;

/// Not to be used any more: 1, and the file has a successor of the same name.
pub(super) const SUPERSEDED_AT: usize = 128;
/// What a fetch that begins now is stamped with.
pub(super) const APPLIED_AT: usize = 144;
/// The end of the lease in microseconds of `CLOCK_BOOTTIME`.
pub(super) const UNTIL_AT: usize = 160;
/// Not 0 while `batoff-edge check` looks: a request with this number in `X-Batoff-Probe` is answered as if purged.
pub(super) const PROBE_AT: usize = 176;
const NEWEST_AT: usize = 192;

/// Where the lengths of prefixes begin: one byte for each up to the longest URL.
pub(super) const LENGTHS_AT: usize = 4_096;

/// Where the slots begin.
pub(super) const SLOTS_AT: usize = 16_384;

/// Bytes of a slot.
pub(super) const SLOT_BYTES: usize = 40;

/// What an available node's script is told: it serves without a lease.
pub(super) const OPEN_MICROS: f64 = 1e18;

/// Where the newest seq of a class of rules stands.
pub(super) const fn newest_at(class: PrintOf) -> usize {
    NEWEST_AT + 16 * (class as usize - 1)
}

/// A seq as the file holds it.
#[allow(clippy::cast_precision_loss, reason = "a log of 2^53 records outlives us")]
pub(super) const fn double(number: u64) -> f64 {
    number as f64
}

/// A number that changes, as it stands in the file.
pub(super) fn twice(number: f64) -> [[u8; 8]; 2] {
    [number.to_le_bytes(); 2]
}

/// One slot.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Slot {
    pub(super) print: [u32; 2],
    pub(super) hard: f64,
    pub(super) soft: f64,
}

impl Slot {
    pub(super) fn is_of(&self, print: Print) -> bool {
        self.print == [print.0, print.1]
    }

    pub(super) fn is_free(&self) -> bool {
        self.print == [0, 0]
    }

    pub(super) fn encode(&self) -> [u8; SLOT_BYTES] {
        let mut bytes = [0; SLOT_BYTES];
        bytes[..4].copy_from_slice(&self.print[0].to_le_bytes());
        bytes[4..8].copy_from_slice(&self.print[1].to_le_bytes());
        for (at, number) in [(8, self.hard), (16, self.soft), (24, self.soft), (32, self.hard)] {
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// `None` when its writer was interrupted.
    pub(super) fn decode(bytes: &[u8; SLOT_BYTES]) -> Option<Self> {
        let word = |at: usize| read_u32(bytes, at);
        let number = |at: usize| read_f64(bytes, at);
        let slot = Self { print: [word(0)?, word(4)?], hard: number(8)?, soft: number(16)? };
        let again = (number(24)?, number(32)?);
        (again == (slot.soft, slot.hard)).then_some(slot)
    }
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The double there; `None` past the end.
pub(super) fn read_f64(bytes: &[u8], at: usize) -> Option<f64> {
    Some(f64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A number that changes; `None` when its writer was interrupted.
pub(super) fn read_twice(bytes: &[u8], at: usize) -> Option<f64> {
    let first = read_f64(bytes, at)?;
    (read_f64(bytes, at + 8)? == first).then_some(first)
}
