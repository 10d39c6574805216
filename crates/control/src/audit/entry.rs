//! One entry of the audit log: who did what, from where, when, and with which result.

use std::borrow::Cow;
use std::net::IpAddr;

use batoff_types::{Purge, Record, UnixMillis};
use batoff_wire::{Requester, RequesterIdentity};
use serde::{Deserialize, Serialize};
use ulid::Ulid;
use utoipa::ToSchema;

/// Who holds the operator's token.
pub const OPERATOR: &str = "admin";

/// The control plane itself: what it writes about its own audit log.
pub const ITSELF: &str = "batoff-control";

/// Bytes of what a purge takes away, as an entry says it; a longer text is cut, and an ellipsis marks it.
const WHAT_BYTES_MAX: usize = 200;

/// Bytes of the body of a change, as an entry keeps it. Of a larger one its size and SHA-256 are kept.
pub(super) const CHANGE_BYTES_MAX: usize = 4_096;

/// What can be done that an entry tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditAction {
    /// A purge was asked for.
    Purge,
    /// A site was created.
    SiteCreate,
    /// Its hostnames or limits were changed.
    SiteChange,
    /// It was removed with its tokens.
    SiteRemove,
    /// A token was issued.
    TokenIssue,
    /// A token was revoked.
    TokenRevoke,
    /// A node's name was let in again.
    NodeAdmit,
    /// A node was decommissioned.
    NodeRemove,
    /// It was written which control planes count.
    ReplicaSet,
    /// The list of revoked certificates became another one: what was added, what was taken out.
    CertificatesRevoked,
    /// Somebody signed in to the console, or tried to.
    UserSignIn,
    /// Somebody signed out, here or everywhere.
    UserSignOut,
    /// Somebody changed his password.
    UserPassword,
    /// Somebody set an authenticator up: his sign-ins take a code.
    UserCodesOn,
    /// Somebody took it away.
    UserCodesOff,
    /// A user of the console was added.
    UserAdd,
    /// A user's role, sites or language were changed, or whether he can sign in.
    UserChange,
    /// A user was given a one-time password.
    UserReset,
    /// A user was removed.
    UserRemove,
    /// The audit log begins.
    AuditBegin,
    /// The oldest entries were forgotten, as `retention` says.
    AuditTrim,
    /// The store is another one than before: a copy, or a restored backup.
    LogChanged,
    /// Records of the purge log were gone before their entries were written.
    LogGap,
}

impl AuditAction {
    /// All of them.
    pub const ALL: [Self; 23] = [
        Self::Purge,
        Self::SiteCreate,
        Self::SiteChange,
        Self::SiteRemove,
        Self::TokenIssue,
        Self::TokenRevoke,
        Self::NodeAdmit,
        Self::NodeRemove,
        Self::ReplicaSet,
        Self::CertificatesRevoked,
        Self::UserSignIn,
        Self::UserSignOut,
        Self::UserPassword,
        Self::UserCodesOn,
        Self::UserCodesOff,
        Self::UserAdd,
        Self::UserChange,
        Self::UserReset,
        Self::UserRemove,
        Self::AuditBegin,
        Self::AuditTrim,
        Self::LogChanged,
        Self::LogGap,
    ];

    /// As entries and filters write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Purge => "purge",
            Self::SiteCreate => "site.create",
            Self::SiteChange => "site.change",
            Self::SiteRemove => "site.remove",
            Self::TokenIssue => "token.issue",
            Self::TokenRevoke => "token.revoke",
            Self::NodeAdmit => "node.admit",
            Self::NodeRemove => "node.remove",
            Self::ReplicaSet => "replica.set",
            Self::CertificatesRevoked => "certificates.revoked",
            Self::UserSignIn => "user.sign_in",
            Self::UserSignOut => "user.sign_out",
            Self::UserPassword => "user.password",
            Self::UserCodesOn => "user.codes_on",
            Self::UserCodesOff => "user.codes_off",
            Self::UserAdd => "user.add",
            Self::UserChange => "user.change",
            Self::UserReset => "user.reset",
            Self::UserRemove => "user.remove",
            Self::AuditBegin => "audit.begin",
            Self::AuditTrim => "audit.trim",
            Self::LogChanged => "log.changed",
            Self::LogGap => "log.gap",
        }
    }

    /// The action of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == name)
    }
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditResult {
    /// It was done: of a purge, it is durable.
    Done,
    /// It was refused, and nothing was done.
    Refused,
    /// It had been done before, and nothing was done now.
    Repeated,
    /// It was begun, and may or may not have been done: the process ended, or the store did not say.
    Unknown,
}

