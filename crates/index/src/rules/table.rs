//! Rules by fingerprint, in a map whose copies share what did not change.

use std::sync::Arc;

/// Bits of the fingerprint that one level decides, and so how many ways it branches.
///
/// A change copies one branch a level. With 16 ways that is four branches of 16 counted references at 262,144 rules;
/// with 64 it would be three of 64.
const BITS: u32 = 4;
const WAYS: usize = 1 << BITS;

/// Slots of one leaf before it branches.
const LEAF_MAX: usize = 8;

/// A map from fingerprints whose copies share what did not change: a hash trie. A copy costs one counted reference; a
/// change to a copy costs one leaf and the branches above it, and those who read the other notice nothing.
#[derive(Clone, Debug)]
pub(crate) struct PrintMap<V> {
    root: Tree<V>,
}

#[derive(Clone, Debug)]
enum Tree<V> {
    Empty,
    Leaf(Arc<[LeafEntry<V>]>),
    Branch(Arc<[Tree<V>; WAYS]>),
}

#[derive(Clone, Copy, Debug)]
struct LeafEntry<V> {
    print: u64,
    value: V,
}

impl<V> Default for PrintMap<V> {
    fn default() -> Self {
        Self { root: Tree::Empty }
    }
}

impl<V: Clone> PrintMap<V> {
    /// What stands under the fingerprint.
    #[inline]
    pub(crate) fn get(&self, print: u64) -> Option<&V> {
        let mut node = &self.root;
        let mut bits = print;
        loop {
            match node {
                Tree::Empty => return None,
                Tree::Leaf(slots) => {
                    return slots.iter().find(|slot| slot.print == print).map(|slot| &slot.value);
                }
                Tree::Branch(ways) => {
                    node = &ways[way(bits)];
                    bits >>= BITS;
                }
            }
        }
    }

    /// What stands under the fingerprint, to be changed in this copy.
    pub(crate) fn get_mut(&mut self, print: u64) -> Option<&mut V> {
        let mut node = &mut self.root;
        let mut bits = print;
        loop {
            match node {
                Tree::Empty => return None,
                Tree::Leaf(slots) => {
                    let at = slots.iter().position(|slot| slot.print == print)?;
                    return Some(&mut Arc::make_mut(slots)[at].value);
                }
                Tree::Branch(ways) => {
                    node = &mut Arc::make_mut(ways)[way(bits)];
                    bits >>= BITS;
                }
            }
        }
    }

    /// Puts a value under the fingerprint, in the place of the one there.
    pub(crate) fn set(&mut self, print: u64, value: V) {
        self.root.set(LeafEntry { print, value }, 0);
    }

    /// Takes the value under the fingerprint away.
    pub(crate) fn remove(&mut self, print: u64) -> Option<V> {
        // Nothing is copied for what is not there.
        self.get(print)?;
        self.root.remove(print, print)
    }
}

fn way(bits: u64) -> usize {
    bits as usize % WAYS
}

impl<V: Clone> Tree<V> {
    fn set(&mut self, slot: LeafEntry<V>, level: u32) {
        match self {
            Self::Empty => *self = Self::Leaf(Arc::new([slot])),
            Self::Branch(ways) => {
                Arc::make_mut(ways)[way(slot.print >> (BITS * level))].set(slot, level + 1);
            }
            Self::Leaf(slots) => {
                if let Some(at) = slots.iter().position(|held| held.print == slot.print) {
                    Arc::make_mut(slots)[at] = slot;
                } else if slots.len() < LEAF_MAX {
                    *slots = slots.iter().cloned().chain([slot]).collect();
                } else {
                    // Two fingerprints differ somewhere in their 16 levels, so this ends.
                    let mut branch = Self::Branch(Arc::new([const { Self::Empty }; WAYS]));
                    for held in slots.iter().cloned().chain([slot]) {
                        branch.set(held, level);
                    }
                    *self = branch;
                }
            }
        }
    }

    fn remove(&mut self, print: u64, bits: u64) -> Option<V> {
        match self {
            Self::Empty => None,
            Self::Leaf(slots) => {
                let at = slots.iter().position(|slot| slot.print == print)?;
                let value = slots[at].value.clone();
                *self = if slots.len() == 1 {
                    Self::Empty
                } else {
                    Self::Leaf(slots[..at].iter().chain(&slots[at + 1..]).cloned().collect())
                };
                Some(value)
            }
            Self::Branch(ways) => {
                let ways = Arc::make_mut(ways);
                let value = ways[way(bits)].remove(print, bits >> BITS)?;
                if let Some(slots) = few(ways) {
                    *self = if slots.is_empty() { Self::Empty } else { Self::Leaf(slots.into()) };
                }
                Some(value)
            }
        }
    }
}

/// All that is left in a branch, if it is so little that a leaf does. Half a leaf, so that a rule that comes and goes
/// does not split and join it each time.
fn few<V: Clone>(ways: &[Tree<V>; WAYS]) -> Option<Vec<LeafEntry<V>>> {
    let mut left = 0;
    for node in ways {
        match node {
            Tree::Empty => {}
            Tree::Leaf(slots) => left += slots.len(),
            Tree::Branch(_) => return None,
        }
        if left > LEAF_MAX / 2 {
            return None;
        }
    }
    let leaves = ways.iter().filter_map(|node| if let Tree::Leaf(slots) = node { Some(slots) } else { None });
    Some(leaves.flat_map(|slots| slots.iter().cloned()).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn slots<V>(node: &Tree<V>) -> usize {
        match node {
            Tree::Empty => 0,
            Tree::Leaf(slots) => slots.len(),
            Tree::Branch(ways) => ways.iter().map(slots_of).sum(),
        }
    }

    fn slots_of<V>(node: &Tree<V>) -> usize {
        slots(node)
    }

    proptest! {
        /// Fingerprints that share their low bits, so that the trie becomes deep.
        #[test]
        fn a_table_is_a_map_and_its_copies_do_not_change(
            steps in proptest::collection::vec((any::<bool>(), 0..40_u64, 0..4_u32), 0..200),
        ) {
            let mut table = PrintMap::default();
            let mut model = BTreeMap::new();
            let mut copies = Vec::new();
            for (at, (remove, number, shift)) in steps.into_iter().enumerate() {
                let print = number << (20 * shift);
                if remove {
                    prop_assert_eq!(table.remove(print), model.remove(&print));
                } else {
                    table.set(print, at);
                    model.insert(print, at);
                }
                if at % 17 == 0 {
                    copies.push((table.clone(), model.clone()));
                }
                if let Some(value) = table.get_mut(print) {
                    *value += 1_000;
                    model.entry(print).and_modify(|value| *value += 1_000);
                }
            }
            copies.push((table.clone(), model.clone()));
            for (table, model) in copies {
                prop_assert_eq!(slots(&table.root), model.len());
                for (print, value) in &model {
                    prop_assert_eq!(table.get(*print), Some(value));
                }
            }
            for print in model.keys() {
                table.remove(*print);
            }
            prop_assert!(matches!(table.root, Tree::Empty));
        }
    }
}
