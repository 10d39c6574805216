//! What the store keeps of one object, and of one directory, as bytes.

use super::arena::{put_u16, put_u32, put_u64, u16_at, u32_at, u64_at};
use super::key::Split;
use crate::Variant;

// An object: directory u32, incarnation u8, flags u8, name length u16, token u64, next u32, previous u32, number of
// tags u16; then, as far as there are any, variant u128, tags; name. A tag: number u32, the low half of its fingerprint
// u32. The fingerprint tells from the record alone that none of its tags has a rule, and so mostly saves a look at each.
const DIRECTORY: usize = 0;
const FLAGS: usize = 5;
const NAME_LEN: usize = 6;
const TOKEN: usize = 8;
const NEXT: usize = 16;
const PREVIOUS: usize = 20;
const TAGS: usize = 24;
const HEAD: usize = 26;

const TAG: usize = 8;

const STALE: u8 = 1;
const HTTPS: u8 = 2;
const HAS_VARIANT: u8 = 4;
/// Every purge of a tag of its site hits it.
const OVERFLOWS: u8 = 16;
/// The block holds an object. A free one is told by this alone once its incarnations have come round.
const HELD: u8 = 8;

/// What is known of an object before its record is written.
pub(crate) struct Draft<'a> {
    pub(crate) name: &'a str,
    pub(crate) variant: Variant,
    pub(crate) token: u64,
    pub(crate) https: bool,
    pub(crate) overflows: bool,
    pub(crate) tags: u16,
}

impl Draft<'_> {
    pub(crate) fn len(&self) -> usize {
        let variant = if self.variant == Variant::MAIN { 0 } else { 16 };
        HEAD + variant + TAG * usize::from(self.tags) + self.name.len()
    }

    /// Writes all but the directory, the list and the tags.
    pub(crate) fn write(&self, bytes: &mut [u8]) {
        let has_variant = self.variant != Variant::MAIN;
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        bytes[FLAGS] =
            HELD | flag(self.https, HTTPS) | flag(has_variant, HAS_VARIANT) | flag(self.overflows, OVERFLOWS);
        put_u16(bytes, NAME_LEN, self.name.len() as u16);
        put_u64(bytes, TOKEN, self.token);
        put_u16(bytes, TAGS, self.tags);
        if has_variant {
            bytes[HEAD..HEAD + 16].copy_from_slice(&self.variant.0.to_le_bytes());
        }
        let end = self.len();
        bytes[end - self.name.len()..end].copy_from_slice(self.name.as_bytes());
    }
}

/// How long a record is.
pub(crate) fn len(bytes: &[u8]) -> usize {
    name_at(bytes) + usize::from(u16_at(bytes, NAME_LEN))
}

#[inline]
pub(crate) fn directory(bytes: &[u8]) -> u32 {
    u32_at(bytes, DIRECTORY)
}

pub(crate) fn set_directory(bytes: &mut [u8], directory: u32) {
    put_u32(bytes, DIRECTORY, directory);
}

#[inline]
pub(crate) fn name(bytes: &[u8]) -> &[u8] {
    let at = name_at(bytes);
    &bytes[at..at + usize::from(u16_at(bytes, NAME_LEN))]
}

pub(crate) fn variant(bytes: &[u8]) -> Variant {
    if bytes[FLAGS] & HAS_VARIANT == 0 {
        return Variant::MAIN;
    }
    let mut value = [0; 16];
    value.copy_from_slice(&bytes[HEAD..HEAD + 16]);
    Variant(u128::from_le_bytes(value))
}

pub(crate) fn token(bytes: &[u8]) -> u64 {
    u64_at(bytes, TOKEN)
}

pub(crate) fn is_https(bytes: &[u8]) -> bool {
    bytes[FLAGS] & HTTPS != 0
}

pub(crate) fn overflows(bytes: &[u8]) -> bool {
    bytes[FLAGS] & OVERFLOWS != 0
}

pub(crate) fn is_stale(bytes: &[u8]) -> bool {
    bytes[FLAGS] & STALE != 0
}

pub(crate) fn set_stale(bytes: &mut [u8]) {
    bytes[FLAGS] |= STALE;
}

