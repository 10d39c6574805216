//! All names ever registered and not forgotten, and what is known of each.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use batoff_delivery::Word;
use batoff_types::message::{Hello, IndexSize, LeasePolicy, OVERFLOWED_SITES_MAX, Overflowed, Trouble};
use batoff_types::{Cursor, InstanceId, Moment, NodeName, Parent, Seq, SiteId, UnixMillis};
use slab::Slab;

use super::mailbox::Mailbox;
use super::sent::SentTimes;
use super::status::TagOverflow;
use super::text::cut;

/// Caches in trouble that are remembered of one node; further ones are not shown.
const TROUBLES_MAX: usize = 32;

/// A number for a node, small and used again after the node is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::tracker) struct NodeIndex(u32);

#[cfg(test)]
impl NodeIndex {
    pub(in crate::tracker) const fn for_test(number: u32) -> Self {
        Self(number)
    }
}

/// A number for a PoP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::tracker) struct PopIndex(u32);

/// A set of nodes: a bit each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::tracker) struct NodeSet {
    words: Vec<u64>,
    len: usize,
}

impl NodeSet {
    pub(in crate::tracker) fn insert(&mut self, node: NodeIndex) {
        let (word, bit) = place(node);
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        if let Some(word) = self.words.get_mut(word)
            && *word & bit == 0
        {
            *word |= bit;
            self.len += 1;
        }
    }

    /// Whether it was in the set.
    pub(in crate::tracker) fn remove(&mut self, node: NodeIndex) -> bool {
        let (word, bit) = place(node);
        match self.words.get_mut(word) {
            Some(word) if *word & bit != 0 => {
                *word &= !bit;
                self.len -= 1;
                true
            }
            _ => false,
        }
    }

    pub(in crate::tracker) fn len(&self) -> usize {
        self.len
    }

    pub(in crate::tracker) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(in crate::tracker) fn iter(&self) -> impl Iterator<Item = NodeIndex> {
        self.words.iter().enumerate().flat_map(|(word, bits)| {
            (0..64)
                .filter(move |bit| bits & (1 << bit) != 0)
                .map(move |bit| NodeIndex(word as u32 * 64 + bit))
        })
    }
}

fn place(node: NodeIndex) -> (usize, u64) {
    ((node.0 / 64) as usize, 1 << (node.0 % 64))
}

/// What is known of a node beside the rules of delivery: what is durable about it, what it said of itself, and how to
/// reach it.
#[derive(Debug)]
pub(super) struct NodeEntry {
    pub(super) index: Option<NodeIndex>,
    pub(super) pop: PopIndex,
    pub(super) row: NodeRow,
    /// How far it had confirmed when it ceased to count. While it counts the roster alone knows, and this is `None`.
    pub(super) left_at: Option<Cursor>,
    pub(super) said: Option<Introduction>,
    pub(super) troubles: BTreeMap<String, OngoingTrouble>,
    /// What the last cache said that is well again, and when it was.
    pub(super) last_trouble: Option<(Arc<str>, Moment)>,
    /// Objects with too many tags that it has met, by site. Not durable: it tells them anew on each stream.
    pub(super) overflowed: BTreeMap<SiteId, Met>,
    pub(super) mailbox: Option<(u64, Mailbox)>,
    /// When records were handed to its stream: of the present one, or of the last.
    pub(super) sent: Option<Arc<SentTimes>>,
    pub(super) heard_at: Option<UnixMillis>,
    /// The last stream that it has numbered, and the run of its daemon.
    pub(super) stream: Option<(InstanceId, u64)>,
    /// How large its index was when it last said so. Not durable: it tells it anew on each stream.
    pub(super) index_size: Option<IndexSize>,
    /// When the certificate ends that it showed last.
    pub(super) certificate_until: Option<UnixMillis>,
}

/// Objects of a site with too many tags that a node has met since its daemon started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Met {
    objects: u64,
    last_at: UnixMillis,
}

impl Met {
    pub(super) fn add_to(&self, sum: &mut TagOverflow) {
        sum.objects = sum.objects.saturating_add(self.objects);
        sum.nodes += 1;
        sum.last_at = sum.last_at.max(Some(self.last_at));
    }
}

/// A cache that is in a node's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::tracker) struct OngoingTrouble {
    /// What it said.
    pub message: String,
    /// The record that waits behind it.
    pub stuck: Option<Seq>,
    /// Since when it has been in trouble, whatever it said first.
    pub since: UnixMillis,
}

/// The durable part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::tracker) struct NodeRow {
    pub registered: Seq,
    pub policy: Option<LeasePolicy>,
    /// What lies between it and the origins; `None` until it has said so.
    pub parents: Option<Vec<Parent>>,
    /// The record that removed it; while it is here the name is blocked.
    pub removed: Option<Seq>,
}

