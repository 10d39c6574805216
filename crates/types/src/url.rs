//! The one normaliser. Control plane, edge and proxy all write a URL the way this file does, or a purge misses.

mod plain;

use std::fmt;
use std::str::FromStr;

use self::plain::plain;
use crate::invisible;
use crate::name::{HOSTNAME_BYTES_MAX, Hostname};

/// The longest URL or prefix, in bytes, as given and in normal form.
pub const URL_BYTES_MAX: usize = 8_192;

/// What is wrong with a URL or a prefix; the text names the remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    /// Over [`URL_BYTES_MAX`].
    #[error("longer than {URL_BYTES_MAX} bytes")]
    TooLong,
    /// A control character, a tab or a line break.
    #[error("has a control character; percent-escape it")]
    ControlCharacter,
    /// No scheme, or not `http` or `https`.
    #[error("must begin with http:// or https://")]
    Scheme,
    /// A user name or password.
    #[error("must not have a user name or password")]
    UserInfo,
    /// The host is missing, longer than [`HOSTNAME_BYTES_MAX`], has a `*`, or is none by the URL standard (IDNA included).
    #[error("has no valid host; a wildcard is none")]
    Host,
    /// A character that nobody sees, as copying from a document leaves it behind; only for
    /// [`PurgeUrl::of_customer`].
    #[error(
        "has an invisible character (such as a zero-width or no-break space, or a direction mark); delete it, or percent-escape it if it is meant"
    )]
    Invisible,
    /// It ends in `*`; only for [`PurgeUrl::of_customer`].
    #[error(
        "ends in *, which is no wildcard here; name what stands before it in `prefixes`, which match all that begins so"
    )]
    Wildcard,
    /// The port is not a number up to 65535.
    #[error("has an invalid port")]
    Port,
    /// Anything else that the URL standard refuses.
    #[error("is not a valid URL")]
    Malformed,
    /// A prefix that ends in `%` or `%` and one digit.
    #[error("ends inside a percent-escape; end before it or complete it")]
    EndsInEscape,
}

/// The two schemes a purge may name. They are checked, then dropped: a purge hits both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
}

impl Scheme {
    /// The scheme's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// A URL in normal form.
///
/// Per the WHATWG URL standard: scheme and host in lower case, the host in ASCII (IDNA), fragment and dot segments gone,
/// an empty path written `/`. Beyond it: percent-escapes in upper-case hex, unreserved characters (RFC 3986, 2.3)
/// unescaped, in path and query alike; one dot behind the host goes (it is the same name, RFC 1034, 3.1); and so do the
/// ports 80 and 443 under either scheme, since a purge hits both schemes. A URL with any other port is an object of its
/// own. Otherwise the query is kept as it is, an empty one (`?`) too. Spaces around the URL do not belong to it, and a
/// backslash in the path is a slash: that is the standard. Equality includes the scheme; what a purge hits is decided by
/// [`PurgeUrl::key`].
///
/// ```
/// use batoff_types::PurgeUrl;
///
/// let url: PurgeUrl = "HTTPS://Пример.рф:443/a/../caf%c3%a9/%7Euser?b=%2f&a#top".parse()?;
/// assert_eq!(url.as_str(), "https://xn--e1afmkfd.xn--p1ai/caf%C3%A9/~user?b=%2F&a");
/// assert_eq!(url.key(), "xn--e1afmkfd.xn--p1ai/caf%C3%A9/~user?b=%2F&a");
/// # Ok::<(), batoff_types::InvalidUrl>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PurgeUrl(Normal);

/// The beginning of URLs, in the same normal form; matched byte by byte on [`PurgeUrl::key`], not by path segment.
///
/// It names a whole host (`https://www.example.co` can never reach `www.example.com`), may reach into the query, and
/// does not end inside a percent-escape.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UrlPrefix(Normal);

impl PurgeUrl {
    /// The URL in normal form, with its scheme.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// `host[:port]/path[?query]`: what two URLs share when a purge of one hits the other.
    pub fn key(&self) -> &str {
        self.0.key()
    }

    /// The hostname, without a port.
    pub fn host(&self) -> &str {
        self.0.host()
    }

    /// The hostname as a value of its own.
    pub fn hostname(&self) -> Hostname {
        Hostname::from_normal(self.host())
    }

    /// The URL of a request as a cache sees it: scheme of the connection, `Host` (or `:authority`), and the target in
    /// origin form (`/path?query`).
    ///
    /// A cache must not store the answer to a request for which this is an error: no purge of a URL could hit it.
    pub fn of_request(scheme: Scheme, authority: &str, path_and_query: &str) -> Result<Self, InvalidUrl> {
        // Otherwise part of the one could pass for part of the other: the standard skips slashes before a host.
        if authority.is_empty() || authority.contains(['/', '?', '#', '\\']) {
            return Err(InvalidUrl::Host);
        }
        if !path_and_query.starts_with('/') {
            return Err(InvalidUrl::Malformed);
        }
        format!("{}://{authority}{path_and_query}", scheme.as_str()).parse()
    }

