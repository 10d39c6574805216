//! Which generations a group of records sets anew.

use std::collections::BTreeSet;
use std::sync::Arc;

use batoff_types::{Body, HostPattern, Record, Selector, SiteId, SiteTable};

/// The maps, in the order of `haproxy.cfg`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Map {
    /// One entry, `all`.
    All,
    /// By hostname.
    Host,
    /// By the end of the hostname.
    Zone,
    /// By the beginning of host and target.
    Prefix,
    /// By host and target.
    Url,
    /// The hostnames of sites. Not a generation, as what follows.
    Owned,
    /// What hostnames of sites end with.
    OwnedUnder,
    /// One entry, `id`: the name under which this daemon knows the process.
    Process,
    /// Until when it may serve, by that name.
    Lease,
}

impl Map {
    /// Those of generations.
    pub(super) const EVERY: [Self; 5] = [Self::All, Self::Host, Self::Zone, Self::Prefix, Self::Url];
    /// Those that say what is stored.
    pub(super) const OWNED: [Self; 2] = [Self::Owned, Self::OwnedUnder];

    /// The name of its file.
    pub(super) const fn file(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Host => "host",
            Self::Zone => "zone",
            Self::Prefix => "prefix",
            Self::Url => "url",
            Self::Owned => "owned",
            Self::OwnedUnder => "owned-under",
            Self::Process => "process",
            Self::Lease => "lease",
        }
    }
}

/// Entries that need a new value.
pub(super) type Bumps = BTreeSet<(Map, String)>;

/// The key of the only entry of [`Map::All`].
pub(super) const ALL: &str = "all";

/// What covers everything.
pub(super) fn everything() -> (Map, String) {
    (Map::All, ALL.to_owned())
}

/// What `records` set anew. HAProxy knows nothing of tags: such a purge takes everything of its site.
pub(super) fn of(records: &[Arc<Record>], hostnames: impl Fn(&SiteId) -> BTreeSet<HostPattern>) -> Bumps {
    let mut bumps = Bumps::new();
    for record in records {
        match &record.body {
            Body::Purge(purge) => {
                for selector in &purge.selectors {
                    let (map, key) = match selector {
                        Selector::Url(url) => (Map::Url, url.key()),
                        Selector::Prefix(prefix) => (Map::Prefix, prefix.key()),
                        Selector::Host(host) => (Map::Host, host.as_str()),
                        Selector::Everything | Selector::Tag(_) => {
                            bumps.extend(hostnames(&purge.site).iter().map(name));
                            continue;
                        }
                    };
                    bumps.insert((map, key.to_owned()));
                }
            }
            Body::Site(change) => bumps.extend(change.affected.iter().map(name)),
            Body::Unknown => bumps.extend([everything()]),
            Body::NodeRegistered(_) | Body::NodeRemoved(_) | Body::ReplicaSet(_) => {}
        }
    }
    bumps
}

/// With the entries that HAProxy would find in place of one of `bumps`: it takes the longest prefix, and the first
/// ending. `known` is what the map holds.
pub(super) fn with_hidden(bumps: &mut Bumps, map: Map, known: &[String]) {
    let wanted: Vec<_> = bumps.iter().filter(|(of, _)| *of == map).map(|(_, key)| key.clone()).collect();
    for entry in known {
        let hides = |key: &String| match map {
            Map::Prefix => entry.starts_with(key.as_str()),
            Map::Zone => entry.ends_with(key.as_str()) || key.ends_with(entry.as_str()),
            _ => false,
        };
        if wanted.iter().any(hides) {
            bumps.insert((map, entry.clone()));
        }
    }
}

/// The names of all sites.
pub(super) fn owned(sites: &SiteTable) -> BTreeSet<(Map, String)> {
    let names = sites.iter().flat_map(|(_, names)| names);
    let entry = |name: &HostPattern| match name {
        HostPattern::Exact(host) => (Map::Owned, host.as_str().to_owned()),
        HostPattern::Under(parent) => (Map::OwnedUnder, format!(".{parent}")),
    };
    names.map(entry).collect()
}

fn name(pattern: &HostPattern) -> (Map, String) {
    match pattern {
        HostPattern::Exact(host) => (Map::Host, host.as_str().to_owned()),
        HostPattern::Under(parent) => (Map::Zone, format!(".{parent}")),
    }
}

#[cfg(test)]
mod tests {
    use batoff_types::{Purge, Seq, TaskId, UnixMillis};

    use super::*;

    #[test]
    fn each_selector_has_its_map() {
        let selectors = vec![
            Selector::Url("https://a.example/x?y".parse().unwrap()),
            Selector::Prefix("https://a.example/p".parse().unwrap()),
            Selector::Host("b.example".parse().unwrap()),
            Selector::Tag("red".parse().unwrap()),
        ];
        let body = Body::Purge(Purge { site: "mine".parse().unwrap(), selectors, soft: false });
        let (seq, task) = (Seq::new(1).unwrap(), TaskId::from_bytes([1; 16]));
        let record = Record {
            seq,
            accepted_at: UnixMillis(0),
            task,
            request_id: "r".into(),
            semantics: 1,
            trace: None,
            body,
        };
        let names =
            |_: &SiteId| BTreeSet::from(["c.example".parse().unwrap(), "*.d.example".parse().unwrap()]);
        let bumps: Vec<_> = of(&[Arc::new(record)], names).into_iter().collect();
        let expected = [
            (Map::Host, "b.example"),
            (Map::Host, "c.example"),
            (Map::Zone, ".d.example"),
            (Map::Prefix, "a.example/p"),
            (Map::Url, "a.example/x?y"),
        ];
        assert_eq!(bumps, expected.map(|(map, key)| (map, key.to_owned())));
    }

    #[test]
    fn an_entry_that_hides_another_is_set_with_it() {
        let keys = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
        let mut bumps = Bumps::from([(Map::Prefix, "a/p".to_owned())]);
        with_hidden(&mut bumps, Map::Prefix, &keys(&["a/", "a/p", "a/pq", "a/q"]));
        assert_eq!(bumps, Bumps::from([(Map::Prefix, "a/p".to_owned()), (Map::Prefix, "a/pq".to_owned())]));
        let mut bumps = Bumps::from([(Map::Zone, ".b.c".to_owned())]);
        with_hidden(&mut bumps, Map::Zone, &keys(&[".c", ".a.b.c", ".d"]));
        assert_eq!(bumps.len(), 3, "{bumps:?}");
    }
}
