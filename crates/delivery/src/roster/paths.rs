//! How far the nodes between a node and the origins are: the bound of its fill tokens.
//!
//! A node passes on what its parents answer, and they what theirs do; so everything that is reached by going from parent
//! to parent counts, and a ring of nodes that name each other simply counts as a whole. Nodes that name the same parents
//! share one *path*, and a thousand of them cost what one does: a look at each node of the path when one of those gets on.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use batoff_types::{Cursor, NodeName, Parent};

use super::Roster;
use super::node::{Node, Safe};
use crate::rules::Rule;

/// Reasons kept with a path, at most; one is enough for it to count as nowhere.
const GAPS_MAX: usize = 8;

/// What lies between a node and the origins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Behind {
    /// It has not said so to this control plane, nor to an earlier one that could remember it.
    #[default]
    Unknown,
    /// Nothing.
    Origins,
    /// The nodes of this path.
    Path(Arc<[Parent]>),
}

impl Behind {
    pub(super) fn of(parents: &[Parent]) -> Self {
        if parents.is_empty() {
            return Self::Origins;
        }
        let mut parents = parents.to_vec();
        parents.sort();
        parents.dedup();
        Self::Path(parents.into())
    }
}

/// Why nothing is known of a path, so that it counts as nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathGap {
    /// No node of this name is registered, or it is being removed.
    Unregistered(NodeName),
    /// No node is registered in this PoP.
    EmptyPop(Arc<str>),
    /// It has not acknowledged anything in this log yet.
    NeverConfirmed(NodeName),
    /// It has not said what lies between it and the origins.
    Unsaid(NodeName),
}

impl std::fmt::Display for PathGap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unregistered(node) => write!(f, "{node} is not registered"),
            Self::EmptyPop(pop) => write!(f, "no node is registered in {pop}"),
            Self::NeverConfirmed(node) => write!(f, "{node} has not confirmed anything yet"),
            Self::Unsaid(node) => write!(f, "{node} has not said what lies behind it"),
        }
    }
}

/// Where a path is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathPlace {
    /// Through here none of its nodes can serve anything that was purged; [`Cursor::START`] when that is not known.
    pub through: Cursor,
    /// Why it is not known; empty when it is.
    pub gaps: Vec<PathGap>,
}

/// All paths that some node names.
#[derive(Debug, Default)]
pub(super) struct Paths {
    by_parents: HashMap<Arc<[Parent]>, Path>,
    /// Nodes have come or gone, or name other parents.
    is_redrawn: bool,
    /// The paths that may be elsewhere than they were.
    moved: Vec<Arc<[Parent]>>,
    /// Those that are, until it is told.
    news: Vec<Arc<[Parent]>>,
}

#[derive(Debug, Default)]
struct Path {
    /// How many nodes name it.
    users: usize,
    /// The nodes on it, by their place in the roster.
    nodes: Vec<usize>,
    gaps: Vec<PathGap>,
    /// No node on it has a lease, or each is ahead of this control plane, so it goes with the tail.
    is_fenced: bool,
    place: PathPlace,
}

impl Paths {
    /// A node on these paths is elsewhere.
    pub(super) fn handle_moved(&mut self, paths: &[Arc<[Parent]>]) {
        for parents in paths {
            if !self.moved.contains(parents) {
                self.moved.push(Arc::clone(parents));
            }
        }
    }
}

impl Roster {
    /// How far the nodes between `node` and the origins are; `None` when there are none, or it is not known.
    pub fn path_of(&mut self, node: &NodeName) -> Option<PathPlace> {
        let parents = self.parents_of(node)?;
        self.move_paths();
        self.paths.by_parents.get(&parents).map(|path| path.place.clone())
    }

    /// The parents that `node` names, sorted; `None` when it names none, or has not said so.
    pub fn parents_of(&self, node: &NodeName) -> Option<Arc<[Parent]>> {
        match &self.nodes.get(*self.by_name.get(node)?)?.as_ref()?.behind {
            Behind::Path(parents) => Some(Arc::clone(parents)),
            Behind::Unknown | Behind::Origins => None,
        }
    }

    /// The next path that is elsewhere than this last said, with the parents that make it up; those who name them are to
    /// be told at once. To be asked after every other call, until there is none.
    pub fn poll_path(&mut self) -> Option<(Arc<[Parent]>, PathPlace)> {
        self.move_paths();
        while let Some(parents) = self.paths.news.pop() {
            // Nobody names it any more, otherwise.
            if let Some(path) = self.paths.by_parents.get(&parents) {
                return Some((parents, path.place.clone()));
            }
        }
        None
    }

    /// Brings all paths up to date.
    fn move_paths(&mut self) {
        self.draw_paths();
        while let Some(parents) = self.paths.moved.pop() {
            if self.move_path(&parents) && !self.paths.news.contains(&parents) {
                self.paths.news.push(parents);
            }
        }
    }

