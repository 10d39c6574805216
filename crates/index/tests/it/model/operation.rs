use batoff_types::{Body, CacheTags, NodeName, PurgeUrl, ReplicaSet, SEMANTICS_VERSION, Selector};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::fixture::*;

/// Few names, so that everything meets everything.
pub const URLS: [&str; 12] = [
    "https://a.test/",
    "http://a.test/p",
    "https://a.test/p/1",
    "https://a.test/p?q",
    "https://a.test:8080/p",
    "https://a.test.evil/p",
    "https://x.w.test/p",
    "http://x.w.test/p/1",
    "https://y.w.test/p",
    "https://w.test/p",
    "https://[::1]:81/p",
    "https://nobody.test/p",
];
const PREFIXES: [&str; 7] =
    ["a.test/", "a.test/p", "a.test/p/", "a.test:8080/", "x.w.test/p", "[::1]:81/", "nobody.test"];
const HOSTS: [&str; 7] = ["a.test", "a.test.evil", "x.w.test", "y.w.test", "w.test", "[::1]", "nobody.test"];
const PATTERNS: [&str; 7] = ["a.test", "a.test.evil", "*.w.test", "x.w.test", "w.test", "[::1]", "*.test"];
const TAGS: [&str; 3] = ["t", "u", "v"];
pub const SITES: [&str; 2] = ["one", "two"];

/// Tokens that fills in flight hold.
pub const SLOTS: usize = 4;

#[derive(Clone, Debug)]
pub struct Stored {
    pub url: PurgeUrl,
    pub variant: u128,
    pub tags: CacheTags,
}

/// What becomes of a record's matches.
#[derive(Clone, Copy, Debug)]
pub enum Fate {
    /// Taken at once, in batches of so many.
    Taken(usize),
    /// Kept for later.
    Kept,
    /// Dropped after one batch of so many.
    Dropped(usize),
}

#[derive(Clone, Debug)]
pub enum Operation {
    BeginFill(usize),
    /// Stores what began in the slot, or begins now.
    Insert(Option<usize>, Stored),
    Remove(PurgeUrl, u128),
    Apply(Body, u32, Fate),
    /// Applies an earlier record once more.
    Again(prop::sample::Index),
    TakeKept(prop::sample::Index, usize),
    Sweep(usize),
    Count(&'static str, Selector),
    Forget(u64),
    Flush,
    Reset(u64, Vec<(&'static str, Vec<&'static str>)>),
    Restart,
}

/// Mostly all of an object's tags; sometimes it has more than are known.
pub fn tag_sets() -> impl Strategy<Value = CacheTags> {
    let ignored = prop_oneof![5 => Just(0), 1 => Just(1_usize)];
    (vec(select(&TAGS[..]), 0..3), ignored).prop_map(|(texts, ignored)| CacheTags { ignored, ..tags(&texts) })
}

fn urls() -> impl Strategy<Value = PurgeUrl> {
    select(&URLS[..]).prop_map(|text| text.parse().unwrap())
}

fn selectors() -> impl Strategy<Value = Selector> {
    prop_oneof![
        4 => urls().prop_map(Selector::Url),
        3 => select(&PREFIXES[..]).prop_map(by_prefix),
        3 => select(&TAGS[..]).prop_map(by_tag),
        1 => select(&HOSTS[..]).prop_map(by_host),
        1 => Just(Selector::Everything),
    ]
}

fn bodies() -> impl Strategy<Value = Body> {
    let node = || NodeName::new("fra1", "edge-1").unwrap();
    prop_oneof![
        20 => (select(&SITES[..]), vec(selectors(), 1..4), any::<bool>())
            .prop_map(|(owner, selectors, soft)| purge(owner, selectors, soft)),
        4 => (
            select(&SITES[..]),
            prop::option::weighted(0.9, vec(select(&PATTERNS[..]), 0..4)),
            vec(select(&PATTERNS[..]), 0..2),
        )
            .prop_map(|(owner, hostnames, affected)| {
                let hostnames = hostnames.map(|mut names| {
                    names.sort_unstable();
                    names.dedup();
                    names
                });
                ownership(owner, hostnames.as_deref(), &affected)
            }),
        1 => Just(Body::NodeRegistered(node())),
        1 => Just(Body::NodeRemoved(node())),
        1 => Just(Body::ReplicaSet(ReplicaSet::only())),
        1 => Just(Body::Unknown),
    ]
}

fn fates() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => (1..4_usize).prop_map(Fate::Taken),
        2 => Just(Fate::Kept),
        1 => (1..3_usize).prop_map(Fate::Dropped),
    ]
}

fn stored() -> impl Strategy<Value = Stored> {
    (urls(), 0..2_u128, tag_sets()).prop_map(|(url, variant, tags)| Stored { url, variant, tags })
}

fn site_tables() -> impl Strategy<Value = Vec<(&'static str, Vec<&'static str>)>> {
    vec((select(&SITES[..]), vec(select(&PATTERNS[..]), 0..3)), 0..3)
}

pub fn operations(most: usize) -> impl Strategy<Value = Vec<Operation>> {
    let semantics = prop_oneof![15 => Just(SEMANTICS_VERSION), 1 => Just(SEMANTICS_VERSION + 1)];
    let one = prop_oneof![
        6 => (0..SLOTS).prop_map(Operation::BeginFill),
        24 => (prop::option::of(0..SLOTS), stored()).prop_map(|(slot, it)| Operation::Insert(slot, it)),
        2 => (urls(), 0..2_u128).prop_map(|(url, variant)| Operation::Remove(url, variant)),
        20 => (bodies(), semantics, fates()).prop_map(|(body, version, fate)| Operation::Apply(body, version, fate)),
        2 => any::<prop::sample::Index>().prop_map(Operation::Again),
        4 => (any::<prop::sample::Index>(), 1..4_usize).prop_map(|(at, max)| Operation::TakeKept(at, max)),
        3 => (1..4_usize).prop_map(Operation::Sweep),
        3 => (select(&SITES[..]), selectors()).prop_map(|(owner, it)| Operation::Count(owner, it)),
        2 => (0..8_u64).prop_map(Operation::Forget),
        1 => Just(Operation::Flush),
        1 => (0..100_u64, site_tables()).prop_map(|(cursor, sites)| Operation::Reset(cursor, sites)),
        2 => Just(Operation::Restart),
    ];
    vec(one, 1..most)
}
