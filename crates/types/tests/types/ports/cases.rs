//! What a port means, case by case: for the types, and for the caches' tests, which include this file.

/// A page that a visitor asked for over plain HTTP, and a purge of its URL.
#[derive(Clone, Copy, Debug)]
pub struct PortCase {
    /// Scheme and port that the purge names: `https://` and `:8443`.
    pub purged: (&'static str, &'static str),
    /// The port in the visitor's `Host`.
    pub visited: &'static str,
    /// Whether the purge hits the page in a cache whose keys have ports. Where they have none, it always does.
    pub hits: bool,
}

const fn case(purged: (&'static str, &'static str), visited: &'static str, hits: bool) -> PortCase {
    PortCase { purged, visited, hits }
}

/// 80 and 443 are no port, whatever the scheme; any other makes a URL of its own.
pub const PORTS: [PortCase; 12] = [
    case(("https://", ""), "", true),
    case(("http://", ":443"), "", true),
    case(("https://", ":80"), "", true),
    case(("https://", ":443"), ":80", true),
    case(("https://", ""), ":443", true),
    case(("http://", ""), ":80", true),
    case(("http://", ":8443"), ":8443", true),
    case(("https://", ":8443"), ":8443", true),
    case(("https://", ":8443"), "", false),
    case(("https://", ":443"), ":8443", false),
    case(("https://", ""), ":8443", false),
    case(("https://", ":8080"), ":8443", false),
];
