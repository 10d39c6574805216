//! Purged prefixes, in a trie whose copies share what did not change.

use std::sync::Arc;

use smallvec::SmallVec;

/// Bytes of a label that are kept in the node itself.
const LABEL_INLINE: usize = 24;

/// A byte-wise radix trie: the purged prefixes. A walk along a URL meets every purged prefix of it, and costs no more
/// than the URL's length, however many prefixes there are.
///
/// Copies share what did not change: a change to a copy costs the nodes on its way.
#[derive(Clone, Debug)]
pub(crate) struct Trie<T> {
    root: Node<T>,
}

#[derive(Clone, Debug)]
struct Node<T> {
    /// The bytes from the parent to here; empty only at the root.
    label: SmallVec<[u8; LABEL_INLINE]>,
    value: Option<T>,
    /// By the first bytes of their labels, which differ, rising.
    children: Vec<(u8, Arc<Node<T>>)>,
}

impl<T> Default for Trie<T> {
    fn default() -> Self {
        Self { root: Node::new(&[], None) }
    }
}

impl<T: Clone> Trie<T> {
    /// Puts a value at `key`, in the place of the one there.
    pub(crate) fn set(&mut self, key: &[u8], value: T) {
        let mut node = &mut self.root;
        let mut rest = key;
        while let Some(&first) = rest.first() {
            let at = match node.child(first) {
                Ok(at) => at,
                Err(at) => {
                    node.children.insert(at, (first, Arc::new(Node::new(rest, None))));
                    at
                }
            };
            node = Arc::make_mut(&mut node.children[at].1);
            let common = common(&node.label, rest);
            if common < node.label.len() {
                node.split(common);
            }
            rest = &rest[common..];
        }
        node.value = Some(value);
    }

    /// The value at `key`.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&T> {
        let mut node = &self.root;
        let mut rest = key;
        while let Some(&first) = rest.first() {
            node = &node.children[node.child(first).ok()?].1;
            rest = rest.strip_prefix(&*node.label)?;
        }
        node.value.as_ref()
    }

    /// Every value whose key is a prefix of `key`, the shortest first.
    #[inline]
    pub(crate) fn along<'a>(&'a self, key: &[u8], mut found: impl FnMut(&'a T)) {
        let mut node = &self.root;
        let mut rest = key;
        loop {
            if let Some(value) = &node.value {
                found(value);
            }
            let Some(&first) = rest.first() else { return };
            let Ok(at) = node.child(first) else { return };
            node = &node.children[at].1;
            let Some(beyond) = rest.strip_prefix(&*node.label) else { return };
            rest = beyond;
        }
    }

    /// Takes the value at `key` away, with the nodes that only led there.
    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<T> {
        // Nothing is copied for what is not there.
        self.get(key)?;
        self.root.remove(key)
    }

    /// Whether it has no value at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.root.value.is_none() && self.root.children.is_empty()
    }
}

impl<T> Node<T> {
    fn new(label: &[u8], value: Option<T>) -> Self {
        Self { label: label.into(), value, children: Vec::new() }
    }

    #[inline]
    fn child(&self, first: u8) -> Result<usize, usize> {
        self.children.binary_search_by_key(&first, |(first, _)| *first)
    }
}

impl<T: Clone> Node<T> {
    /// Cuts the label, so that a node stands after its first `at` bytes.
    fn split(&mut self, at: usize) {
        let lower = Self {
            label: self.label[at..].into(),
            value: self.value.take(),
            children: std::mem::take(&mut self.children),
        };
        self.children.push((self.label[at], Arc::new(lower)));
        self.label.truncate(at);
    }

    fn remove(&mut self, rest: &[u8]) -> Option<T> {
        let Some(&first) = rest.first() else { return self.value.take() };
        let at = self.child(first).ok()?;
        let child = Arc::make_mut(&mut self.children[at].1);
        let value = child.remove(rest.strip_prefix(&*child.label)?)?;
        if child.value.is_none() {
            match child.children.len() {
                0 => drop(self.children.remove(at)),
                1 => child.join(),
                _ => {}
            }
        }
        Some(value)
    }

    /// Takes the place of the only child.
    fn join(&mut self) {
        if let Some((_, only)) = self.children.pop() {
            let only = Arc::unwrap_or_clone(only);
            self.label.extend_from_slice(&only.label);
            self.value = only.value;
            self.children = only.children;
        }
    }
}

fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn nodes<T>(node: &Node<T>) -> usize {
        1 + node.children.iter().map(|(_, child)| nodes(child)).sum::<usize>()
    }

    proptest! {
        #[test]
        fn a_walk_meets_exactly_the_prefixes_and_removal_leaves_no_trace(
            steps in proptest::collection::vec((any::<bool>(), "[ab]{0,5}"), 0..60),
            walk in "[ab]{0,7}",
        ) {
            let mut trie = Trie::<usize>::default();
            let mut model = BTreeMap::new();
            let mut copies = Vec::new();
            for (at, (remove, key)) in steps.iter().enumerate() {
                if *remove {
                    prop_assert_eq!(trie.remove(key.as_bytes()), model.remove(key));
                } else {
                    trie.set(key.as_bytes(), at);
                    model.insert(key.clone(), at);
                }
                prop_assert_eq!(trie.get(walk.as_bytes()), model.get(&walk));
                copies.push((trie.clone(), model.clone()));
            }
            for (trie, model) in &copies {
                let mut met = Vec::new();
                trie.along(walk.as_bytes(), |&value| met.push(value));
                let expected: Vec<_> =
                    (0..=walk.len()).filter_map(|end| model.get(&walk[..end]).copied()).collect();
                prop_assert_eq!(met, expected);
                // A node without a value has at least two children, so there are less than twice as many as values.
                prop_assert!(nodes(&trie.root) <= 2 * model.len() + 1);
            }
            for key in model.keys() {
                trie.remove(key.as_bytes());
            }
            prop_assert!(trie.is_empty());
        }
    }
}
