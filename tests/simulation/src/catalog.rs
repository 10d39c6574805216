//! The small world of URLs, tags and sites that purges and lookups are about.

use std::str::FromStr;

use batoff_types::{
    CacheTags, HostPattern, Object, PurgeUrl, Selector, SiteChange, SiteId, SiteLimits, SiteTable, Tag,
    UrlPrefix,
};

use crate::random::Random;

const HOSTS: [&str; 5] = ["a.example", "www.a.example", "img.a.example", "b.example", "moving.example"];
const PATHS: [&str; 8] = ["/", "/p/1", "/p/2", "/p/deep/1", "/img/1.png", "/img/2.png", "/q?a=1", "/q?a=2"];
const PREFIXES: [&str; 5] = ["/", "/p/", "/p/d", "/img/", "/q?"];
const TAGS: [&str; 8] = ["t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7"];

/// How many URLs there are. They fit into the bits of a `u64`.
pub(crate) const URLS: usize = HOSTS.len() * PATHS.len();

/// What a purge hits, as bits: these URLs, of those the ones with one of these tags (0: all).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hits {
    urls: u64,
    tags: u8,
}

impl Hits {
    pub(crate) const fn all() -> Self {
        Self { urls: u64::MAX, tags: 0 }
    }

    pub(crate) const fn hit(self, url: usize, tags: u8) -> bool {
        self.urls >> url & 1 == 1 && (self.tags == 0 || self.tags & tags != 0)
    }
}

/// Names that are used again and again, parsed once.
#[derive(Debug)]
pub(crate) struct Catalog {
    pub(crate) urls: Vec<PurgeUrl>,
    pub(crate) tags: Vec<Tag>,
    pub(crate) alpha: SiteId,
    pub(crate) beta: SiteId,
}

#[expect(clippy::expect_used, reason = "the texts stand in this crate, and every run parses all of them")]
pub(crate) fn parse<T: FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().expect("a valid name")
}

impl Catalog {
    pub(crate) fn new() -> Self {
        let urls = HOSTS.iter().flat_map(|host| PATHS.map(|path| parse(&format!("https://{host}{path}"))));
        Self {
            urls: urls.collect(),
            tags: TAGS.into_iter().map(parse).collect(),
            alpha: parse("alpha"),
            beta: parse("beta"),
        }
    }

    /// The two sites as the log's first records create them.
    pub(crate) fn first_sites(&self) -> [SiteChange; 2] {
        let names = |names: &[&str]| Some(names.iter().map(|name| parse(name)).collect());
        [
            change(&self.alpha, names(&["a.example", "*.a.example", "moving.example"])),
            change(&self.beta, names(&["b.example"])),
        ]
    }

    /// The host that moves goes to the other site.
    pub(crate) fn move_host(&self, sites: &SiteTable) -> [SiteChange; 2] {
        let moving: HostPattern = parse("moving.example");
        let (from, to) = match sites.claimant(&moving) {
            Some(owner) if *owner == self.alpha => (&self.alpha, &self.beta),
            _ => (&self.beta, &self.alpha),
        };
        let names = |site: &SiteId| sites.hostnames(site.as_str()).unwrap_or_default().to_vec();
        let mut left = names(from);
        left.retain(|name| *name != moving);
        let mut won = names(to);
        won.push(moving.clone());
        let affected = vec![moving];
        [
            SiteChange { affected: affected.clone(), ..change(from, Some(left)) },
            SiteChange { affected, ..change(to, Some(won)) },
        ]
    }

    /// One to three selectors of a site, mostly narrow.
    pub(crate) fn selectors(&self, random: &mut Random) -> (SiteId, Vec<Selector>) {
        let site = if random.chance(0.6) { &self.alpha } else { &self.beta };
        let count = 1 + random.below(3);
        (site.clone(), (0..count).map(|_| self.selector(random)).collect())
    }

    fn selector(&self, random: &mut Random) -> Selector {
        let url = &self.urls[random.below(URLS)];
        match random.below(40) {
            0..16 => Selector::Url(url.clone()),
            16..24 => {
                let text = format!("https://{}{}", random.pick(&HOSTS), random.pick(&PREFIXES));
                Selector::Prefix(parse::<UrlPrefix>(&text))
            }
            24..36 => Selector::Tag(self.tags[random.below(TAGS.len())].clone()),
            36..39 => Selector::Host(url.hostname()),
            _ => Selector::Everything,
        }
    }

    /// By the specification of the selectors: what each of them hits when `sites` says whose the hosts are.
    pub(crate) fn hits(&self, sites: &SiteTable, site: &SiteId, selectors: &[Selector]) -> Vec<Hits> {
        selectors.iter().map(|selector| self.hits_of(sites, site, selector)).collect()
    }

    fn hits_of(&self, sites: &SiteTable, site: &SiteId, selector: &Selector) -> Hits {
        let with = CacheTags::from(match selector {
            Selector::Tag(tag) => vec![tag.clone()],
            _ => Vec::new(),
        });
        let mut hits = Hits { urls: 0, tags: self.bits_of(&with.tags) };
        for (number, url) in self.urls.iter().enumerate() {
            let object = Object { site: sites.owner(url.host()), url, tags: &with };
            hits.urls |= u64::from(selector.matches(site, &object)) << number;
        }
        hits
    }

    /// Everything under those names.
    pub(crate) fn hits_of_hosts(&self, names: &[HostPattern]) -> Hits {
        let under = |url: &PurgeUrl| names.iter().any(|name| name.matches(&url.hostname()));
        let urls = self.urls.iter().enumerate().map(|(number, url)| u64::from(under(url)) << number);
        Hits { urls: urls.sum(), tags: 0 }
    }

    /// The tags of a response, as bits.
    pub(crate) fn some_tags(random: &mut Random) -> u8 {
        1 << random.below(TAGS.len()) | 1 << random.below(TAGS.len())
    }

    pub(crate) fn tags_of(&self, bits: u8) -> CacheTags {
        let set = self.tags.iter().enumerate().filter(|(number, _)| bits >> number & 1 == 1);
        set.map(|(_, tag)| tag.clone()).collect::<Vec<_>>().into()
    }

    fn bits_of(&self, tags: &[Tag]) -> u8 {
        let set = self.tags.iter().enumerate().filter(|(_, tag)| tags.contains(tag));
        set.map(|(number, _)| 1 << number).sum()
    }
}

fn change(site: &SiteId, hostnames: Option<Vec<HostPattern>>) -> SiteChange {
    SiteChange { site: site.clone(), hostnames, affected: Vec::new(), limits: SiteLimits::default() }
}