    /// A node has said what lies behind it, or is gone.
    pub(super) fn set_behind(&mut self, index: usize, behind: Behind) {
        let Some(node) = self.nodes.get_mut(index).and_then(Option::as_mut) else { return };
        if node.behind == behind {
            return;
        }
        let before = std::mem::replace(&mut node.behind, behind.clone());
        if !node.on_paths.is_empty() {
            self.paths.is_redrawn = true;
        }
        if let Behind::Path(parents) = behind {
            self.paths.is_redrawn |= !self.paths.by_parents.contains_key(&parents);
            self.paths.by_parents.entry(parents).or_default().users += 1;
        }
        if let Behind::Path(parents) = before
            && let Some(path) = self.paths.by_parents.get_mut(&parents)
        {
            path.users -= 1;
            if path.users == 0 {
                self.paths.by_parents.remove(&parents);
                self.paths.is_redrawn = true;
            }
        }
    }

    /// Nodes have come or gone.
    pub(super) fn redraw_paths(&mut self) {
        self.paths.is_redrawn = true;
    }

    /// There are more records: what goes with the tail moves.
    pub(super) fn carry_fenced_paths(&mut self) {
        let fenced = self.paths.by_parents.iter().filter(|(_, path)| path.is_fenced);
        self.paths.moved.extend(fenced.map(|(parents, _)| Arc::clone(parents)));
    }

    /// Finds out anew which nodes lie on which path.
    fn draw_paths(&mut self) {
        if !std::mem::take(&mut self.paths.is_redrawn) || self.paths.by_parents.is_empty() {
            return;
        }
        let mut pops = BTreeMap::<&str, Vec<usize>>::new();
        for (index, node) in self.nodes.iter().enumerate() {
            if let Some(node) = node {
                pops.entry(node.name.pop()).or_default().push(index);
            }
        }
        let drawn: Vec<_> = self.paths.by_parents.keys().map(|parents| self.draw(parents, &pops)).collect();
        for node in self.nodes.iter_mut().flatten() {
            node.on_paths.clear();
        }
        let Self { nodes, paths, .. } = self;
        paths.moved = paths.by_parents.keys().cloned().collect();
        for ((parents, path), (reached, gaps)) in paths.by_parents.iter_mut().zip(drawn) {
            for index in &reached {
                if let Some(node) = nodes.get_mut(*index).and_then(Option::as_mut) {
                    node.on_paths.push(Arc::clone(parents));
                }
            }
            (path.nodes, path.gaps) = (reached, gaps);
        }
    }

    /// The nodes that are reached by going from parent to parent, and what is not known about that.
    fn draw(&self, parents: &[Parent], pops: &BTreeMap<&str, Vec<usize>>) -> (Vec<usize>, Vec<PathGap>) {
        let (mut seen, mut gaps) = (HashSet::new(), Vec::new());
        let mut reached = Vec::new();
        let mut named: Vec<&Parent> = parents.iter().collect();
        let deep = self.rules.in_force(Rule::WholePath);
        while let Some(parent) = named.pop() {
            let members: &[usize] = match parent {
                Parent::Node(name) => match self.by_name.get(name) {
                    Some(index) => std::slice::from_ref(index),
                    None => {
                        gaps.push(PathGap::Unregistered(name.clone()));
                        continue;
                    }
                },
                Parent::Pop(pop) => match pops.get(&**pop) {
                    Some(members) => members,
                    None => {
                        gaps.push(PathGap::EmptyPop(Arc::clone(pop)));
                        continue;
                    }
                },
            };
            for &index in members {
                let Some(node) = self.nodes.get(index).and_then(Option::as_ref) else { continue };
                if !seen.insert(index) {
                    continue;
                }
                reached.push(index);
                match &node.behind {
                    Behind::Origins => {}
                    Behind::Unknown => gaps.push(PathGap::Unsaid(node.name.clone())),
                    Behind::Path(further) if deep => named.extend(further.iter()),
                    Behind::Path(_) => {}
                }
            }
        }
        gaps.truncate(GAPS_MAX);
        (reached, gaps)
    }

    /// Brings a path up to date. True: it is elsewhere now.
    fn move_path(&mut self, parents: &Arc<[Parent]>) -> bool {
        let tail = self.durable.tail();
        let Some(path) = self.paths.by_parents.get_mut(parents) else { return false };
        let mut place = PathPlace { through: tail, gaps: path.gaps.clone() };
        path.is_fenced = true;
        for node in path.nodes.iter().filter_map(|index| self.nodes.get(*index)?.as_ref()) {
            if place.gaps.len() < GAPS_MAX {
                place.gaps.extend(node.path_gap());
            }
            if let Safe::At(cursor) = node.place_on_path() {
                path.is_fenced &= cursor > tail;
                place.through = place.through.min(cursor);
            }
        }
        if !place.gaps.is_empty() {
            path.is_fenced = false;
            place.through = Cursor::START;
        }
        let moved = path.place != place;
        path.place = place;
        moved
    }
}

impl Node {
    /// Through where it serves nothing that was purged, as a parent: as in the watermark, but a node that has only been
    /// registered, and never acknowledged, may hold anything.
    pub(super) fn place_on_path(&self) -> Safe {
        if self.acked < self.registered { Safe::At(self.acked) } else { self.safe() }
    }

    fn path_gap(&self) -> Option<PathGap> {
        if self.removal.is_some() {
            Some(PathGap::Unregistered(self.name.clone()))
        } else if self.acked == Cursor::START {
            Some(PathGap::NeverConfirmed(self.name.clone()))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests;
