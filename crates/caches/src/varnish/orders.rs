//! What a group of records asks of Varnish: which guards to move, which URLs and tags to purge, what to ban.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use batoff_types::{Body, HostPattern, Purge, PurgeUrl, Record, Selector, SiteId};

use super::ban;

/// Prefixes of one host in one group that become a ban each. More become one ban of the host: bans are tested against
/// every object one by one, and until they are, at every hit.
const PREFIXES_PER_HOST_MAX: usize = 32;

/// A target as long as this is never stored (`batoff.vcl`), and could not be sent either.
const TARGET_BYTES_MAX: usize = 7_000;

/// Bytes of tags in one request, or one tag: each becomes a key in Varnish's workspace, up to 13 bytes for each of its own.
const TAGS_BYTES_MAX: usize = 2_048;

/// What is to be done, each thing once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Orders {
    /// Hosts whose fetches under way must not be stored.
    pub(super) guards: BTreeSet<String>,
    /// No fetch under way may be stored.
    pub(super) guard_all: bool,
    /// Drop everything; the rest does not matter then.
    pub(super) flush: bool,
    hard: Targets,
    soft: Targets,
    prefixes: BTreeMap<String, BTreeSet<String>>,
    hosts: BTreeSet<HostPattern>,
    /// Tags under wildcards, whose hostnames nobody can list.
    wild_tags: BTreeMap<HostPattern, BTreeSet<String>>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Targets {
    /// `host[:port]` and target.
    urls: BTreeSet<(String, String)>,
    /// By hostname.
    tags: BTreeMap<String, BTreeSet<String>>,
}

impl Orders {
    /// Drop everything.
    pub(super) fn everything() -> Self {
        Self { guard_all: true, flush: true, ..Self::default() }
    }

    /// Take nothing out; no fetch under way may be stored.
    pub(super) fn nothing_but_guards() -> Self {
        Self { guard_all: true, ..Self::default() }
    }

    /// What `records` ask for. `hostnames` says which names a site owns, or owned.
    pub(super) fn of(records: &[Arc<Record>], hostnames: impl Fn(&SiteId) -> BTreeSet<HostPattern>) -> Self {
        let mut orders = Self::default();
        for record in records {
            match &record.body {
                Body::Purge(purge) => orders.purge(purge, &hostnames),
                Body::Site(change) => {
                    orders.guard_all = true;
                    orders.hosts.extend(change.affected.iter().cloned());
                }
                Body::Unknown => {
                    orders.guard_all = true;
                    orders.flush = true;
                }
                Body::NodeRegistered(_) | Body::NodeRemoved(_) | Body::ReplicaSet(_) => {}
            }
        }
        orders
    }

    /// What one purge asks for.
    pub(super) fn purge(&mut self, purge: &Purge, hostnames: &impl Fn(&SiteId) -> BTreeSet<HostPattern>) {
        for selector in &purge.selectors {
            match selector {
                Selector::Url(url) => {
                    self.guards.insert(url.host().to_owned());
                    let (authority, target) = split(url);
                    if target.len() < TARGET_BYTES_MAX {
                        self.targets(purge.soft).urls.insert((authority.to_owned(), target.to_owned()));
                    }
                }
                // Varnish has no soft ban; gone is more than stale.
                Selector::Prefix(prefix) => {
                    self.guards.insert(prefix.host().to_owned());
                    self.prefixes
                        .entry(prefix.host().to_owned())
                        .or_default()
                        .insert(prefix.key().to_owned());
                }
                Selector::Host(host) => {
                    self.guards.insert(host.as_str().to_owned());
                    self.hosts.insert(HostPattern::Exact(host.clone()));
                }
                Selector::Everything => {
                    self.guard_all = true;
                    self.hosts.extend(hostnames(&purge.site));
                }
                Selector::Tag(tag) => {
                    self.guard_all = true;
                    for pattern in hostnames(&purge.site) {
                        match &pattern {
                            HostPattern::Exact(host) => {
                                let tags = &mut self.targets(purge.soft).tags;
                                tags.entry(host.to_string()).or_default().insert(tag.to_string());
                            }
                            HostPattern::Under(_) => {
                                self.wild_tags.entry(pattern).or_default().insert(tag.as_str().to_owned());
                            }
                        }
                    }
                }
            }
        }
    }

    const fn targets(&mut self, soft: bool) -> &mut Targets {
        if soft { &mut self.soft } else { &mut self.hard }
    }

    /// The requests to the listener for purges, the soft ones first.
    pub(super) fn requests(&self) -> Vec<Vec<u8>> {
        let mut requests = Vec::new();
        for (targets, soft) in [(&self.soft, "Batoff-Soft: 1\r\n"), (&self.hard, "")] {
            for (authority, target) in &targets.urls {
                requests.push(purge_request(authority, target, soft));
            }
            for (host, tags) in &targets.tags {
                for tags in lines(tags) {
                    requests.push(purge_request(host, "/", &format!("{soft}Batoff-Tags: {tags}\r\n")));
                }
            }
        }
        requests
    }

    /// The commands to the command line.
    pub(super) fn bans(&self) -> Vec<String> {
        if self.flush {
            return vec![ban::EVERYTHING.to_owned()];
        }
        let mut hosts: BTreeSet<_> = self.hosts.iter().map(ban::host).collect();
        let mut bans = Vec::new();
        for (host, prefixes) in &self.prefixes {
            let host = ban::exact_host(host);
            if hosts.contains(&host) {
                continue;
            }
            if prefixes.len() > PREFIXES_PER_HOST_MAX {
                hosts.insert(host);
                continue;
            }
            let mut last: Option<&str> = None;
            for prefix in prefixes {
                // In order, so one that begins with another stands right behind it.
                if !last.is_some_and(|last| prefix.starts_with(last)) {
                    bans.push(ban::prefix(prefix));
                    last = Some(prefix);
                }
            }
        }
        bans.extend(ban::hosts(&hosts));
        for (pattern, tags) in &self.wild_tags {
            bans.extend(ban::tags(pattern, tags));
        }
        bans
    }
}

