//! The caches' own handles, by number.

/// One allocation of slots.
const PER_CHUNK: usize = 1_024;

/// Values by number; a free number is used again. A type without a size takes no memory and has no numbers.
pub(crate) struct Locators<L> {
    chunks: Vec<Vec<Slot<L>>>,
    /// The last that was freed.
    free: Option<u32>,
    /// What stands for all of them if the type has no size.
    sizeless: Option<L>,
}

enum Slot<L> {
    Held(L),
    Free(Option<u32>),
}

impl<L> Default for Locators<L> {
    fn default() -> Self {
        Self { chunks: Vec::new(), free: None, sizeless: None }
    }
}

impl<L> Locators<L> {
    /// Whether an object's record has room for a number.
    pub(crate) const NUMBERED: bool = size_of::<L>() > 0;

    pub(crate) fn put(&mut self, locator: L) -> u32 {
        if !Self::NUMBERED {
            self.sizeless = Some(locator);
            return 0;
        }
        if let Some(number) = self.free {
            let slot = &mut self.chunks[number as usize / PER_CHUNK][number as usize % PER_CHUNK];
            if let Slot::Free(next) = std::mem::replace(slot, Slot::Held(locator)) {
                self.free = next;
            }
            return number;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == PER_CHUNK) {
            // The first one grows as it is needed.
            let room = if self.chunks.is_empty() { 0 } else { PER_CHUNK };
            self.chunks.push(Vec::with_capacity(room));
        }
        let last = self.chunks.len() - 1;
        let chunk = &mut self.chunks[last];
        chunk.push(Slot::Held(locator));
        (last * PER_CHUNK + chunk.len() - 1) as u32
    }

    pub(crate) fn get(&self, number: u32) -> Option<&L> {
        if !Self::NUMBERED {
            return self.sizeless.as_ref();
        }
        match self.chunks.get(number as usize / PER_CHUNK)?.get(number as usize % PER_CHUNK)? {
            Slot::Held(locator) => Some(locator),
            Slot::Free(_) => None,
        }
    }

    pub(crate) fn free(&mut self, number: u32) {
        if !Self::NUMBERED {
            return;
        }
        self.chunks[number as usize / PER_CHUNK][number as usize % PER_CHUNK] = Slot::Free(self.free);
        self.free = Some(number);
    }

    /// Memory held, without what the locators own themselves.
    pub(crate) fn bytes(&self) -> u64 {
        let slots: usize = self.chunks.iter().map(|chunk| chunk.capacity() * size_of::<Slot<L>>()).sum();
        (slots + self.chunks.capacity() * size_of::<Vec<Slot<L>>>()) as u64
    }
}
