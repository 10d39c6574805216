//! Going through the objects that lie in a place, a step at a time: from host to host, directory to directory.

use std::collections::VecDeque;

use batoff_types::{HostPattern, Hostname, SiteId, SiteTable};

use crate::Place;
use crate::place::{OVERFLOW, host_of};
use crate::store::{Act, Held, InDirectory, InTag, Progress, Store};

/// Names of directories fetched at once.
const DIRECTORIES_AT_ONCE: usize = 64;

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
    /// Within a host that is wanted.
    Host(InHost),
    /// Between hosts, after this one.
    AfterHost(Box<str>),
    Tag(InTag),
    End,
}

/// A walk over a host's directories.
#[derive(Debug)]
struct InHost {
    host: Box<str>,
    /// What directories begin with: `[:port]/a/b/`
    prefix: Box<str>,
    /// Those that come next.
    next: VecDeque<Box<str>>,
    /// The last that was fetched.
    after: Option<Box<str>>,
    /// Further ones may follow.
    more: bool,
    /// The directory that the prefix ends in, and what names in it begin with.
    own: Option<(Box<str>, Box<str>)>,
    inside: Option<InDirectory>,
}

impl Walk {
    pub(crate) fn new(place: Place) -> Self {
        Self { place, at: At::Start }
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.at, At::End)
    }

    /// Visits objects until `budget` of them (and of directories and hosts) were looked at, or `visit` says
    /// [`Act::Stop`]; then the next step begins with the same object. Whether there are more, [`Walk::is_over`] says.
    pub(crate) fn step<L>(
        &mut self,
        store: &Store<L>,
        sites: &SiteTable,
        mut budget: usize,
        visit: &mut dyn FnMut(&Held<'_, L>) -> Act,
    ) {
        while budget > 0 {
            let (next, stopped) = match std::mem::replace(&mut self.at, At::End) {
                At::Start => self.begin(store, sites, &mut budget, visit),
                At::Host(mut walk) => match walk.step(store, &mut budget, visit) {
                    Progress::Over => (self.leave(walk.host), false),
                    Progress::More => (At::Host(walk), true),
                    Progress::Stopped => (At::Host(walk), true),
                },
                At::AfterHost(host) => {
                    budget -= 1;
                    (self.enter(sites, store.host_after(Some(&host))), false)
                }
                At::Tag(mut walk) => {
                    let progress = self.step_tag(store, sites, &mut walk, &mut budget, visit);
                    (if progress == Progress::Over { At::End } else { At::Tag(walk) }, true)
                }
                At::End => return,
            };
            self.at = next;
            if stopped {
                return;
            }
        }
    }

    fn begin<L>(
        &self,
        store: &Store<L>,
        sites: &SiteTable,
        budget: &mut usize,
        visit: &mut dyn FnMut(&Held<'_, L>) -> Act,
    ) -> (At, bool) {
        let next = match &self.place {
            Place::Url(key) => {
                *budget -= 1;
                // What was visited before a stop will be visited again: it has left, or says the same.
                let all = store.revise(key, visit);
                return (if all { At::End } else { At::Start }, true);
            }
            Place::Prefix(prefix) => {
                let (host, rest) = prefix.split_at(host_of(prefix).len());
                At::Host(InHost::of_prefix(host, rest))
            }
            Place::Host(HostPattern::Exact(host)) => At::Host(InHost::of_prefix(host.as_str(), "")),
            Place::Tag(_, tag) => store.enter_tag(tag.as_str()).map_or(At::End, At::Tag),
            Place::Overflow(_) => store.enter_tag(OVERFLOW).map_or(At::End, At::Tag),
            Place::Host(HostPattern::Under(_)) | Place::Site(_) | Place::Whole => {
                *budget -= 1;
                self.enter(sites, store.host_after(None))
            }
        };
        (next, false)
    }

    fn step_tag<L>(
        &self,
        store: &Store<L>,
        sites: &SiteTable,
        walk: &mut InTag,
        budget: &mut usize,
        visit: &mut dyn FnMut(&Held<'_, L>) -> Act,
    ) -> Progress {
        let (Place::Tag(site, _) | Place::Overflow(site)) = &self.place else { return Progress::Over };
        // Neighbours mostly have the same host.
        let mut last = (String::new(), false);
        store.walk_tag(walk, budget, &mut |held| {
            if last.0 != held.host {
                last.0.clear();
                last.0.push_str(held.host);
                last.1 = sites.owner(held.host) == Some(site);
            }
            if last.1 { visit(held) } else { Act::Keep }
        })
    }

    fn enter(&self, sites: &SiteTable, host: Option<Box<str>>) -> At {
        let Some(host) = host else { return At::End };
        let wanted = match &self.place {
            Place::Site(site) => sites.owner(&host) == Some::<&SiteId>(site),
            Place::Host(pattern) => host.parse::<Hostname>().is_ok_and(|host| pattern.matches(&host)),
            _ => true,
        };
        if wanted { At::Host(InHost::of_prefix(&host, "")) } else { At::AfterHost(host) }
    }

    fn leave(&self, host: Box<str>) -> At {
        match &self.place {
            Place::Host(HostPattern::Under(_)) | Place::Site(_) | Place::Whole => At::AfterHost(host),
            _ => At::End,
        }
    }
}

impl InHost {
    /// All objects of the host whose key without the host begins with `rest`.
    fn of_prefix(host: &str, rest: &str) -> Self {
        let path_end = rest.find('?').unwrap_or(rest.len());
        let own = rest[..path_end].rfind('/').filter(|slash| slash + 1 < rest.len()).map(|slash| {
            let (directory, name) = rest.split_at(slash + 1);
            (directory.into(), name.into())
        });
        Self {
            host: host.into(),
            prefix: rest.into(),
            next: VecDeque::new(),
            after: None,
            more: true,
            own,
            inside: None,
        }
    }

    fn step<L>(
        &mut self,
        store: &Store<L>,
        budget: &mut usize,
        visit: &mut dyn FnMut(&Held<'_, L>) -> Act,
    ) -> Progress {
        loop {
            if let Some(walk) = &mut self.inside {
                match store.walk_directory(walk, budget, visit) {
                    Progress::Over => self.inside = None,
                    unfinished => return unfinished,
                }
            }
            if *budget == 0 {
                return Progress::More;
            }
            *budget -= 1;
            let Some((directory, names)) = self.own.take().or_else(|| self.next(store)) else {
                return Progress::Over;
            };
            let directory = [&*self.host, &*directory].concat();
            self.inside = Some(store.enter_directory(&directory, &names));
        }
    }

    fn next<L>(&mut self, store: &Store<L>) -> Option<(Box<str>, Box<str>)> {
        if self.next.is_empty() && self.more {
            let found =
                store.directories(&self.host, &self.prefix, self.after.as_deref(), DIRECTORIES_AT_ONCE);
            self.more = found.len() == DIRECTORIES_AT_ONCE;
            self.after = found.last().cloned().or(self.after.take());
            self.next.extend(found);
        }
        self.next.pop_front().map(|directory| (directory, Box::default()))
    }
}
