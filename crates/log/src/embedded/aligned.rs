//! Memory as files that bypass the page cache want it.

/// What is written at once and never in part rewritten, in bytes: a multiple of the sectors of all disks.
pub(super) const BLOCK: usize = 4_096;

/// Bytes whose first lies at a multiple of [`BLOCK`] in memory, as files that bypass the page cache want them.
#[derive(Debug, Default)]
pub(super) struct AlignedBytes {
    /// Some bytes before the first, then the bytes.
    store: Vec<u8>,
    begin: usize,
}

/// Room that is kept from one group to the next, in bytes. A larger group's is given back.
const KEPT_BYTES_MAX: usize = 4 * 1024 * 1024;

impl AlignedBytes {
    /// Nothing, with room for `capacity` bytes.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        let mut bytes = Self { store: Vec::with_capacity(capacity + BLOCK), begin: 0 };
        bytes.clear();
        bytes
    }

    /// So many zeros.
    pub(super) fn zeroed(len: usize) -> Self {
        let mut bytes = Self::with_capacity(len);
        bytes.resize(len);
        bytes
    }

    pub(super) fn clear(&mut self) {
        if self.store.capacity() > KEPT_BYTES_MAX + BLOCK {
            self.store = Vec::new();
        }
        self.store.clear();
        self.begin = self.store.as_ptr().align_offset(BLOCK).min(BLOCK);
        self.store.resize(self.begin, 0);
    }

    pub(super) fn len(&self) -> usize {
        self.store.len() - self.begin
    }

    pub(super) fn extend(&mut self, more: &[u8]) {
        self.reserve(more.len());
        self.store.extend_from_slice(more);
    }

    /// Zeros at the end, or less.
    pub(super) fn resize(&mut self, len: usize) {
        self.reserve(len.saturating_sub(self.len()));
        self.store.resize(self.begin + len, 0);
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.store[self.begin..]
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.store[self.begin..]
    }

    /// When the room does not suffice, the bytes move to another place, which may be aligned otherwise.
    fn reserve(&mut self, more: usize) {
        if self.store.capacity() - self.store.len() >= more {
            return;
        }
        let mut larger: Vec<u8> =
            Vec::with_capacity((2 * self.store.capacity()).max(self.len() + more + BLOCK));
        let begin = larger.as_ptr().align_offset(BLOCK).min(BLOCK);
        larger.resize(begin, 0);
        larger.extend_from_slice(self.as_slice());
        (self.store, self.begin) = (larger, begin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_stay_aligned_and_the_same_however_they_grow() {
        let mut bytes = AlignedBytes::default();
        for round in 0..3 {
            bytes.clear();
            let mut model = Vec::new();
            for step in 0..60_usize {
                let more = vec![step as u8; 1 + step * 97 * (round + 1)];
                bytes.extend(&more);
                model.extend_from_slice(&more);
                assert!(bytes.as_slice() == model, "step {step}");
                assert_eq!(bytes.as_slice().as_ptr().align_offset(BLOCK), 0, "step {step}");
            }
            bytes.resize(model.len() + 5_000);
            assert!(bytes.as_slice()[model.len()..].iter().all(|byte| *byte == 0));
            assert_eq!(bytes.as_slice().as_ptr().align_offset(BLOCK), 0);
        }
    }
}
