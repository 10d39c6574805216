use batoff_types::{Hostname, PurgeUrl, Selector, Tag, UrlPrefix};

use crate::field::parsed;
use crate::pb::selector::Kind;
use crate::{WireError, pb};

pub fn encode(selector: &Selector) -> pb::Selector {
    let kind = match selector {
        Selector::Url(url) => Kind::Url(url.as_str().to_owned()),
        Selector::Prefix(prefix) => Kind::Prefix(prefix.as_str().to_owned()),
        Selector::Tag(tag) => Kind::Tag(tag.as_str().to_owned()),
        Selector::Host(host) => Kind::Host(host.as_str().to_owned()),
        Selector::Everything => Kind::Everything(pb::Everything {}),
    };
    pb::Selector { kind: Some(kind) }
}

/// A selector without a known kind is everything for the site; a value outside its grammar is an error.
pub fn decode(selector: &pb::Selector) -> Result<Selector, WireError> {
    Ok(match &selector.kind {
        Some(Kind::Url(url)) => Selector::Url(parsed::<PurgeUrl>("url", url)?),
        Some(Kind::Prefix(prefix)) => Selector::Prefix(parsed::<UrlPrefix>("prefix", prefix)?),
        Some(Kind::Tag(tag)) => Selector::Tag(parsed::<Tag>("tag", tag)?),
        Some(Kind::Host(host)) => Selector::Host(parsed::<Hostname>("host", host)?),
        Some(Kind::Everything(_)) | None => Selector::Everything,
    })
}

/// As [`decode`], but a value outside its grammar is everything for the site too: a purge that was accepted has to take
/// effect, whatever another version calls a URL.
pub fn decode_or_everything(selector: &pb::Selector) -> Selector {
    decode(selector).unwrap_or(Selector::Everything)
}