/// What a `Hello` says for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Introduction {
    pub version: String,
    pub caches: Vec<String>,
    pub semantics: u32,
}

/// May this name have a stream?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// It counts.
    Registered,
    /// Never heard of: to be registered by a record of the log.
    Unknown,
    /// Decommissioned; to be admitted by an operator first.
    Blocked,
}

/// All names ever registered and not forgotten.
#[derive(Debug, Default)]
pub(in crate::tracker) struct Roll {
    entries: BTreeMap<NodeName, NodeEntry>,
    /// By their indices.
    names: Slab<NodeName>,
    present: NodeSet,
    pops: HashMap<Arc<str>, PopIndex>,
    /// Rows that differ from what is durable.
    unsaved: Vec<NodeName>,
}

impl Roll {
    /// Takes over a durable row.
    pub(in crate::tracker) fn restore(&mut self, name: NodeName, row: NodeRow) {
        let pop = self.number_pop(&name);
        let index = row.removed.is_none().then(|| self.take_index(&name));
        let entry = NodeEntry {
            index,
            pop,
            left_at: None,
            said: None,
            troubles: BTreeMap::new(),
            last_trouble: None,
            overflowed: BTreeMap::new(),
            mailbox: None,
            sent: None,
            heard_at: None,
            stream: None,
            index_size: None,
            certificate_until: None,
            row,
        };
        self.entries.insert(name, entry);
    }

    /// A record registered the node. False when it was registered already, or the record is an old one.
    pub(in crate::tracker) fn handle_registered(&mut self, name: &NodeName, seq: Seq) -> bool {
        let known = self.entries.get(name).map(|entry| entry.row.clone());
        if known.as_ref().is_some_and(|row| row.removed.is_none_or(|removed| removed >= seq)) {
            return false;
        }
        if let Some(entry) = self.entries.get_mut(name).filter(|entry| entry.index.is_some()) {
            // Its removal had not taken effect and is called off: it never stopped counting, and what it has not
            // confirmed since its first registration still counts against it after a restart.
            entry.row.removed = None;
            self.unsaved.push(name.clone());
            return true;
        }
        let (policy, parents) = known.map(|row| (row.policy, row.parents)).unwrap_or_default();
        let row = NodeRow { registered: seq, policy, parents, removed: None };
        self.restore(name.clone(), row);
        self.unsaved.push(name.clone());
        true
    }

    /// A record removed the node. False when it was removed already, or the record is an old one.
    pub(in crate::tracker) fn handle_removed(&mut self, name: &NodeName, seq: Seq) -> bool {
        let Some(entry) = self.entries.get_mut(name) else { return false };
        if entry.row.removed.is_some() || entry.row.registered >= seq {
            return false;
        }
        entry.row.removed = Some(seq);
        self.unsaved.push(name.clone());
        true
    }

    /// The removal has taken effect: nothing waits for the node any more, which has confirmed so much.
    pub(in crate::tracker) fn handle_gone(
        &mut self,
        name: &NodeName,
        confirmed: Cursor,
    ) -> Option<NodeIndex> {
        self.entries.get_mut(name)?.left_at = Some(confirmed);
        self.release(name)
    }

    fn release(&mut self, name: &NodeName) -> Option<NodeIndex> {
        let entry = self.entries.get_mut(name)?;
        entry.mailbox = None;
        let index = entry.index.take()?;
        self.present.remove(index);
        self.names.try_remove(index.0 as usize);
        Some(index)
    }

    /// Lets a removed name register again. False when it is not blocked.
    pub(in crate::tracker) fn unblock(&mut self, name: &NodeName) -> bool {
        let blocked = self.entries.get(name).is_some_and(|entry| entry.row.removed.is_some());
        if blocked {
            self.release(name);
            self.entries.remove(name);
        }
        blocked
    }

    pub(in crate::tracker) fn membership(&self, name: &NodeName) -> Membership {
        match self.entries.get(name) {
            None => Membership::Unknown,
            Some(entry) if entry.row.removed.is_some() => Membership::Blocked,
            Some(_) => Membership::Registered,
        }
    }

    pub(super) fn get(&self, name: &NodeName) -> Option<&NodeEntry> {
        self.entries.get(name)
    }

