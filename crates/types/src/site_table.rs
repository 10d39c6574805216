//! Whose a hostname is, at each place in the log.

use std::collections::{BTreeMap, HashMap};

use crate::{HostPattern, Hostname, SiteChange, SiteId, TAGS_PER_RESPONSE_LIMIT, TAGS_PER_RESPONSE_MAX};

/// Asked at hits, for each part of a hostname: the standard library's hash would take most of that time. Keyed at random,
/// so that nobody outside can choose names that meet.
type Names = HashMap<Hostname, SiteId, foldhash::quality::RandomState>;

/// Whose a hostname is, and what nodes must know of its site: the most specific name wins (an exact name over a wildcard, a longer wildcard over a shorter).
///
/// Built from the purge log's own records, so control plane and nodes agree at every place in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SiteTable {
    exact: Names,
    under: Names,
    sites: BTreeMap<SiteId, Site>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Site {
    hostnames: Vec<HostPattern>,
    tags_per_response: Option<u32>,
}

impl SiteTable {
    /// The site that owns `host`.
    pub fn owner(&self, host: &str) -> Option<&SiteId> {
        if let Some(site) = self.exact.get(host) {
            return Some(site);
        }
        let mut rest = host;
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(site) = self.under.get(parent) {
                return Some(site);
            }
            rest = parent;
        }
        None
    }

    /// The names a site owns, if the site exists.
    pub fn hostnames(&self, site: &str) -> Option<&[HostPattern]> {
        self.sites.get(site).map(|site| site.hostnames.as_slice())
    }

    /// All sites with their names, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&SiteId, &[HostPattern])> {
        self.sites.iter().map(|(id, site)| (id, site.hostnames.as_slice()))
    }

    /// How many tags of a response are indexed, if the site has set it.
    pub fn tags_per_response(&self, site: &str) -> Option<u32> {
        self.sites.get(site)?.tags_per_response
    }

    /// How many tags of a response under that hostname are indexed: what its site has set, at most
    /// [`TAGS_PER_RESPONSE_LIMIT`], or else [`TAGS_PER_RESPONSE_MAX`].
    pub fn tags_max(&self, host: &str) -> usize {
        let set = self.owner(host).and_then(|site| self.tags_per_response(site.as_str()));
        set.map_or(TAGS_PER_RESPONSE_MAX, |most| (most as usize).min(TAGS_PER_RESPONSE_LIMIT))
    }

    /// Sets how many tags of a response are indexed for a site that exists; `None`: the default.
    pub fn set_tags_per_response(&mut self, site: &str, most: Option<u32>) {
        if let Some(site) = self.sites.get_mut(site) {
            site.tags_per_response = most;
        }
    }

    /// The site that claims exactly this pattern.
    pub fn claimant(&self, pattern: &HostPattern) -> Option<&SiteId> {
        match pattern {
            HostPattern::Exact(name) => self.exact.get(name),
            HostPattern::Under(name) => self.under.get(name),
        }
    }

    /// Takes over a change. A name that another site still claims moves to this one.
    pub fn apply(&mut self, change: &SiteChange) {
        self.set(&change.site, change.hostnames.as_deref());
        self.set_tags_per_response(change.site.as_str(), change.limits.tags_per_response);
    }

    /// Sets a site's names, with the default of everything else, or removes the site.
    pub fn set(&mut self, site: &SiteId, hostnames: Option<&[HostPattern]>) {
        for name in self.sites.remove(site).unwrap_or_default().hostnames {
            let (map, key) = self.map(&name);
            map.remove(key);
        }
        let Some(hostnames) = hostnames else { return };
        let mut owned = Vec::with_capacity(hostnames.len());
        for name in hostnames {
            let previous = {
                let (map, key) = self.map(name);
                map.insert(key.clone(), site.clone())
            };
            match previous {
                // Said twice: its own claims were dropped above.
                Some(other) if other == *site => continue,
                Some(other) => {
                    if let Some(other) = self.sites.get_mut(&other) {
                        other.hostnames.retain(|claimed| claimed != name);
                    }
                }
                None => {}
            }
            owned.push(name.clone());
        }
        self.sites.insert(site.clone(), Site { hostnames: owned, tags_per_response: None });
    }

    fn map<'a>(&mut self, pattern: &'a HostPattern) -> (&mut Names, &'a Hostname) {
        match pattern {
            HostPattern::Exact(name) => (&mut self.exact, name),
            HostPattern::Under(name) => (&mut self.under, name),
        }
    }
}