impl AuditResult {
    /// As entries write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Repeated => "repeated",
            Self::Unknown => "unknown",
        }
    }

    /// Of a request that was answered so.
    pub fn of(status: http::StatusCode, code: Option<&str>) -> Self {
        match code {
            Some("outcome_unknown") => Self::Unknown,
            _ if status.is_success() => Self::Done,
            _ => Self::Refused,
        }
    }
}

/// One entry. Its canonical form, which is stored, hashed and exported, is this as JSON in one line, members in this
/// order, those that are absent left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Its place in the chain, from 1 on without a gap.
    pub number: u64,
    /// When it was done, to the millisecond: of a purge, when it was accepted.
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    #[schema(value_type = String, format = DateTime)]
    pub at: UnixMillis,
    /// `token:` and the token's public id, `user:` and an account's name, `stranger` of a sign-in that was refused,
    /// [`OPERATOR`] or [`ITSELF`].
    pub actor: String,
    /// See [`AuditAction`].
    #[schema(value_type = String)]
    pub action: Cow<'static, str>,
    /// The site that it was about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// What it was about: of a purge the task, of a token its id, of a node `pop/node`, of a user the
    /// name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// What a purge takes away, in short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what: Option<String>,
    /// What was asked to be changed, as it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub change: Option<serde_json::Value>,
    /// The client's address, as `api.trusted_proxies` gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub address: Option<IpAddr>,
    /// See [`AuditResult`].
    #[schema(value_type = String)]
    pub result: Cow<'static, str>,
    /// The HTTP status of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Of a refusal, its code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The request's id, the same as in the answer and in every program's log lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Refusals of this actor before this one that were too many to be listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlisted: Option<u64>,
}

impl AuditEntry {
    /// About nothing in particular yet, and done. The number is given when it is written.
    pub fn new(at: UnixMillis, actor: impl Into<String>, action: AuditAction) -> Self {
        Self {
            number: 0,
            at,
            actor: actor.into(),
            action: action.as_str().into(),
            site: None,
            object: None,
            what: None,
            change: None,
            address: None,
            result: AuditResult::Done.as_str().into(),
            status: None,
            code: None,
            request_id: None,
            unlisted: None,
        }
    }

    /// Of a purge that is durable, from its own record.
    pub(super) fn of_purge(record: &Record, purge: &Purge, requester: Option<Requester>) -> Self {
        let actor = match &requester {
            Some(requester) => actor_of(&requester.identity),
            // A record of a build that did not note it.
            None => "unknown".to_owned(),
        };
        Self {
            site: Some(purge.site.to_string()),
            object: Some(record.task.to_string()),
            what: Some(what_of(purge)),
            address: requester.map(|requester| requester.address),
            status: Some(http::StatusCode::ACCEPTED.as_u16()),
            request_id: Some(record.request_id.as_ref().to_owned()),
            ..Self::new(record.accepted_at, actor, AuditAction::Purge)
        }
    }

    /// The body of a change, as it was sent; of a large one its size and hash, and of one that is no JSON nothing.
    pub fn with_change(mut self, body: &[u8]) -> Self {
        use sha2::{Digest, Sha256};
        self.change = match body.len() {
            0 => None,
            1..=CHANGE_BYTES_MAX => serde_json::from_slice(body).ok(),
            bytes => {
                let sha256 = hex::encode(Sha256::digest(body));
                Some(serde_json::json!({ "bytes": bytes, "sha256": sha256 }))
            }
        };
        self
    }

    /// The canonical form.
    #[expect(clippy::expect_used, reason = "strings, numbers and JSON always have a JSON form")]
    pub(super) fn line(&self) -> String {
        serde_json::to_string(self).expect("strings, numbers and JSON")
    }
}

/// The actor that a token, or an account, is.
pub fn actor_of(identity: &RequesterIdentity) -> String {
    match identity {
        RequesterIdentity::Token(token) => format!("token:{}", Ulid::from_bytes(*token)),
        RequesterIdentity::Account(name) => format!("user:{name}"),
    }
}

