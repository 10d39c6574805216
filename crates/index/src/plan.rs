use batoff_types::{Body, HostPattern, Record, SEMANTICS_VERSION, Selector, SiteChange, SiteId, SiteTable};

use crate::Place;

/// What a record does to an index, worked out before any lock is taken.
pub(crate) struct Plan {
    /// Where it leaves rules, each place once.
    pub(crate) places: Vec<Place>,
    /// Of which strength.
    pub(crate) soft: bool,
    /// Who owns what from then on, if that changes.
    pub(crate) sites: Option<SiteTable>,
}

impl Plan {
    /// `late`: the record lies before what was applied. Its rules can be written again at any time; its change of the
    /// site table has been made, and perhaps been changed since. `ports`: keys here have them.
    pub(crate) fn of(record: &Record, sites: &SiteTable, late: bool, ports: bool) -> Self {
        let foreign = record.semantics > SEMANTICS_VERSION;
        let mut plan = match &record.body {
            // Whatever a later version means by its purges: wider, never narrower.
            Body::Purge(purge) if foreign => Self::hard(vec![Place::Site(purge.site.clone())]),
            Body::Purge(purge) => Self {
                places: purge.selectors.iter().flat_map(|it| places(&purge.site, it, ports)).collect(),
                soft: purge.soft,
                sites: None,
            },
            Body::Site(change) => {
                let mut names = change.affected.clone();
                let mut after = None;
                if !late {
                    names.extend(changed_names(change, sites));
                    after = Some(sites.clone());
                    after.iter_mut().for_each(|table| table.apply(change));
                }
                let mut places: Vec<_> = names.into_iter().map(Place::Host).collect();
                if foreign {
                    places.push(Place::Site(change.site.clone()));
                }
                Self { sites: after, ..Self::hard(places) }
            }
            Body::NodeRegistered(_) | Body::NodeRemoved(_) | Body::ReplicaSet(_) => Self::hard(Vec::new()),
            Body::Unknown => Self::hard(vec![Place::Whole]),
        };
        plan.places.sort_unstable();
        plan.places.dedup();
        plan
    }

    fn hard(places: Vec<Place>) -> Self {
        Self { places, soft: false, sites: None }
    }
}

fn places(site: &SiteId, selector: &Selector, ports: bool) -> impl Iterator<Item = Place> + use<> {
    // Where keys have none, both: whoever keeps rules of its own beside the index may have them.
    Place::all_of(site, selector).flat_map(move |place| {
        let without = if ports { None } else { Some(place.clone().without_port()) };
        std::iter::once(place).chain(without)
    })
}

/// The names whose claimant changes, whether or not the record lists them as affected. That an object keeps its owner
/// until a hard rule hits it is what makes it right to ask at evaluation whose it is, so it is not left to trust.
fn changed_names(change: &SiteChange, sites: &SiteTable) -> Vec<HostPattern> {
    let before = sites.hostnames(change.site.as_str()).unwrap_or_default();
    let after = change.hostnames.as_deref().unwrap_or_default();
    let lost = before.iter().filter(|name| !after.contains(name));
    let won = after.iter().filter(|name| !before.contains(name));
    lost.chain(won).cloned().collect()
}
