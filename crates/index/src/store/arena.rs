//! Records of any length in few large allocations, named by 28 bits.

/// Every block begins at a multiple of this, in bytes, and a handle counts in it.
const UNIT: usize = 8;
/// One allocation. No block is longer.
const CHUNK: usize = 1 << 20;
const UNITS_PER_CHUNK: u32 = (CHUNK / UNIT) as u32;
/// A chunk begins with so much and doubles, so that a small index stays small.
const FIRST_CHUNK: usize = 4 << 10;
/// Handles leave four bits to their user: 2 GiB an arena.
const UNITS_MAX: u32 = 1 << 28;
/// Where a block's incarnation stands.
const INCARNATION: usize = 4;
/// Up to here each number of units is a class of its own; beyond, classes lie an eighth of a power of two apart.
const EXACT_UNITS: u32 = 64;

/// Bytes that memory comes in. A block that is touched begins anywhere in one, so mostly two are to be touched: what
/// stands at its beginning, and what stands a line further on.
pub(crate) const LINE: usize = 64;

/// No block.
pub(crate) const NONE: u32 = 0;

/// Blocks of bytes by handle.
///
/// A free block stays what it is, for the next one of its class: nothing is merged, and nothing given back before
/// the arena itself goes. So its fifth byte can tell who names it from who named what was here before: it is the block's
/// *incarnation*, rises (and wraps) with every [`Arena::free`], and belongs to the arena. The other bytes of a new
/// block may hold anything.
#[derive(Default)]
pub(crate) struct Arena {
    chunks: Vec<Vec<u8>>,
    /// The first unit that was never given out; unit 0 never is.
    end: u32,
    /// The first free block of each class, each block naming the next.
    free: Vec<u32>,
    free_bytes: u64,
}

impl Arena {
    /// A block of at least `bytes`; `None` when the arena is full or the block would be too long.
    pub(crate) fn alloc(&mut self, bytes: usize) -> Option<u32> {
        let (class, units) = class_of(bytes)?;
        if let Some(first) = self.free.get(class).copied().filter(|&first| first != NONE) {
            self.free[class] = u32_at(self.at(first), 0);
            self.free_bytes -= u64::from(units) * UNIT as u64;
            return Some(first);
        }
        let mut start = self.end.max(1);
        let in_chunk = start % UNITS_PER_CHUNK;
        if in_chunk + units > UNITS_PER_CHUNK {
            start += UNITS_PER_CHUNK - in_chunk;
        }
        let end = start.checked_add(units).filter(|&end| end <= UNITS_MAX)?;
        self.reach(end);
        self.end = end;
        Some(start)
    }

    /// Gives a block back that was allocated for `bytes`.
    pub(crate) fn free(&mut self, handle: u32, bytes: usize) {
        let Some((class, units)) = class_of(bytes) else { return };
        if self.free.len() <= class {
            self.free.resize(class + 1, NONE);
        }
        let next = std::mem::replace(&mut self.free[class], handle);
        let block = self.at_mut(handle);
        put_u32(block, 0, next);
        block[INCARNATION] = block[INCARNATION].wrapping_add(1);
        self.free_bytes += u64::from(units) * UNIT as u64;
    }

    /// A block, and whatever follows it in its chunk.
    #[inline]
    pub(crate) fn at(&self, handle: u32) -> &[u8] {
        &self.chunks[(handle / UNITS_PER_CHUNK) as usize][(handle % UNITS_PER_CHUNK) as usize * UNIT..]
    }

    /// As [`Arena::at`], to be written.
    #[inline]
    pub(crate) fn at_mut(&mut self, handle: u32) -> &mut [u8] {
        &mut self.chunks[(handle / UNITS_PER_CHUNK) as usize][(handle % UNITS_PER_CHUNK) as usize * UNIT..]
    }

    /// How often the block was given back, modulo 256.
    #[inline]
    pub(crate) fn incarnation(&self, handle: u32) -> u8 {
        self.at(handle)[INCARNATION]
    }

    /// The same for a block that may be of before the memory was given back; `None` where there is no memory now.
    #[inline]
    pub(crate) fn incarnation_now(&self, handle: u32) -> Option<u8> {
        let chunk = self.chunks.get((handle / UNITS_PER_CHUNK) as usize)?;
        chunk.get((handle % UNITS_PER_CHUNK) as usize * UNIT + INCARNATION).copied()
    }

    /// What a block for `bytes` really holds.
    pub(crate) fn room(bytes: usize) -> usize {
        class_of(bytes).map_or(bytes, |(_, units)| units as usize * UNIT)
    }