    pub(super) fn get_mut(&mut self, name: &NodeName) -> Option<&mut NodeEntry> {
        self.entries.get_mut(name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&NodeName, &NodeEntry)> {
        self.entries.iter()
    }

    /// What is, or is to be, durable of the node.
    pub(in crate::tracker) fn row(&self, name: &NodeName) -> Option<&NodeRow> {
        self.entries.get(name).map(|entry| &entry.row)
    }

    pub(in crate::tracker) fn rows(&self) -> impl Iterator<Item = (&NodeName, &NodeRow)> {
        self.entries.iter().map(|(name, entry)| (name, &entry.row))
    }

    /// The nodes that have a stream, with the way to it.
    pub(in crate::tracker) fn streams(&self) -> Vec<(NodeName, Mailbox)> {
        let with_stream = |(name, entry): (&NodeName, &NodeEntry)| {
            entry.mailbox.as_ref().map(|(_, mailbox)| (name.clone(), mailbox.clone()))
        };
        self.entries.iter().filter_map(with_stream).collect()
    }

    /// How large the indexes are of the nodes that count, as far as they have said so.
    pub(in crate::tracker) fn index_sizes(&self) -> Vec<IndexSize> {
        self.entries
            .values()
            .filter(|entry| entry.index.is_some())
            .filter_map(|entry| entry.index_size)
            .collect()
    }

    /// The numbers of the node, which counts, and of its PoP.
    pub(in crate::tracker) fn present_as(&self, name: &NodeName) -> Option<(NodeIndex, PopIndex)> {
        let entry = self.entries.get(name)?;
        Some((entry.index?, entry.pop))
    }

    /// When records were handed to the node's stream.
    pub(in crate::tracker) fn sent_of(&self, name: &NodeName) -> Option<&Arc<SentTimes>> {
        self.entries.get(name)?.sent.as_ref()
    }

    /// Caches that are in the node's way, with what they said and the record that waits behind them.
    pub(in crate::tracker) fn troubles_of(
        &self,
        name: &NodeName,
    ) -> impl Iterator<Item = (&str, &OngoingTrouble)> {
        let troubles = self.entries.get(name).into_iter().flat_map(|entry| &entry.troubles);
        troubles.map(|(cache, trouble)| (cache.as_str(), trouble))
    }

    /// What a cache of the node said that is in its way, or was so at or after this moment.
    pub(in crate::tracker) fn trouble_since(&self, name: &NodeName, since: Moment) -> Option<Arc<str>> {
        let entry = self.entries.get(name)?;
        match entry.troubles.first_key_value() {
            Some((cache, trouble)) => Some(told(cache, &trouble.message)),
            None => entry
                .last_trouble
                .as_ref()
                .filter(|(_, over)| *over >= since)
                .map(|(said, _)| Arc::clone(said)),
        }
    }

    /// A cache is in the node's way, or no longer is. Whether that was news.
    pub(in crate::tracker) fn handle_trouble(
        &mut self,
        now: Moment,
        wall: UnixMillis,
        name: &NodeName,
        trouble: &Trouble,
    ) -> bool {
        self.entries.get_mut(name).is_some_and(|entry| entry.handle_trouble(now, wall, trouble))
    }

    /// The node has met objects with too many tags.
    pub(in crate::tracker) fn handle_overflowed(
        &mut self,
        name: &NodeName,
        wall: UnixMillis,
        news: &[Overflowed],
    ) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.handle_overflowed(wall, news);
        }
    }

    /// The nodes that a record written now waits for.
    pub(in crate::tracker) fn present(&self) -> &NodeSet {
        &self.present
    }

    pub(in crate::tracker) fn node(&self, node: NodeIndex) -> Option<&NodeName> {
        self.names.get(node.0 as usize)
    }

    pub(in crate::tracker) fn name_of(&self, node: NodeIndex) -> Option<Arc<str>> {
        self.names.get(node.0 as usize).map(|name| name.to_string().into())
    }

    pub(in crate::tracker) fn pop(&self, name: &str) -> Option<PopIndex> {
        self.pops.get(name).copied()
    }

    /// Rows to be made durable; `None` for a row that is to be deleted.
    pub(in crate::tracker) fn take_unsaved(&mut self) -> Vec<(NodeName, Option<NodeRow>)> {
        let mut names = std::mem::take(&mut self.unsaved);
        names.sort_unstable();
        names.dedup();
        names
            .into_iter()
            .map(|name| (name.clone(), self.entries.get(&name).map(|entry| entry.row.clone())))
            .collect()
    }

    /// The row could not be made durable, or has changed.
    pub(in crate::tracker) fn mark_unsaved(&mut self, name: NodeName) {
        self.unsaved.push(name);
    }

    fn number_pop(&mut self, name: &NodeName) -> PopIndex {
        let next = PopIndex(u32::try_from(self.pops.len()).unwrap_or(u32::MAX));
        *self.pops.entry(name.pop().into()).or_insert(next)
    }

    fn take_index(&mut self, name: &NodeName) -> NodeIndex {
        if let Some(index) = self.entries.get(name).and_then(|entry| entry.index) {
            return index;
        }
        let index = NodeIndex(u32::try_from(self.names.insert(name.clone())).unwrap_or(u32::MAX));
        self.present.insert(index);
        index
    }
}

