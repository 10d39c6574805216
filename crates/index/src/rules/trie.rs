/// A byte-wise radix trie: the purged prefixes. A walk along a URL meets every purged prefix of it, and costs no more
/// than the URL's length, however many prefixes there are.
#[derive(Debug)]
pub(crate) struct Trie<T> {
    root: Node<T>,
}

#[derive(Debug)]
struct Node<T> {
    /// The bytes from the parent to here; empty only at the root.
    label: Box<[u8]>,
    value: Option<T>,
    /// Sorted by their labels' first bytes, which differ.
    children: Vec<Node<T>>,
}

impl<T> Default for Trie<T> {
    fn default() -> Self {
        Self { root: Node::new(&[], None) }
    }
}

impl<T> Trie<T> {
    /// The value at `key`, made if there is none.
    pub(crate) fn get_or_default(&mut self, key: &[u8]) -> &mut T
    where
        T: Default,
    {
        let mut node = &mut self.root;
        let mut rest = key;
        while let Some(&first) = rest.first() {
            let at = match node.child(first) {
                Ok(at) => at,
                Err(at) => {
                    node.children.insert(at, Node::new(rest, None));
                    at
                }
            };
            node = &mut node.children[at];
            let common = common(&node.label, rest);
            if common < node.label.len() {
                node.split(common);
            }
            rest = &rest[common..];
        }
        node.value.get_or_insert_with(T::default)
    }

    /// The value at `key`.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&T> {
        let mut node = &self.root;
        let mut rest = key;
        while let Some(&first) = rest.first() {
            node = &node.children[node.child(first).ok()?];
            rest = rest.strip_prefix(&*node.label)?;
        }
        node.value.as_ref()
    }

    /// Every value whose key is a prefix of `key`, the shortest first.
    pub(crate) fn along<'a>(&'a self, key: &[u8], mut found: impl FnMut(&'a T)) {
        let mut node = &self.root;
        let mut rest = key;
        loop {
            if let Some(value) = &node.value {
                found(value);
            }
            let Some(&first) = rest.first() else { return };
            let Ok(at) = node.child(first) else { return };
            node = &node.children[at];
            let Some(beyond) = rest.strip_prefix(&*node.label) else { return };
            rest = beyond;
        }
    }

    /// Takes the value at `key` away, with the nodes that only led there.
    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<T> {
        self.root.remove(key)
    }
}

impl<T> Node<T> {
    fn new(label: &[u8], value: Option<T>) -> Self {
        Self { label: label.into(), value, children: Vec::new() }
    }

    fn child(&self, first: u8) -> Result<usize, usize> {
        self.children.binary_search_by_key(&first, |child| child.label[0])
    }

    /// Cuts the label, so that a node stands after its first `at` bytes.
    fn split(&mut self, at: usize) {
        let lower = Self {
            label: self.label[at..].into(),
            value: self.value.take(),
            children: std::mem::take(&mut self.children),
        };
        self.label = self.label[..at].into();
        self.children.push(lower);
    }

    fn remove(&mut self, rest: &[u8]) -> Option<T> {
        let Some(&first) = rest.first() else { return self.value.take() };
        let at = self.child(first).ok()?;
        let child = &mut self.children[at];
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
        if let Some(only) = self.children.pop() {
            self.label = [&*self.label, &*only.label].concat().into();
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
        1 + node.children.iter().map(nodes).sum::<usize>()
    }

    proptest! {
        #[test]
        fn a_walk_meets_exactly_the_prefixes_and_removal_leaves_no_trace(
            steps in proptest::collection::vec((any::<bool>(), "[ab]{0,5}"), 0..60),
            walk in "[ab]{0,7}",
        ) {
            let mut trie = Trie::<usize>::default();
            let mut model = BTreeMap::new();
            for (at, (remove, key)) in steps.iter().enumerate() {
                if *remove {
                    prop_assert_eq!(trie.remove(key.as_bytes()), model.remove(key));
                } else {
                    *trie.get_or_default(key.as_bytes()) = at;
                    model.insert(key.clone(), at);
                }
                prop_assert_eq!(trie.get(walk.as_bytes()), model.get(&walk));
            }
            let mut met = Vec::new();
            trie.along(walk.as_bytes(), |&value| met.push(value));
            let expected: Vec<_> =
                (0..=walk.len()).filter_map(|end| model.get(&walk[..end]).copied()).collect();
            prop_assert_eq!(met, expected);
            // A node without a value has at least two children, so there are less than twice as many as values.
            prop_assert!(nodes(&trie.root) <= 2 * model.len() + 1);
            for key in model.keys() {
                trie.remove(key.as_bytes());
            }
            prop_assert_eq!(nodes(&trie.root), 1);
        }
    }
}