pub(crate) fn set_https(bytes: &mut [u8], https: bool) {
    bytes[FLAGS] = bytes[FLAGS] & !HTTPS | if https { HTTPS } else { 0 };
}

#[inline]
pub(crate) fn is_held(bytes: &[u8]) -> bool {
    bytes[FLAGS] & HELD != 0
}

/// The block is about to be given back.
pub(crate) fn let_go(bytes: &mut [u8]) {
    bytes[FLAGS] &= !HELD;
}

pub(crate) fn next(bytes: &[u8]) -> u32 {
    u32_at(bytes, NEXT)
}

pub(crate) fn set_next(bytes: &mut [u8], next: u32) {
    put_u32(bytes, NEXT, next);
}

pub(crate) fn previous(bytes: &[u8]) -> u32 {
    u32_at(bytes, PREVIOUS)
}

pub(crate) fn set_previous(bytes: &mut [u8], previous: u32) {
    put_u32(bytes, PREVIOUS, previous);
}

/// Its tags: their numbers, and the low halves of their fingerprints.
#[inline]
pub(crate) fn tags(bytes: &[u8]) -> impl Iterator<Item = (u32, u32)> {
    let tags = bytes[tags_at(bytes)..name_at(bytes)].chunks_exact(TAG);
    tags.map(|tag| (u32_at(tag, 0), u32_at(tag, 4)))
}

pub(crate) fn set_tags(bytes: &mut [u8], tags: impl Iterator<Item = (u32, u32)>) {
    let (from, to) = (tags_at(bytes), name_at(bytes));
    for (place, (number, half)) in bytes[from..to].chunks_exact_mut(TAG).zip(tags) {
        put_u32(place, 0, number);
        put_u32(place, 4, half);
    }
}

#[inline]
fn tags_at(bytes: &[u8]) -> usize {
    HEAD + if bytes[FLAGS] & HAS_VARIANT == 0 { 0 } else { 16 }
}

#[inline]
fn name_at(bytes: &[u8]) -> usize {
    tags_at(bytes) + TAG * usize::from(u16_at(bytes, TAGS))
}

/// A directory: first object u32, incarnation u8, unused u8, text length u16, objects u32, host's number u32, hash u64,
/// text.
pub(crate) mod directory {
    use super::{Split, put_u16, put_u32, put_u64, u16_at, u32_at, u64_at};

    const FIRST: usize = 0;
    const TEXT_LEN: usize = 6;
    const OBJECTS: usize = 8;
    const HOST: usize = 12;
    const HASH: usize = 16;
    const TEXT: usize = 24;

    pub(crate) const fn len(text: usize) -> usize {
        TEXT + text
    }

    pub(crate) fn write(bytes: &mut [u8], split: Split<'_>, hash: u64, host: u32) {
        let text = split.directory.as_bytes();
        put_u32(bytes, FIRST, super::super::arena::NONE);
        put_u16(bytes, TEXT_LEN, text.len() as u16);
        put_u32(bytes, OBJECTS, 0);
        put_u32(bytes, HOST, host);
        put_u64(bytes, HASH, hash);
        bytes[TEXT..TEXT + text.len()].copy_from_slice(text);
    }

    #[inline]
    pub(crate) fn text(bytes: &[u8]) -> &[u8] {
        &bytes[TEXT..TEXT + usize::from(u16_at(bytes, TEXT_LEN))]
    }

    pub(crate) fn hash(bytes: &[u8]) -> u64 {
        u64_at(bytes, HASH)
    }

    pub(crate) fn host(bytes: &[u8]) -> u32 {
        u32_at(bytes, HOST)
    }

    pub(crate) fn first(bytes: &[u8]) -> u32 {
        u32_at(bytes, FIRST)
    }

    pub(crate) fn set_first(bytes: &mut [u8], first: u32) {
        put_u32(bytes, FIRST, first);
    }

    pub(crate) fn objects(bytes: &[u8]) -> u32 {
        u32_at(bytes, OBJECTS)
    }

    pub(crate) fn set_objects(bytes: &mut [u8], objects: u32) {
        put_u32(bytes, OBJECTS, objects);
    }
}