/// `url https://www.example.com/a and 2 more, soft`.
fn what_of(purge: &Purge) -> String {
    let mut what = match purge.selectors.first() {
        Some(first) => format!("{} {}", first.kind(), first.value()).trim_end().to_owned(),
        None => String::new(),
    };
    if what.len() > WHAT_BYTES_MAX {
        let end = (0..=WHAT_BYTES_MAX).rev().find(|at| what.is_char_boundary(*at)).unwrap_or_default();
        what.truncate(end);
        what.push('…');
    }
    if purge.selectors.len() > 1 {
        what.push_str(&format!(" and {} more", purge.selectors.len() - 1));
    }
    if purge.soft {
        what.push_str(", soft");
    }
    what
}

/// To the millisecond: entries are compared with log lines of several programs.
fn write_time<S: serde::Serializer>(at: &UnixMillis, serializer: S) -> Result<S::Ok, S::Error> {
    let millis = i64::try_from(at.0).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
    serializer.collect_str(&time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ"))
}

fn read_time<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<UnixMillis, D::Error> {
    let text = <Cow<'_, str>>::deserialize(deserializer)?;
    let time: jiff::Timestamp = text.parse().map_err(serde::de::Error::custom)?;
    Ok(UnixMillis(u64::try_from(time.as_millisecond()).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use batoff_types::{Body, Selector, Seq, TaskId};

    use super::*;

    fn purge(selectors: Vec<Selector>, soft: bool) -> Purge {
        Purge { site: "shop".parse().unwrap(), selectors, soft }
    }

    #[test]
    fn the_canonical_form_is_one_line_and_comes_back() {
        let tags = ["a", "b"].map(|tag| Selector::Tag(tag.parse().unwrap())).to_vec();
        let purge = purge(tags, true);
        let record = Record {
            seq: Seq::FIRST,
            accepted_at: UnixMillis(1_776_672_751_042),
            task: TaskId::from_bytes([0; 16]),
            request_id: "req-1".into(),
            semantics: 2,
            trace: None,
            body: Body::Purge(purge.clone()),
        };
        let identity = RequesterIdentity::Token([0; 16]);
        let requester = Requester { identity, address: "192.0.2.7".parse().unwrap() };
        let entry = AuditEntry { number: 7, ..AuditEntry::of_purge(&record, &purge, Some(requester)) };
        let line = entry.line();
        assert_eq!(
            line,
            r#"{"number":7,"at":"2026-04-20T08:12:31.042Z","actor":"token:00000000000000000000000000","action":"purge","site":"shop","object":"00000000000000000000000000","what":"tag a and 1 more, soft","address":"192.0.2.7","result":"done","status":202,"request_id":"req-1"}"#
        );
        assert_eq!(serde_json::from_str::<AuditEntry>(&line).unwrap(), entry);
    }

    #[test]
    fn what_a_purge_takes_away_is_told_in_short() {
        assert_eq!(what_of(&purge(vec![Selector::Everything], false)), "everything");
        let long = format!("https://www.example.com/{}", "я".repeat(300));
        let what = what_of(&purge(vec![Selector::Url(long.parse().unwrap())], false));
        assert!(what.len() <= WHAT_BYTES_MAX + '…'.len_utf8() && what.ends_with('…'), "{what}");
    }

    #[test]
    fn a_change_is_kept_as_sent_and_a_large_one_by_its_hash() {
        let entry = || AuditEntry::new(UnixMillis(0), OPERATOR, AuditAction::SiteCreate);
        let small = entry().with_change(br#"{"site_id": "shop"}"#);
        assert_eq!(small.change, Some(serde_json::json!({"site_id": "shop"})));
        let large = entry().with_change(&vec![b' '; CHANGE_BYTES_MAX + 1]).change.unwrap();
        assert_eq!(large["bytes"], CHANGE_BYTES_MAX + 1);
        assert_eq!((entry().with_change(b"").change, entry().with_change(b"{").change), (None, None));
    }

    #[test]
    fn each_action_has_its_name() {
        for action in AuditAction::ALL {
            assert_eq!(AuditAction::from_name(action.as_str()), Some(action));
        }
        assert_eq!(AuditAction::from_name("everything"), None);
    }
}
