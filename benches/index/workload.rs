//! Objects as a CDN has them: URLs of some 70 bytes in trees, four tags each, drawn by Zipf from a million.

use batoff_types::{PurgeUrl, Tag};

const TAGS: f64 = 1_000_000.0;
const TAGS_EACH: usize = 4;
const HOSTS: usize = 100;

/// Objects made before their inserts are timed: so few that they are in the processor's cache as what has just been
/// fetched is.
pub const CHUNK: usize = 1_000;

/// Objects that one prefix covers, and that carry one tag.
pub const HIT_MAX: usize = 100_000;

const WORDS: [&str; 16] = [
    "jackets", "alpine", "trekking", "outlet", "kids", "running", "cotton", "leather", "summer", "winter",
    "classic", "premium", "sports", "lounge", "travel", "garden",
];
const NAMES: [&str; 8] = [
    "index.html",
    "main-1200.webp",
    "thumb-200.webp",
    "view-2.webp",
    "view-3.webp",
    "data.json",
    "reviews.json",
    "style.css",
];

/// The objects, in an order in which no two that follow each other are neighbors.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    entries: usize,
    stride: usize,
}

impl Workload {
    pub fn new(entries: usize) -> Self {
        // Coprime to any number of entries that is not a multiple of it.
        Self { entries, stride: 7_368_787 }
    }

    pub fn entries(&self) -> usize {
        self.entries
    }

    /// How many objects the prefix covers, and how many carry the tag, that are purged.
    pub fn hit(&self) -> usize {
        HIT_MAX.min(self.entries / 2)
    }

    /// `host/path` of the object at a place in the order.
    pub fn key(&self, at: usize) -> String {
        let number = self.number(at);
        let block = number / self.hit();
        let (product, name) = (number / NAMES.len(), number % NAMES.len());
        let word = |salt: usize| WORDS[random(product / 125 * 31 + salt) as usize % WORDS.len()];
        format!(
            "{}/{}-{:02}/{product:07}-{}/{}",
            block_prefix(block),
            word(1),
            product / 125 % 100,
            WORDS[random(product) as usize % WORDS.len()],
            NAMES[name]
        )
    }

    pub fn url(&self, at: usize) -> PurgeUrl {
        format!("https://{}", self.key(at)).parse().unwrap_or_else(|error| unreachable!("{error}"))
    }

    /// The prefix that covers [`Workload::hit`] objects, the block numbers from 0.
    pub fn prefix(&self, block: usize) -> String {
        format!("{}/", block_prefix(block))
    }

    /// The tag that [`Workload::hit`] objects carry, all over the tree.
    pub const fn hit_tag() -> &'static str {
        "campaign:spring-sale"
    }

    pub fn tag_texts(&self, at: usize) -> [String; TAGS_EACH] {
        let number = self.number(at);
        std::array::from_fn(|slot| {
            if slot == 3
                && number.is_multiple_of(self.entries / self.hit())
                && number / (self.entries / self.hit()) < self.hit()
            {
                return Self::hit_tag().to_owned();
            }
            tag(zipf(random(number * TAGS_EACH + slot + 1)))
        })
    }

    pub fn tags(&self, at: usize) -> Vec<Tag> {
        let parsed = self.tag_texts(at).map(|text| text.parse());
        parsed.into_iter().map(|tag| tag.unwrap_or_else(|error| unreachable!("{error}"))).collect()
    }

    fn number(&self, at: usize) -> usize {
        (at % self.entries) * self.stride % self.entries
    }
}

fn block_prefix(block: usize) -> String {
    format!("www.shop-{:03}.example.com/cat-{block:03}", block % HOSTS)
}

/// The tag of a rank.
pub fn tag(rank: usize) -> String {
    const KINDS: [&str; 4] = ["product", "category", "brand", "author"];
    format!("{}:{rank}", KINDS[rank % KINDS.len()])
}

/// A rank from 1, by Zipf's law with exponent 1.
pub fn zipf(random: u64) -> usize {
    let uniform = (random >> 11) as f64 / (1_u64 << 53) as f64;
    (TAGS + 1.0).powf(uniform) as usize
}

/// SplitMix64: as good as random, and the same in each run.
pub fn random(seed: usize) -> u64 {
    let mut mixed = (seed as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