    /// From a key that came from [`PurgeUrl::key`], under that scheme: the same URL again if the scheme is the same, and
    /// what a purge hits in any case. For stores that take URLs apart and need many of them back: nothing is parsed.
    ///
    /// For any other text the result is not in normal form; it is never for text from outside.
    pub fn from_normal(scheme: Scheme, key: &str) -> Self {
        let host_start = scheme.as_str().len() + "://".len();
        let from = if key.starts_with('[') { key.find(']').unwrap_or(0) } else { 0 };
        // By bytes: a search for one of several characters takes longer than all the rest of this.
        let ends_host = |&byte: &u8| matches!(byte, b':' | b'/');
        let host_len = key.as_bytes()[from..].iter().position(ends_host).map_or(key.len(), |at| from + at);
        let mut text = String::with_capacity(host_start + key.len());
        text.push_str(scheme.as_str());
        text.push_str("://");
        text.push_str(key);
        let text = text.into_boxed_str();
        // Both fit: the whole text is at most URL_BYTES_MAX.
        let (host_start, host_end) = (host_start as u16, (host_start + host_len) as u16);
        Self(Normal { text, host_start, host_end })
    }

    /// From a key as [`PurgeUrl::key`] gives it, for stores that keep keys only. The key is the same again; the scheme
    /// may be the other one.
    pub fn from_key(key: &str) -> Result<Self, InvalidUrl> {
        let (authority, path_and_query) = key.split_at(key.find('/').ok_or(InvalidUrl::Malformed)?);
        // Which is never longer than what the key came from.
        Self::of_request(Scheme::Http, authority, path_and_query)
    }

    /// As a customer names it in a purge: also refused is what no customer means.
    ///
    /// # Errors
    /// As of a URL; and an [invisible character](InvalidUrl::Invisible), or a [`*` at the end](InvalidUrl::Wildcard).
    pub fn of_customer(text: &str) -> Result<Self, InvalidUrl> {
        refuse_what_nobody_means(text)?;
        text.parse()
    }

    /// The same URL for a cache whose keys have no port; `None` when it has none.
    pub fn without_port(&self) -> Option<Self> {
        self.0.without_port().map(Self)
    }
}

impl UrlPrefix {
    /// The prefix in normal form, with its scheme.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// `host[:port]/path…`: the bytes that a matching URL's key begins with.
    pub fn key(&self) -> &str {
        self.0.key()
    }

    /// The hostname, without a port.
    pub fn host(&self) -> &str {
        self.0.host()
    }

    /// The hostname as a value of its own.
    pub fn hostname(&self) -> Hostname {
        Hostname::from_normal(self.host())
    }

    /// As [`PurgeUrl::of_customer`].
    ///
    /// # Errors
    /// As there, and as of a prefix.
    pub fn of_customer(text: &str) -> Result<Self, InvalidUrl> {
        refuse_what_nobody_means(text)?;
        text.parse()
    }

    /// From a key as [`UrlPrefix::key`] gives it. The key is the same again; the scheme may be the other one.
    ///
    /// # Errors
    /// The text is not the key of a prefix.
    pub fn from_key(key: &str) -> Result<Self, InvalidUrl> {
        let (authority, path) = key.split_at(key.find('/').ok_or(InvalidUrl::Malformed)?);
        if authority.is_empty() || authority.contains(['?', '#', '\\']) {
            return Err(InvalidUrl::Host);
        }
        format!("http://{authority}{path}").parse()
    }

    /// The same prefix for a cache whose keys have no port; `None` when it has none.
    pub fn without_port(&self) -> Option<Self> {
        self.0.without_port().map(Self)
    }

    /// Whether a purge of this prefix hits `url`.
    pub fn matches(&self, url: &PurgeUrl) -> bool {
        url.key().starts_with(self.key())
    }
}

impl FromStr for PurgeUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        normalise(text).map(Self)
    }
}

impl FromStr for UrlPrefix {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let normal = normalise(text)?;
        let tail = normal.text.as_bytes();
        let ends_in_escape =
            matches!(tail, [.., b'%']) || matches!(tail, [.., b'%', digit] if digit.is_ascii_hexdigit());
        if ends_in_escape { Err(InvalidUrl::EndsInEscape) } else { Ok(Self(normal)) }
    }
}

impl fmt::Display for PurgeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl fmt::Debug for PurgeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0.text, f)
    }
}

impl fmt::Display for UrlPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl fmt::Debug for UrlPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}…", self.0.text)
    }
}

/// Normalised text, and where in it the host stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Normal {
    text: Box<str>,
    host_start: u16,
    host_end: u16,
}

impl Normal {
    fn key(&self) -> &str {
        &self.text[usize::from(self.host_start)..]
    }

    fn host(&self) -> &str {
        &self.text[usize::from(self.host_start)..usize::from(self.host_end)]
    }

