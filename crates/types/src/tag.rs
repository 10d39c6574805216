//! Tags: the grammar of one, and what is read of a response's `Cache-Tag`.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::invisible;

/// The longest tag, in bytes.
pub const TAG_BYTES_MAX: usize = 256;

/// Tags indexed of one response where its site sets nothing else; a response with more *overflows*
/// ([`CacheTags::overflows`]).
pub const TAGS_PER_RESPONSE_MAX: usize = 16;

/// The most that a site may set: with tags of ten bytes, a header of 11 KiB.
pub const TAGS_PER_RESPONSE_LIMIT: usize = 1_024;

/// A label that an origin put on a response with `Cache-Tag`: 1 to 256 bytes of visible characters, no comma;
/// case-sensitive. Characters outside ASCII are allowed as UTF-8 and compared byte by byte, without normalisation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Arc<str>);

/// A tag outside the grammar; the text names the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTag {
    /// No characters at all.
    #[error("a tag must have at least one character")]
    Empty,
    /// Longer than [`TAG_BYTES_MAX`].
    #[error("a tag must be at most {TAG_BYTES_MAX} bytes")]
    TooLong,
    /// A comma, white space or a control character.
    #[error("a tag must consist of visible characters and have no comma")]
    Character,
    /// A character that nobody sees, as copying from a document leaves it behind; only for [`Tag::of_customer`].
    #[error(
        "a tag must not have an invisible character (such as a zero-width space or a direction mark); delete it, in Cache-Tag too"
    )]
    Invisible,
}

impl Tag {
    /// A tag as a customer names it in a purge.
    ///
    /// # Errors
    /// As of a tag; and an [invisible character](InvalidTag::Invisible): the tag would look like another one, complete, and
    /// hit nothing.
    pub fn of_customer(text: &str) -> Result<Self, InvalidTag> {
        let tag = text.parse()?;
        if invisible(text).is_some() { Err(InvalidTag::Invisible) } else { Ok(tag) }
    }

    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = InvalidTag;

    fn from_str(text: &str) -> Result<Self, InvalidTag> {
        if text.is_empty() {
            return Err(InvalidTag::Empty);
        }
        if text.len() > TAG_BYTES_MAX {
            return Err(InvalidTag::TooLong);
        }
        if text.contains(|c: char| c == ',' || c.is_whitespace() || c.is_control()) {
            return Err(InvalidTag::Character);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for Tag {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// The tags of one object, as read from the `Cache-Tag` lines of the response.
///
/// An object that *overflows* carries members that are not in `tags`: over the limit, outside the grammar, or cut off on
/// the way. Nobody knows any more which tags those are, so every purge of a tag of its site hits it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheTags {
    /// At most as many as the site's setting allows, in their order, each once.
    pub tags: Vec<Tag>,
    /// Members that were not taken: over the limit, outside the grammar, or lost with a part of the header. With one or
    /// more the object overflows.
    pub ignored: usize,
}

impl CacheTags {
    /// Reads the header's lines in their order, with the limit of a site that has set none
    /// ([`TAGS_PER_RESPONSE_MAX`]).
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Self {
        Self::parse_up_to(TAGS_PER_RESPONSE_MAX, lines)
    }

    /// Reads the header's lines in their order: comma-separated, optional white space trimmed, empty members skipped.
    /// `most` is the setting of the site ([`SiteTable::tags_max`](crate::SiteTable::tags_max)); what it was when an
    /// object was stored may differ from what it is now, and no purge goes wrong by that.
    pub fn parse_up_to<'a>(most: usize, lines: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut read = Self::default();
        // A set is worth its memory only where a search through all would be slow.
        let mut known = (most > TAGS_PER_RESPONSE_MAX).then(HashSet::new);
        for member in lines.into_iter().flat_map(|line| line.split(|&b| b == b',')) {
            let member = member.trim_ascii();
            if member.is_empty() {
                continue;
            }
            let Some(tag) = std::str::from_utf8(member).ok().and_then(|text| text.parse::<Tag>().ok()) else {
                read.ignored += 1;
                continue;
            };
            let is_known = match &known {
                Some(known) => known.contains(&tag),
                None => read.tags.contains(&tag),
            };
            if is_known {
                continue;
            }
            if read.tags.len() < most {
                if let Some(known) = &mut known {
                    known.insert(tag.clone());
                }
                read.tags.push(tag);
            } else {
                read.ignored += 1;
            }
        }
        read
    }

    /// Whether the object carries members that are not in `tags`: then every purge of a tag of its site hits it.
    pub const fn overflows(&self) -> bool {
        self.ignored > 0
    }

    /// The first `most` of them; the object overflows if there are more. For a header that was read before it was known
    /// whose it is, with [`TAGS_PER_RESPONSE_LIMIT`].
    #[must_use]
    pub fn limited_to(mut self, most: usize) -> Self {
        self.ignored += self.tags.len().saturating_sub(most);
        self.tags.truncate(most);
        self
    }

    /// The same tags of a response whose header did not arrive whole, so that others may have been among them.
    #[must_use]
    pub fn cut(mut self) -> Self {
        self.ignored = self.ignored.max(1);
        self
    }
}

impl From<Vec<Tag>> for CacheTags {
    /// All tags of an object.
    fn from(tags: Vec<Tag>) -> Self {
        Self { tags, ignored: 0 }
    }
}
