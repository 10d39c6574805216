use batoff_delivery::{PathGap, PathPlace};
use batoff_types::message::Parents;
use batoff_types::{NodeName, Parent};
use tokio::sync::watch;

use crate::tracker::state::State;

/// Bytes of the reason that a node is told.
const WHY_BYTES_MAX: usize = 512;

impl State {
    /// What is said of the parents that the node's `Hello` names, from now on; `None` when it names none.
    pub(in crate::tracker) fn watch_parents(&mut self, node: &NodeName) -> Option<watch::Receiver<Parents>> {
        let parents = self.roster.parents_of(node)?;
        let now = said(self.roster.path_of(node)?);
        self.voices.0.retain(|_, voice| voice.receiver_count() > 0);
        let voice = self.voices.0.entry(parents).or_insert_with(|| watch::Sender::new(now.clone()));
        voice.send_if_modified(|said| std::mem::replace(said, now.clone()) != now);
        Some(voice.subscribe())
    }

    /// What is to be said of the node's parents now.
    pub(in crate::tracker) fn parents_now(&mut self, node: &NodeName) -> Option<Parents> {
        self.roster.path_of(node).map(said)
    }

    /// Tells what has changed since the last call.
    pub(in crate::tracker) fn tell_parents(&mut self) {
        while let Some((parents, place)) = self.roster.poll_path() {
            let Some(voice) = self.voices.0.get(&parents) else { continue };
            let said = said(place);
            if !said.why.is_empty() && voice.borrow().why != said.why {
                let names: Vec<String> = parents.iter().map(Parent::to_string).collect();
                tracing::warn!(
                    parents = names.join(", "),
                    why = said.why,
                    "nodes behind these parents store nothing that was ever purged"
                );
            }
            voice.send_if_modified(|before| std::mem::replace(before, said.clone()) != said);
        }
    }
}

fn said(place: PathPlace) -> Parents {
    let why: Vec<String> = place.gaps.iter().map(PathGap::to_string).collect();
    let mut why = why.join("; ");
    why.truncate(why.floor_char_boundary(WHY_BYTES_MAX));
    Parents { through: place.through, why }
}