/// Bytes of what a cache said that are kept with a task.
const TOLD_BYTES_MAX: usize = 160;

fn told(cache: &str, message: &str) -> Arc<str> {
    let mut told = format!("{cache}: {message}");
    told.truncate(told.floor_char_boundary(TOLD_BYTES_MAX));
    told.into()
}

impl NodeRow {
    /// What the node itself said, once it has said all of it.
    pub(in crate::tracker) fn word(&self) -> Option<Word> {
        let (policy, parents) = self.policy.zip(self.parents.clone())?;
        Some(Word { policy, parents })
    }
}

impl NodeEntry {
    pub(super) fn handle_hello(&mut self, hello: &Hello) {
        self.row.policy = Some(hello.policy);
        self.row.parents = Some(hello.parents.clone());
        self.troubles.clear();
        // Told anew, by this incarnation or the next.
        self.overflowed.clear();
        self.index_size = None;
        self.said = Some(Introduction {
            version: cut(&hello.version).to_owned(),
            caches: hello.caches.iter().take(TROUBLES_MAX).map(|name| cut(name).to_owned()).collect(),
            semantics: hello.semantics,
        });
    }

    /// Figures that replace those that were told before. Of a node that tells of more sites than it may, the first count.
    fn handle_overflowed(&mut self, wall: UnixMillis, news: &[Overflowed]) {
        for Overflowed { site, objects, since } in news {
            let ago = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
            let met = Met { objects: *objects, last_at: UnixMillis(wall.0.saturating_sub(ago)) };
            if let Some(known) = self.overflowed.get_mut(site) {
                *known = met;
            } else if self.overflowed.len() < OVERFLOWED_SITES_MAX {
                self.overflowed.insert(site.clone(), met);
            }
        }
    }

    /// Whether that was news.
    fn handle_trouble(&mut self, now: Moment, wall: UnixMillis, trouble: &Trouble) -> bool {
        let cache = cut(&trouble.cache);
        if trouble.message.is_empty() {
            let Some(over) = self.troubles.remove(cache) else { return false };
            self.last_trouble = Some((told(cache, &over.message), now));
            return true;
        }
        if self.troubles.len() >= TROUBLES_MAX && !self.troubles.contains_key(cache) {
            return false;
        }
        let message = cut(&trouble.message).to_owned();
        match self.troubles.get_mut(cache) {
            Some(known) => {
                known.stuck = trouble.stuck;
                let is_news = known.message != message;
                known.message = message;
                is_news
            }
            None => {
                let trouble = OngoingTrouble { message, stuck: trouble.stuck, since: wall };
                self.troubles.insert(cache.to_owned(), trouble);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> NodeName {
        text.parse().unwrap()
    }

    fn seq(number: u64) -> Seq {
        Seq::new(number).unwrap()
    }

    #[test]
    fn a_removed_name_is_blocked_until_it_is_let_in_again() {
        let (mut roll, node) = (Roll::default(), name("fra1/edge-1"));
        assert_eq!(roll.membership(&node), Membership::Unknown);
        assert!(roll.handle_registered(&node, seq(1)));
        assert!(!roll.handle_registered(&node, seq(2)));
        assert_eq!(roll.membership(&node), Membership::Registered);
        assert!(roll.handle_removed(&node, seq(3)));
        assert_eq!(roll.membership(&node), Membership::Blocked);
        assert!(roll.handle_gone(&node, Cursor::after(seq(2))).is_some());
        assert!(roll.present().is_empty());
        assert!(roll.unblock(&node));
        assert_eq!(roll.membership(&node), Membership::Unknown);
        assert!(roll.handle_registered(&node, seq(9)));
    }

    #[test]
    fn records_read_twice_change_nothing_the_second_time() {
        let (mut roll, node) = (Roll::default(), name("fra1/edge-1"));
        roll.restore(
            node.clone(),
            NodeRow { registered: seq(5), policy: None, parents: None, removed: None },
        );
        assert!(!roll.handle_registered(&node, seq(5)));
        assert!(!roll.handle_removed(&node, seq(4)));
        assert!(roll.handle_removed(&node, seq(6)));
        assert!(!roll.handle_registered(&node, seq(5)));
        assert_eq!(roll.take_unsaved().len(), 1);
    }

    #[test]
    fn a_set_of_nodes_counts_each_once() {
        let mut set = NodeSet::default();
        for index in [3, 64, 3, 200] {
            set.insert(NodeIndex(index));
        }
        assert_eq!(
            (set.len(), set.iter().collect::<Vec<_>>()),
            (3, vec![NodeIndex(3), NodeIndex(64), NodeIndex(200)])
        );
        assert!(set.remove(NodeIndex(64)) && !set.remove(NodeIndex(64)) && !set.remove(NodeIndex(9_999)));
        assert_eq!(set.len(), 2);
    }
}
