use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest tag, in bytes.
pub const TAG_BYTES_MAX: usize = 256;

/// Tags indexed of one response; further ones are not indexed, and counted.
pub const TAGS_PER_RESPONSE_MAX: usize = 16;

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
}

impl Tag {
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

/// The tags of one response, as read from its `Cache-Tag` lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheTags {
    /// At most [`TAGS_PER_RESPONSE_MAX`], in their order, each once.
    pub tags: Vec<Tag>,
    /// Members that were not taken: over the limit, or outside the grammar.
    pub ignored: usize,
}

impl CacheTags {
    /// Reads the header's lines in their order: comma-separated, optional white space trimmed, empty members skipped.
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut read = Self::default();
        for member in lines.into_iter().flat_map(|line| line.split(|&b| b == b',')) {
            let member = member.trim_ascii();
            if member.is_empty() {
                continue;
            }
            match std::str::from_utf8(member).ok().and_then(|text| text.parse::<Tag>().ok()) {
                Some(tag) if read.tags.contains(&tag) => {}
                Some(tag) if read.tags.len() < TAGS_PER_RESPONSE_MAX => read.tags.push(tag),
                _ => read.ignored += 1,
            }
        }
        read
    }
}
