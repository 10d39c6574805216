use batoff_types::{HostPattern, Hostname, SiteId, SiteTable};

use crate::Place;
use crate::place::host_of;
use crate::store::{Key, Store};

/// Hosts looked at in one step of a walk over many: bounds a step where few of them are wanted.
const HOSTS_PER_STEP: usize = 256;

/// What a walk comes across.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) key: Key,
    /// One object, or all under the URL.
    pub(crate) id: Option<u64>,
}

/// A walk over the objects that lie in a place, in steps that hold no lock between them.
///
/// It meets every object that was there when it began and still is when its turn comes, and each one once. What comes
/// meanwhile it may meet or not.
#[derive(Debug)]
pub(crate) struct Walk {
    place: Place,
    at: At,
}

#[derive(Debug)]
enum At {
    /// Nothing met yet.
    Start,
    /// Within a host that is wanted, after this URL.
    Url(Hostname, Option<Key>),
    /// Between hosts, after this one.
    Host(Hostname),
    /// Among a tag's objects, after this one.
    Object(u64),
    End,
}

impl Walk {
    pub(crate) fn new(place: Place) -> Self {
        Self { place, at: At::Start }
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.at, At::End)
    }

    /// The next candidates, up to `max`. None at all says nothing: ask [`Walk::is_over`].
    pub(crate) fn step<L>(&mut self, store: &Store<L>, sites: &SiteTable, max: usize) -> Vec<Candidate> {
        match &self.place {
            Place::Url(key) => {
                self.at = At::End;
                store.key(key).map(|key| Candidate { key, id: None }).into_iter().collect()
            }
            Place::Prefix(prefix) => {
                let prefix = prefix.clone();
                self.one_host(store, host_of(&prefix), &prefix, max)
            }
            Place::Host(HostPattern::Exact(host)) => {
                let host = host.clone();
                self.one_host(store, host.as_str(), "", max)
            }
            Place::Tag(site, tag) => {
                let after = if let At::Object(id) = self.at { id } else { 0 };
                let objects = store.tagged.after(tag, after, max);
                let owned = |key: &Key| sites.owner(key.0.host()) == Some(site);
                self.at = match objects.last() {
                    Some((id, _)) if objects.len() == max => At::Object(*id),
                    _ => At::End,
                };
                let met = objects.into_iter().filter(|(_, key)| owned(key));
                met.map(|(id, key)| Candidate { key, id: Some(id) }).collect()
            }
            Place::Host(HostPattern::Under(_)) | Place::Site(_) | Place::Whole => {
                self.many_hosts(store, sites, max)
            }
        }
    }

    fn one_host<L>(&mut self, store: &Store<L>, host: &str, prefix: &str, max: usize) -> Vec<Candidate> {
        let after = if let At::Url(_, after) = &self.at { after.as_ref() } else { None };
        let urls = store.order.urls(host, prefix, after, max);
        self.at = match urls.last() {
            Some(last) if urls.len() == max => At::Url(last.0.hostname(), Some(last.clone())),
            _ => At::End,
        };
        urls.into_iter().map(|key| Candidate { key, id: None }).collect()
    }

    fn many_hosts<L>(&mut self, store: &Store<L>, sites: &SiteTable, max: usize) -> Vec<Candidate> {
        let mut met = Vec::new();
        for _ in 0..HOSTS_PER_STEP {
            if met.len() >= max {
                break;
            }
            self.at = match std::mem::replace(&mut self.at, At::End) {
                At::Start => self.enter(sites, store.order.host_after(None)),
                At::Host(host) => self.enter(sites, store.order.host_after(Some(&host))),
                At::Url(host, after) => {
                    let left = max - met.len();
                    let urls = store.order.urls(host.as_str(), "", after.as_ref(), left);
                    let next = match urls.last() {
                        Some(last) if urls.len() == left => At::Url(host, Some(last.clone())),
                        _ => At::Host(host),
                    };
                    met.extend(urls.into_iter().map(|key| Candidate { key, id: None }));
                    next
                }
                At::Object(_) | At::End => return met,
            };
        }
        met
    }

    fn enter(&self, sites: &SiteTable, host: Option<Hostname>) -> At {
        let Some(host) = host else { return At::End };
        let wanted = match &self.place {
            Place::Site(site) => sites.owner(host.as_str()) == Some::<&SiteId>(site),
            Place::Host(pattern) => pattern.matches(&host),
            _ => true,
        };
        if wanted { At::Url(host, None) } else { At::Host(host) }
    }
}