/// The tags in lines of bounded length.
fn lines(tags: &BTreeSet<String>) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for tag in tags {
        match lines.last_mut().filter(|last| last.len() + tag.len() < TAGS_BYTES_MAX) {
            Some(last) => {
                last.push(' ');
                last.push_str(tag);
            }
            None => lines.push(tag.clone()),
        }
    }
    lines
}

/// `host[:port]`, and the rest.
fn split(url: &PurgeUrl) -> (&str, &str) {
    let key = url.key();
    key.split_at(key.find('/').unwrap_or(key.len()))
}

/// A request to the listener for purges; each of `headers` ends its line.
pub(super) fn purge_request(authority: &str, target: &str, headers: &str) -> Vec<u8> {
    format!("PURGE {target} HTTP/1.1\r\nHost: {authority}\r\n{headers}\r\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use batoff_types::{Seq, SiteChange, SiteLimits, TaskId, UnixMillis};

    use super::*;

    fn record(body: Body) -> Arc<Record> {
        let seq = Seq::new(1).unwrap();
        let task = TaskId::from_bytes([1; 16]);
        Arc::new(Record {
            seq,
            accepted_at: UnixMillis(0),
            task,
            request_id: "r".into(),
            semantics: 1,
            trace: None,
            body,
        })
    }

    fn purge(soft: bool, selectors: &[Selector]) -> Arc<Record> {
        let site = "mine".parse().unwrap();
        record(Body::Purge(Purge { site, selectors: selectors.to_vec(), soft }))
    }

    fn names(_: &SiteId) -> BTreeSet<HostPattern> {
        ["a.example", "*.b.example"].iter().map(|name| name.parse().unwrap()).collect()
    }

    fn orders(records: &[Arc<Record>]) -> (Vec<String>, Vec<String>) {
        let orders = Orders::of(records, names);
        let requests = orders.requests().into_iter().map(|request| String::from_utf8(request).unwrap());
        (requests.collect(), orders.bans())
    }

    fn url(text: &str) -> Selector {
        Selector::Url(text.parse().unwrap())
    }

    fn prefix(text: &str) -> Selector {
        Selector::Prefix(text.parse().unwrap())
    }

    #[test]
    fn urls_go_by_their_key_each_once() {
        let records = [
            purge(false, &[url("http://A.example:80/x?y=1"), url("https://a.example/x?y=1")]),
            purge(true, &[url("https://a.example:8443/")]),
        ];
        let (requests, bans) = orders(&records);
        assert_eq!(
            requests,
            [
                "PURGE / HTTP/1.1\r\nHost: a.example:8443\r\nBatoff-Soft: 1\r\n\r\n",
                "PURGE /x?y=1 HTTP/1.1\r\nHost: a.example\r\n\r\n",
            ]
        );
        assert_eq!(bans, [""; 0]);
        let guards = Orders::of(&records, names).guards;
        assert_eq!(guards.into_iter().collect::<Vec<_>>(), ["a.example"]);
    }

    #[test]
    fn tags_go_with_each_hostname_of_their_site() {
        let tag = |tag: &str| Selector::Tag(tag.parse().unwrap());
        let (requests, bans) = orders(&[purge(false, &[tag("red"), tag("p:1")])]);
        assert_eq!(requests, ["PURGE / HTTP/1.1\r\nHost: a.example\r\nBatoff-Tags: p:1 red\r\n\r\n"]);
        assert_eq!(bans.len(), 1, "{bans:?}");
        let many: Vec<_> = (0..100).map(|n| tag(&format!("{n}{}", "x".repeat(200)))).collect();
        let (requests, _) = orders(&[purge(false, &many)]);
        assert!(requests.len() > 8 && requests.iter().all(|request| request.len() < 4_000));
    }

    #[test]
    fn bans_stay_few() {
        let nested =
            ["https://a.example/x", "https://a.example/x/y", "https://a.example/xz", "https://b.example/x"];
        let (_, bans) = orders(&[purge(false, &nested.map(prefix))]);
        assert_eq!(bans.len(), 2, "{bans:?}");
        let many: Vec<_> = (100..200).map(|n| prefix(&format!("https://a.example/{n}/"))).collect();
        let (_, bans) = orders(&[purge(false, &many)]);
        assert_eq!(bans.len(), 1, "{bans:?}");
        let (_, bans) = orders(&[purge(false, &many), purge(false, &[Selector::Everything])]);
        assert_eq!(bans.len(), 1, "{bans:?}");
        let (_, bans) = orders(&[record(Body::Unknown), purge(false, &many)]);
        assert_eq!(bans, [ban::EVERYTHING]);
    }

    #[test]
    fn a_host_that_changes_hands_is_banned() {
        let affected = vec!["c.example".parse().unwrap()];
        let change = SiteChange {
            site: "x".parse().unwrap(),
            hostnames: None,
            affected,
            limits: SiteLimits::default(),
        };
        let orders = Orders::of(&[record(Body::Site(change))], names);
        assert!(orders.guard_all && orders.bans().len() == 1);
    }

    #[test]
    fn what_is_too_long_to_be_stored_is_not_purged() {
        let (requests, _) =
            orders(&[purge(false, &[url(&format!("https://a.example/{}", "x".repeat(7_500)))])]);
        assert_eq!(requests, [""; 0]);
    }
}
