//! The operator's audit log.

use reqwest::{Method, Response};
use serde::{Deserialize, Serialize};

use super::AdminClient;
use crate::Error;
use crate::endpoint::causes;
use crate::reply::{self, Effect};

/// Entries that the API gives at once.
const PAGE_ENTRIES_MAX: usize = 200;

/// Which entries of the audit log, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// About this site.
    pub site: Option<String>,
    /// By this actor: `admin`, or `token:` and a token's id.
    pub actor: Option<String>,
    /// Of this kind, such as `purge` or `token.revoke`.
    pub action: Option<String>,
    /// At or after this time (RFC 3339).
    pub since: Option<String>,
    /// Before this time (RFC 3339).
    pub until: Option<String>,
}

/// One entry of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Its place in the chain.
    pub number: u64,
    /// When it was done.
    pub at: String,
    /// Who did it.
    pub actor: String,
    /// What was done.
    pub action: String,
    /// The site that it was about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// The task, token or node that it was about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// What a purge takes away, in short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what: Option<String>,
    /// What was asked to be changed, as it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<serde_json::Value>,
    /// From where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// `done`, `refused`, `repeated` or `unknown`.
    pub result: String,
    /// The HTTP status of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Of a refusal, its code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The request's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Refusals of this actor before this one that were too many to be listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlisted: Option<u64>,
    /// Its hash, which covers it and everything before.
    pub hash: String,
}

/// Whether the audit log is whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditVerdict {
    /// Whether the chain is whole, and the head that was given, if one was, is confirmed.
    pub ok: bool,
    /// The first entry that is kept.
    pub first: u64,
    /// Entries that were looked at.
    pub entries: u64,
    /// The chain's end: to be kept elsewhere, and given to a later look.
    pub head: String,
    /// About the head that was given: `confirmed`, `differs`, `missing`, `forgotten` or `foreign`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_head: Option<String>,
    /// What does not fit.
    #[serde(default)]
    pub flaws: Vec<AuditFlaw>,
    /// All that does not fit, as a number.
    #[serde(default)]
    pub flaws_total: u64,
    /// Where the store became another one: a copy, or a restored backup.
    #[serde(default)]
    pub store_changes: Vec<serde_json::Value>,
}

/// Something in the audit log that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditFlaw {
    /// The entry at which it shows.
    pub number: u64,
    /// What is wrong.
    pub what: String,
}

/// The audit log as lines of JSON, as they come.
pub struct AuditExport(Response);

impl AuditExport {
    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it breaks off: what came so far is not all of it.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let broken = |error| Error::Unavailable { reason: causes(&error), retry_after: None };
        Ok(self.0.chunk().await.map_err(broken)?.map(|chunk| chunk.to_vec()))
    }
}

#[derive(Deserialize)]
struct AuditRecords {
    entries: Vec<AuditRecord>,
    next_cursor: Option<String>,
}

impl AdminClient {
    /// The newest entries that fit, at most `most`.
    pub async fn audit(&self, query: &AuditQuery, most: usize) -> Result<Vec<AuditRecord>, Error> {
        let given = [
            ("site", &query.site),
            ("actor", &query.actor),
            ("action", &query.action),
            ("since", &query.since),
            ("until", &query.until),
        ];
        let given = given.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
        let mut parameters: Vec<(&str, String)> = given.collect();
        let filters = parameters.len();
        let mut entries = Vec::new();
        loop {
            let limit = (most - entries.len()).min(PAGE_ENTRIES_MAX);
            parameters.push(("limit", limit.to_string()));
            let mut request = self.endpoint.request(Method::GET, &["audit"], &parameters);
            self.authorize(&mut request)?;
            let response = reply::send(&self.http, &request, Effect::Read, self.retry).await?;
            let page: AuditRecords = reply::json(response, Effect::Read).await?;
            entries.extend(page.entries);
            match page.next_cursor {
                Some(cursor) if entries.len() < most => {
                    parameters.truncate(filters);
                    parameters.push(("cursor", cursor));
                }
                _ => return Ok(entries),
            }
        }
    }

    /// The audit log from an entry on, oldest first; the first line says where it begins.
    pub async fn export_audit(&self, from: u64) -> Result<AuditExport, Error> {
        let query = [("from", from.to_string())];
        let mut request = self.endpoint.request(Method::GET, &["audit", "export"], &query);
        self.authorize(&mut request)?;
        reply::send(&self.http, &request, Effect::Read, self.retry).await.map(AuditExport)
    }

    /// Whether the audit log is whole, and, with the head that an earlier look told, whether it is still the same up to
    /// there.
    pub async fn verify_audit(&self, head: Option<&str>) -> Result<AuditVerdict, Error> {
        let query: Vec<_> = head.map(|head| ("head", head.to_owned())).into_iter().collect();
        let mut request = self.endpoint.request(Method::GET, &["audit", "verify"], &query);
        self.authorize(&mut request)?;
        let response = reply::send(&self.http, &request, Effect::Read, self.retry).await?;
        reply::json(response, Effect::Read).await
    }
}