    /// Memory held, and how much of it is in no block.
    pub(crate) fn bytes(&self) -> u64 {
        let chunks: usize = self.chunks.iter().map(Vec::capacity).sum();
        let lists = self.chunks.capacity() * size_of::<Vec<u8>>() + self.free.capacity() * size_of::<u32>();
        (chunks + lists) as u64
    }

    /// Bytes in blocks that were given back.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.free_bytes
    }

    /// Makes all units before `end` exist.
    fn reach(&mut self, end: u32) {
        let last = ((end - 1) / UNITS_PER_CHUNK) as usize;
        while self.chunks.len() <= last {
            // Only the first grows: whoever needs a second needs it whole.
            let first = if self.chunks.is_empty() { FIRST_CHUNK } else { CHUNK };
            if let Some(before) = self.chunks.last_mut() {
                before.resize(CHUNK, 0);
            }
            self.chunks.push(vec![0; first]);
        }
        let needed = ((end - 1) % UNITS_PER_CHUNK + 1) as usize * UNIT;
        let chunk = &mut self.chunks[last];
        if chunk.len() < needed {
            let len = needed.next_power_of_two().clamp(FIRST_CHUNK, CHUNK);
            chunk.reserve_exact(len - chunk.len());
            chunk.resize(len, 0);
        }
    }
}

fn class_of(bytes: usize) -> Option<(usize, u32)> {
    let units = u32::try_from(bytes.div_ceil(UNIT)).ok().filter(|&units| units <= UNITS_PER_CHUNK)?.max(1);
    if units <= EXACT_UNITS {
        return Some((units as usize, units));
    }
    let power = units.ilog2();
    let step = 1 << (power - 3);
    let rounded = units.next_multiple_of(step);
    // Rounded up to the next power of two, it is the first of that one's classes.
    let (power, step) = if rounded.is_power_of_two() { (rounded.ilog2(), step * 2) } else { (power, step) };
    let class = EXACT_UNITS + (power - EXACT_UNITS.ilog2()) * 8 + (rounded - (1 << power)) / step;
    Some((class as usize, rounded))
}

#[inline]
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    let mut value = [0; 2];
    value.copy_from_slice(&bytes[at..at + 2]);
    u16::from_le_bytes(value)
}

#[inline]
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(value)
}

#[inline]
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}

#[inline]
pub(crate) fn put_u16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

#[inline]
pub(crate) fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

#[inline]
pub(crate) fn put_u64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn classes_hold_what_is_asked_and_waste_an_eighth_at_most() {
        let mut before = 0;
        for bytes in 1..CHUNK / 4 {
            let (class, units) = class_of(bytes).unwrap();
            let room = units as usize * UNIT;
            assert!(room >= bytes && room < bytes + UNIT + bytes / 7, "{bytes}: {room}");
            assert!(class == before || class == before + 1, "{bytes}: class {class} after {before}");
            before = class;
            assert_eq!(class_of(room).unwrap(), (class, units), "a class holds blocks of one length");
        }
        assert_eq!(class_of(CHUNK).unwrap().1, UNITS_PER_CHUNK);
        assert_eq!(class_of(CHUNK + 1), None);
    }

    proptest! {
        #[test]
        fn blocks_do_not_overlap_and_are_used_again(
            steps in proptest::collection::vec((any::<bool>(), 1_usize..3_000), 1..400),
        ) {
            let mut arena = Arena::default();
            let mut held: Vec<(u32, usize, u8)> = Vec::new();
            let mut incarnations = HashMap::new();
            for (at, (free, bytes)) in steps.into_iter().enumerate() {
                if free && !held.is_empty() {
                    let (handle, bytes, _) = held.swap_remove(bytes % held.len());
                    incarnations.insert(handle, arena.incarnation(handle));
                    arena.free(handle, bytes);
                    prop_assert_ne!(arena.incarnation(handle), incarnations[&handle]);
                } else {
                    let bytes = bytes.max(INCARNATION + 1);
                    let handle = arena.alloc(bytes).unwrap();
                    let mark = at as u8;
                    let block = &mut arena.at_mut(handle)[..bytes];
                    block[..INCARNATION].fill(mark);
                    block[INCARNATION + 1..].fill(mark);
                    held.push((handle, bytes, mark));
                }
                for &(handle, bytes, mark) in &held {
                    let block = &arena.at(handle)[..bytes];
                    let whole = block[..INCARNATION].iter().chain(&block[INCARNATION + 1..]);
                    prop_assert!(whole.into_iter().all(|&byte| byte == mark));
                }
            }
            for (handle, bytes, _) in held {
                arena.free(handle, bytes);
            }
            let (held, free) = (arena.bytes(), arena.free_bytes());
            prop_assert!(free <= held);
        }
    }
}
