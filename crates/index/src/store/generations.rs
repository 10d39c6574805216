//! Fill tokens in eight bytes.

use batoff_types::{Cursor, FillToken, Generation};

const SEQ_BITS: u32 = 48;
const SEQ_MAX: u64 = (1 << SEQ_BITS) - 1;

/// The generations that some object is of, numbered. Mostly one; a second after a reset, until that is swept.
#[derive(Default)]
pub(crate) struct Generations {
    /// Each with its number of objects. A place without objects is used again.
    known: Vec<(Generation, u32)>,
}

impl Generations {
    /// A token's short form; `None` when objects of 65,536 generations are held already.
    pub(crate) fn enter(&mut self, token: FillToken) -> Option<u64> {
        let same = |(generation, _): &(Generation, u32)| *generation == token.generation;
        let at = match self.known.iter().position(same) {
            Some(at) => at,
            None => match self.known.iter().position(|(_, objects)| *objects == 0) {
                Some(at) => at,
                None => {
                    self.known.push((token.generation, 0));
                    self.known.len() - 1
                }
            },
        };
        let number = u16::try_from(at).ok()?;
        self.known[at].0 = token.generation;
        self.known[at].1 += 1;
        // A token that says less than it could is the safe side; no log comes that far.
        Some(u64::from(number) << SEQ_BITS | token.applied.get().min(SEQ_MAX))
    }

    pub(crate) fn token(&self, short: u64) -> FillToken {
        let generation = self.known[(short >> SEQ_BITS) as usize].0;
        FillToken { generation, applied: Cursor::new(short & SEQ_MAX) }
    }

    pub(crate) fn leave(&mut self, short: u64) {
        self.known[(short >> SEQ_BITS) as usize].1 -= 1;
    }
}
