//! Short ways to say what the tests talk about.

use batoff_index::{Effect, Entry, Index, IndexConfig, Match, Matches, Variant, Verdict};
use batoff_types::{
    Body, CacheTags, FillToken, HostPattern, Purge, PurgeUrl, Record, SEMANTICS_VERSION, Selector, Seq,
    SiteChange, SiteId, SiteLimits, Tag, TaskId, UnixMillis,
};

pub type Node = Index<u32>;

pub fn url(text: &str) -> PurgeUrl {
    format!("https://{text}").parse().unwrap()
}

pub fn tags(texts: &[&str]) -> CacheTags {
    texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Tag>>().into()
}

/// These, and others that nobody knows.
pub fn overflowing(texts: &[&str]) -> CacheTags {
    tags(texts).cut()
}

pub fn site(name: &str) -> SiteId {
    name.parse().unwrap()
}

pub fn names(patterns: &[&str]) -> Vec<HostPattern> {
    patterns.iter().map(|pattern| pattern.parse().unwrap()).collect()
}

pub fn by_url(text: &str) -> Selector {
    Selector::Url(url(text))
}

pub fn by_prefix(text: &str) -> Selector {
    Selector::Prefix(format!("https://{text}").parse().unwrap())
}

pub fn by_tag(text: &str) -> Selector {
    Selector::Tag(text.parse().unwrap())
}

pub fn by_host(text: &str) -> Selector {
    Selector::Host(text.parse().unwrap())
}

pub fn record(seq: u64, body: Body) -> Record {
    Record {
        seq: Seq::new(seq).unwrap(),
        accepted_at: UnixMillis(0),
        task: TaskId::from_bytes([(seq % 251) as u8; 16]),
        request_id: "request".into(),
        semantics: SEMANTICS_VERSION,
        trace: None,
        body,
    }
}

pub fn purge(owner: &str, selectors: Vec<Selector>, soft: bool) -> Body {
    Body::Purge(Purge { site: site(owner), selectors, soft })
}

pub fn ownership(owner: &str, hostnames: Option<&[&str]>, affected: &[&str]) -> Body {
    Body::Site(SiteChange {
        site: site(owner),
        hostnames: hostnames.map(names),
        affected: names(affected),
        limits: SiteLimits::default(),
    })
}

/// An index for which `one` owns `one.test` and `*.one.test`, and `two` owns `two.test`.
pub fn node() -> Node {
    node_with(IndexConfig::default())
}

pub fn node_with(config: IndexConfig) -> Node {
    let node = Node::new(config);
    let _ = node.hear(ownership("one", Some(&["one.test", "*.one.test"]), &[]));
    let _ = node.hear(ownership("two", Some(&["two.test"]), &[]));
    node
}

pub trait Tell {
    /// Applies the next record.
    fn hear(&self, body: Body) -> Matches<u32>;
    /// Applies the next record, a hard purge, and says how many objects it hit.
    fn purge(&self, owner: &str, selector: Selector) -> usize;
    /// Applies the next record, a soft purge, and says how many objects it hit.
    fn soft_purge(&self, owner: &str, selector: Selector) -> usize;
    /// Stores an object whose fetch begins and ends now.
    fn hold(&self, text: &str, carried: &[&str]);
    fn hold_from(&self, text: &str, carried: &[&str], token: FillToken) -> bool;
    fn verdict(&self, text: &str) -> Option<Verdict>;
    fn sweep_all(&self) -> Vec<Match<u32>>;
}

impl Tell for Node {
    fn hear(&self, body: Body) -> Matches<u32> {
        self.apply(&record(self.applied().next().get(), body))
    }

    fn purge(&self, owner: &str, selector: Selector) -> usize {
        let found = all(self.hear(purge(owner, vec![selector], false)));
        assert!(found.iter().all(|found| found.effect == Effect::Evicted));
        found.len()
    }

    fn soft_purge(&self, owner: &str, selector: Selector) -> usize {
        let found = all(self.hear(purge(owner, vec![selector], true)));
        assert!(found.iter().all(|found| found.effect == Effect::Stale));
        found.len()
    }

    fn hold(&self, text: &str, carried: &[&str]) {
        assert!(self.hold_from(text, carried, self.begin_fill()));
    }

    fn hold_from(&self, text: &str, carried: &[&str], token: FillToken) -> bool {
        let (url, tags) = (url(text), tags(carried));
        self.insert(Entry { url, variant: Variant::MAIN, tags, token, locator: 0 }).is_ok()
    }

    fn verdict(&self, text: &str) -> Option<Verdict> {
        self.lookup(&url(text), Variant::MAIN).map(|(verdict, _)| verdict)
    }

    fn sweep_all(&self) -> Vec<Match<u32>> {
        std::iter::from_fn(|| self.sweep(7)).flatten().collect()
    }
}

pub fn all(mut matches: Matches<u32>) -> Vec<Match<u32>> {
    let before = matches.found();
    let found: Vec<_> = std::iter::from_fn(|| matches.next_batch(3)).flatten().collect();
    assert!(matches.is_finished());
    assert_eq!(matches.found() - before, found.len() as u64);
    found
}