    fn without_port(&self) -> Option<Self> {
        let after_host = &self.text[usize::from(self.host_end)..];
        let path = after_host.strip_prefix(':').and_then(|port| port.find('/').map(|at| &port[at..]))?;
        let text = [&self.text[..usize::from(self.host_end)], path].concat().into();
        Some(Self { text, ..*self })
    }
}

fn normalise(text: &str) -> Result<Normal, InvalidUrl> {
    plain(text).map_or_else(|| normalise_any(text), Ok)
}

fn normalise_any(text: &str) -> Result<Normal, InvalidUrl> {
    if text.len() > URL_BYTES_MAX {
        return Err(InvalidUrl::TooLong);
    }
    // The standard strips tabs and line breaks; a purge that holds one is a mistake worth hearing of.
    if text.chars().any(char::is_control) {
        return Err(InvalidUrl::ControlCharacter);
    }
    let url = ::url::Url::parse(text).map_err(|error| match error {
        ::url::ParseError::RelativeUrlWithoutBase => InvalidUrl::Scheme,
        ::url::ParseError::InvalidPort => InvalidUrl::Port,
        ::url::ParseError::EmptyHost
        | ::url::ParseError::IdnaError
        | ::url::ParseError::InvalidIpv4Address
        | ::url::ParseError::InvalidIpv6Address
        | ::url::ParseError::InvalidDomainCharacter => InvalidUrl::Host,
        _ => InvalidUrl::Malformed,
    })?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(InvalidUrl::Scheme);
    }
    if has_user_info(text) {
        return Err(InvalidUrl::UserInfo);
    }
    // The standard lets `*` pass. A purge of `https://*.example.com/` would be accepted, and hit nothing.
    let host = url
        .host_str()
        // The root's dot. A second one makes an empty label of what would be left.
        .map(|host| host.strip_suffix('.').unwrap_or(host))
        .filter(|host| !host.is_empty() && !host.ends_with('.'))
        .filter(|host| host.len() <= HOSTNAME_BYTES_MAX && !host.contains('*'))
        .ok_or(InvalidUrl::Host)?;

    let mut normal = String::with_capacity(text.len() + 8);
    normal.push_str(url.scheme());
    normal.push_str("://");
    let host_start = normal.len();
    normal.push_str(host);
    let host_end = normal.len();
    // The default of either scheme is none: a purge hits both.
    if let Some(port) = url.port().filter(|port| !matches!(port, 80 | 443)) {
        normal.push(':');
        normal.push_str(&port.to_string());
    }
    unescape_unreserved(url.path(), &mut normal);
    if let Some(query) = url.query() {
        normal.push('?');
        unescape_unreserved(query, &mut normal);
    }
    if normal.len() > URL_BYTES_MAX {
        return Err(InvalidUrl::TooLong);
    }
    // Both fit: the whole text is at most URL_BYTES_MAX.
    Ok(Normal { text: normal.into(), host_start: host_start as u16, host_end: host_end as u16 })
}

/// What the standard takes and no customer means: it would be accepted, completed, and hit nothing.
fn refuse_what_nobody_means(text: &str) -> Result<(), InvalidUrl> {
    if invisible(text).is_some() {
        return Err(InvalidUrl::Invisible);
    }
    if text.trim_end_matches(' ').ends_with('*') {
        return Err(InvalidUrl::Wildcard);
    }
    Ok(())
}

/// Whether the authority has an `@`. The standard drops an empty user name (`https://@host/`), so the URL that it has
/// parsed does not tell.
fn has_user_info(text: &str) -> bool {
    let after_scheme = text.split_once(':').map_or("", |(_, rest)| rest.trim_start_matches(['/', '\\']));
    after_scheme.split(['/', '\\', '?', '#']).next().is_some_and(|authority| authority.contains('@'))
}

/// Appends `text` with its percent-escapes in upper case and those of unreserved characters resolved.
///
/// A `%` that begins no escape stays as it is. An escaped hex digit right behind such a `%` stays escaped: resolved, it
/// would make an escape of the two (`%%34` must not become `%4`), and normalising twice would give another URL.
fn unescape_unreserved(text: &str, out: &mut String) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let escaped = match bytes[at..] {
            [b'%', high, low, ..] => hex_digit(high).zip(hex_digit(low)).map(|(h, l)| h << 4 | l),
            _ => None,
        };
        match escaped {
            Some(byte) if is_unreserved(byte) && !(byte.is_ascii_hexdigit() && ends_in_open_escape(out)) => {
                out.push(char::from(byte));
                at += 3;
            }
            Some(byte) => {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                out.push('%');
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
                at += 3;
            }
            None => {
                // The URL parser has escaped everything outside ASCII.
                out.push(char::from(bytes[at]));
                at += 1;
            }
        }
    }
}

fn ends_in_open_escape(out: &str) -> bool {
    match out.as_bytes() {
        [.., b'%'] => true,
        [.., b'%', digit] => digit.is_ascii_hexdigit(),
        _ => false,
    }
}

const fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// RFC 3986, section 2.3.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}
