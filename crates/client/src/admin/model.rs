//! What the operator's API takes and gives, as plain data.

use serde::{Deserialize, Serialize};

use super::overview::ConcernReport;

/// A customer's site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// Its name.
    pub site_id: String,
    /// The names it owns, wildcards as `*.example.com`.
    #[serde(default)]
    pub hostnames: Vec<String>,
    /// Its quotas where they differ from the configuration's.
    #[serde(default)]
    pub limits: SiteLimits,
    /// Objects with more tags than the site allows.
    #[serde(default)]
    pub tag_overflow: SiteOverflow,
}

/// Objects that nodes fetched with more tags than their site allows, or with malformed ones: every purge of a tag of the site
/// hits them. Nodes see the tags of what nginx, the local API, batoff-proxy and pingora store. Figures for people: each
/// node's begin anew when its daemon starts, and the control plane's with its own start, until the nodes have told them again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteOverflow {
    /// How many, summed over the nodes.
    pub objects: u64,
    /// How many nodes have met any.
    pub nodes: u32,
    /// When the last one came, to whichever node: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_at: Option<String>,
}

/// A site's own quotas; what is not set follows the control plane's configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteLimits {
    /// URL and tag items a minute, and at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items_per_minute: Option<u32>,
    /// Prefix, host and *everything* items a minute, and at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefixes_per_minute: Option<u32>,
    /// Tags of a response that are indexed, 1 to 1,024; 16 when it is not set. An object with more is hit by every purge
    /// of a tag of the site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags_per_response: Option<u32>,
}

impl SiteLimits {
    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A site to create.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NewSite {
    /// 1 to 64 of `a-z 0-9 -`.
    pub site_id: String,
    /// The names it will own.
    pub hostnames: Vec<String>,
    /// Its quotas.
    #[serde(skip_serializing_if = "SiteLimits::is_empty")]
    pub limits: SiteLimits,
    /// Take names that other sites have away from them; otherwise such a name is refused.
    #[serde(rename = "move", skip_serializing_if = "std::ops::Not::not")]
    pub takes_names: bool,
}

/// What to change of a site; what is not set stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SitePatch {
    /// All the names it shall own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostnames: Option<Vec<String>>,
    /// All its quotas: one that is not set follows the control plane's configuration again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<SiteLimits>,
    /// Take names that other sites have away from them; otherwise such a name is refused.
    #[serde(rename = "move", skip_serializing_if = "std::ops::Not::not")]
    pub takes_names: bool,
}

/// A token to issue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IssueToken {
    /// What people call it.
    pub label: String,
    /// `purge` (which includes reading) or `read`.
    pub scopes: Vec<String>,
    /// From when on it is refused (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

/// A token and its secret, shown once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedToken {
    /// Its public name, for revoking it.
    pub token_id: String,
    /// `bto_live_…`
    pub token: String,
    /// `bts_live_…`
    pub secret: String,
}

impl std::fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuedToken").field("token_id", &self.token_id).finish_non_exhaustive()
    }
}

/// What is known about a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenReport {
    /// Its public name.
    pub token_id: String,
    /// What people call it.
    #[serde(default)]
    pub label: String,
    /// What it may do.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// When it was issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// Who issued it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// From when on it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// When it was used last, to the minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<String>,
    /// From which address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_from: Option<String>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<String>,
    /// By whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_by: Option<String>,
}

/// A user of the console.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UserReport {
    /// What the user signs in with.
    pub name: String,
    /// `operator`, `manager`, `member` or `viewer`.
    pub role: String,
    /// For which sites; an operator is for all, and has none here.
    pub sites: Vec<String>,
    /// Language of the pages, `en` or `ru`; absent: the browser's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Cannot sign in.
    pub disabled: bool,
    /// Has a one-time password.
    pub must_change_password: bool,
    /// Until when that is good: RFC 3339, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_expires_at: Option<String>,
    /// A sign-in takes a code of an authenticator, too.
    pub codes: bool,
    /// How many recovery codes are left then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery_codes: Option<usize>,
    /// When the user was added: RFC 3339, UTC.
    pub created_at: String,
    /// By whom.
    pub created_by: String,
    /// When somebody signed in last: RFC 3339, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sign_in_at: Option<String>,
    /// From which address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sign_in_from: Option<String>,
}

/// A user to add.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NewUser {
    /// 1 to 64 of `a-z 0-9 . _ @ -`.
    pub name: String,
    /// `operator`, `manager`, `member` or `viewer`.
    pub role: String,
    /// For which sites; none for an operator.
    pub sites: Vec<String>,
    /// `en`, `ru`, or `auto`, which is what holds without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
}

/// What to change of a user; what is not set stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UserPatch {
    /// See [`NewUser::role`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// See [`NewUser::sites`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sites: Option<Vec<String>>,
    /// See [`NewUser::language`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Whether the user cannot sign in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
}

/// A user with a one-time password: the only time that it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedUser {
    /// As it is now.
    #[serde(flatten)]
    pub user: UserReport,
    /// To be changed at the first sign-in.
    pub password: String,
}

/// A registered node, as the control plane sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeReport {
    /// Its PoP.
    pub pop: String,
    /// Its name there.
    pub node: String,
    /// `unknown`, `away`, `joining` or `leased`.
    pub state: String,
    /// Whether its stream is open.
    pub connected: bool,
    /// What it does without a lease: `serve` or `revalidate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_lease_lost: Option<String>,
    /// Everything up to this seq is evicted there.
    pub cursor: u64,
    /// Records it is behind.
    pub lag_records: u64,
    /// Seconds it is behind.
    pub lag_seconds: f64,
    /// Milliseconds that its lease still runs; none without one.
    pub lease_remaining_ms: Option<u64>,
    /// Since when it has no lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_over_at: Option<String>,
    /// Since when it is late or has no lease, and what keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concern: Option<ConcernReport>,
    /// When the certificate ends that it showed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_until: Option<String>,
    /// Why its last heartbeat was answered without a lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// When it was last heard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heard_at: Option<String>,
    /// Its build.
    pub version: String,
    /// Cached objects in its index; missing until it has said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index_objects: Option<u64>,
    /// Memory that its index takes, in bytes; missing until it has said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index_bytes: Option<u64>,
    /// Its caches and their trouble.
    pub caches: Vec<CacheReport>,
    /// The nodes (`pop/node`) and PoPs that it fetches through.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<String>,
    /// The last record that no node between it and the origins can serve any more; 0 when that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parents_through: Option<u64>,
    /// Why that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parents_unknown: Option<String>,
}

/// One cache on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CacheReport {
    /// Its name.
    pub name: String,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble_since: Option<String>,
    /// The record that waits behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stuck_seq: Option<u64>,
}

/// All nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Nodes {
    /// Those that are registered.
    pub nodes: Vec<NodeReport>,
    /// Those that were removed, as `pop/node`: their names are blocked until they are admitted again.
    #[serde(default)]
    pub removed: Vec<String>,
}

#[derive(Deserialize)]
pub(super) struct Sites {
    pub sites: Vec<Site>,
}

#[derive(Deserialize)]
pub(super) struct Tokens {
    pub tokens: Vec<TokenReport>,
    #[serde(default)]
    pub revoked: Vec<TokenReport>,
}

#[derive(Deserialize)]
pub(super) struct Users {
    pub users: Vec<UserReport>,
}
