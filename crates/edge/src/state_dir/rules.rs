use batoff_index::{Place, Rule};
use batoff_types::{PurgeUrl, Seq, UrlPrefix};
use prost::{Message, Oneof};

#[derive(Clone, PartialEq, Message)]
pub(super) struct PbRule {
    #[prost(oneof = "PbPlace", tags = "1, 2, 3, 4, 5, 6, 9")]
    place: Option<PbPlace>,
    #[prost(uint64, tag = "7")]
    hard: u64,
    #[prost(uint64, tag = "8")]
    soft: u64,
}

#[derive(Clone, PartialEq, Oneof)]
enum PbPlace {
    #[prost(bool, tag = "1")]
    Whole(bool),
    #[prost(string, tag = "2")]
    Site(String),
    #[prost(string, tag = "3")]
    Host(String),
    #[prost(string, tag = "4")]
    Prefix(String),
    #[prost(string, tag = "5")]
    Url(String),
    #[prost(message, tag = "6")]
    Tag(PbTag),
    /// Of a site: its objects whose tags overflow.
    #[prost(string, tag = "9")]
    Overflow(String),
}

#[derive(Clone, PartialEq, Message)]
struct PbTag {
    #[prost(string, tag = "1")]
    site: String,
    #[prost(string, tag = "2")]
    tag: String,
}

impl From<&Rule> for PbRule {
    fn from(rule: &Rule) -> Self {
        let place = match &rule.place {
            Place::Whole => PbPlace::Whole(true),
            Place::Site(site) => PbPlace::Site(site.to_string()),
            Place::Host(pattern) => PbPlace::Host(pattern.to_string()),
            Place::Prefix(key) => PbPlace::Prefix(key.to_string()),
            Place::Url(key) => PbPlace::Url(key.to_string()),
            Place::Overflow(site) => PbPlace::Overflow(site.to_string()),
            Place::Tag(site, tag) => PbPlace::Tag(PbTag { site: site.to_string(), tag: tag.to_string() }),
        };
        Self { place: Some(place), hard: number(rule.hard), soft: number(rule.soft) }
    }
}

impl PbRule {
    /// A place that this build does not know is an error, not a narrower rule.
    pub(super) fn into_rule(self) -> Result<Rule, String> {
        let place = match self.place.ok_or("a rule without a place")? {
            PbPlace::Whole(_) => Place::Whole,
            PbPlace::Site(site) => Place::Site(site.parse().map_err(text)?),
            PbPlace::Host(pattern) => Place::Host(pattern.parse().map_err(text)?),
            // Read anew: a build before this one may have kept another normal form of the same name.
            PbPlace::Prefix(key) => Place::Prefix(UrlPrefix::from_key(&key).map_err(text)?.key().into()),
            PbPlace::Url(key) => Place::Url(PurgeUrl::from_key(&key).map_err(text)?.key().into()),
            PbPlace::Overflow(site) => Place::Overflow(site.parse().map_err(text)?),
            PbPlace::Tag(PbTag { site, tag }) => {
                Place::Tag(site.parse().map_err(text)?, tag.parse().map_err(text)?)
            }
        };
        Ok(Rule { place, hard: Seq::new(self.hard), soft: Seq::new(self.soft) })
    }
}

fn number(seq: Option<Seq>) -> u64 {
    seq.map_or(0, Seq::get)
}

fn text(error: impl ToString) -> String {
    error.to_string()
}
