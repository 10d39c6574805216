//! Names of sites, nodes, PoPs and hosts: their grammar, and the normal form of a hostname.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::invisible;

/// The longest hostname, in bytes of its normal form; the DNS has none longer.
pub const HOSTNAME_BYTES_MAX: usize = 255;

/// A name that does not follow its grammar; the text says which rule it breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?}: {rule}")]
pub struct InvalidName {
    /// What kind of name it should have been.
    pub what: &'static str,
    /// What was given.
    pub value: String,
    /// The rule that it breaks.
    pub rule: &'static str,
}

impl InvalidName {
    fn new(what: &'static str, value: &str, rule: &'static str) -> Self {
        Self { what, value: value.chars().take(256).collect(), rule }
    }
}

fn label(what: &'static str, text: &str) -> Result<Arc<str>, InvalidName> {
    let fits = (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if fits {
        Ok(text.into())
    } else {
        Err(InvalidName::new(what, text, "must be 1 to 64 of a-z, 0-9 and -"))
    }
}

/// The name of a customer's site: 1 to 64 of `a-z 0-9 -`, chosen when the site is created.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteId(Arc<str>);

impl SiteId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SiteId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        label("site", text).map(Self)
    }
}

impl fmt::Display for SiteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for SiteId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A node: the PoP it stands in and its name there, written `fra1/edge-03`. Each half is 1 to 64 of `a-z 0-9 -`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName {
    pop: Arc<str>,
    node: Arc<str>,
}

impl NodeName {
    /// From the two halves.
    pub fn new(pop: &str, node: &str) -> Result<Self, InvalidName> {
        Ok(Self { pop: label("PoP", pop)?, node: label("node", node)? })
    }

    /// The PoP.
    pub fn pop(&self) -> &str {
        &self.pop
    }

    /// The node's name within its PoP.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The URI that stands in the node's certificate as a subject alternative name.
    pub fn spiffe_uri(&self) -> String {
        format!("spiffe://batoff/pop/{}/node/{}", self.pop, self.node)
    }

    /// The node named by a certificate's URI, if it has the form that [`NodeName::spiffe_uri`] writes.
    pub fn from_spiffe_uri(uri: &str) -> Option<Self> {
        let (pop, node) = uri.strip_prefix("spiffe://batoff/pop/")?.split_once("/node/")?;
        Self::new(pop, node).ok()
    }
}

impl FromStr for NodeName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let (pop, node) =
            text.split_once('/').ok_or_else(|| InvalidName::new("node", text, "must be <pop>/<node>"))?;
        Self::new(pop, node)
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.pop, self.node)
    }
}

/// Parents that a node may name. Each is looked at whenever one of them gets on.
pub const PARENTS_MAX: usize = 64;

/// A cache between a node and the origins, as its configuration names it: one node, written `fra1/edge-03`, or all nodes
/// of a PoP, written `fra1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Parent {
    /// This node.
    Node(NodeName),
    /// Every node that is registered in this PoP, whenever it is; never the node itself that names it.
    Pop(Arc<str>),
}

impl Parent {
    /// All nodes of a PoP.
    pub fn pop(pop: &str) -> Result<Self, InvalidName> {
        label("PoP", pop).map(Self::Pop)
    }
}

impl FromStr for Parent {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text.contains('/') { text.parse().map(Self::Node) } else { Self::pop(text) }
    }
}

impl fmt::Display for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) => node.fmt(f),
            Self::Pop(pop) => f.write_str(pop),
        }
    }
}

/// A hostname in normal form: lower case, ASCII (IDNA per UTS 46 as the WHATWG URL standard uses it), or an IP literal
/// as it stands in a URL; without a port and without the dot of the root (RFC 1034, 3.1: `www.example.test.` is the same
/// name), at most [`HOSTNAME_BYTES_MAX`] long, and without a wildcard ([`HostPattern`] has those).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hostname(Arc<str>);

impl Hostname {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// For parsers of this crate that hold a host already normalised by the URL standard.
    pub(crate) fn from_normal(text: &str) -> Self {
        Self(text.into())
    }
}

impl FromStr for Hostname {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let invalid = |rule| InvalidName::new("hostname", text, rule);
        // IDNA drops most of them without a word (UTS 46, "ignored"), and keeps others that nobody sees.
        if invisible(text).is_some() {
            return Err(invalid(
                "must not have an invisible character; delete it, or write the name in its ASCII form (xn--…) if it is meant",
            ));
        }
        if text.is_empty()
            || text.contains(|c: char| "/?#@\\%".contains(c) || c.is_whitespace() || c.is_control())
        {
            return Err(invalid("must be a bare hostname, without scheme, path or white space"));
        }
        if text.contains(':') && !text.starts_with('[') || text.contains("]:") {
            return Err(invalid("must not have a port"));
        }
        match ::url::Host::parse(text) {
            Ok(host) => {
                let mut host = host.to_string();
                if host.ends_with('.') {
                    host.pop();
                }
                if host.is_empty() || host.ends_with('.') {
                    return Err(invalid("must not have empty labels"));
                }
                // Looked for here, because some other characters become one on the way (U+FF0A).
                if host.contains('*') {
                    return Err(invalid("must be one hostname, without a wildcard"));
                }
                if host.len() > HOSTNAME_BYTES_MAX {
                    return Err(invalid("must be at most 255 bytes"));
                }
                Ok(Self(host.into()))
            }
            Err(_) => Err(invalid("is not a valid hostname")),
        }
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for Hostname {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// What a site owns: one hostname, or every name under one (`*.example.com`: any depth, not `example.com` itself).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// Just this name.
    Exact(Hostname),
    /// Every name that ends in a dot and this one.
    Under(Hostname),
}

impl HostPattern {
    /// Whether `host` is one of the names meant.
    pub fn matches(&self, host: &Hostname) -> bool {
        match self {
            Self::Exact(name) => name == host,
            Self::Under(name) => {
                host.as_str().strip_suffix(name.as_str()).is_some_and(|front| front.ends_with('.'))
            }
        }
    }
}

impl FromStr for HostPattern {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        match text.strip_prefix("*.") {
            Some(name) => name.parse().map(Self::Under),
            None if text.contains('*') => Err(InvalidName::new(
                "hostname",
                text,
                "a wildcard stands alone at the front, as in *.example.com",
            )),
            None => text.parse().map(Self::Exact),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => name.fmt(f),
            Self::Under(name) => write!(f, "*.{name}"),
        }
    }
}
