//! What the audit log is told of purges that changed nothing: refused ones of a token that is known, and repeats.
//!
//! Only tokens are listed, so that a stranger writes nothing; and each of them so seldom that a script that has gone wild,
//! or who has found a token without its secret, cannot push what others did out of the log's share of the disk: 60 at
//! once and 6 more a minute, some 3 MB a day. What is left out is counted, and the next that is listed says how many.

use std::collections::HashMap;
use std::net::IpAddr;

use http::Uri;
use parking_lot::Mutex;

use super::bucket::Rate;
use super::buckets::Buckets;
use super::problem::Problem;
use super::request_id::RequestId;
use crate::audit::{AuditAction, AuditEntry, AuditResult, actor_of};
use crate::catalog::{Token, TokenId};
use crate::commit::Accepted;
use crate::service::Services;

/// Entries of one token.
const RATE: Rate = Rate { burst: 60, per_minute: 6 };

/// Tokens remembered one by one; further ones share a bucket.
const TOKENS_MAX: usize = 65_536;

/// Bytes of a path that an entry tells.
const PATH_BYTES_MAX: usize = 200;

/// What each token may still have listed.
pub struct Refusals {
    buckets: Buckets<TokenId>,
    unlisted: Mutex<HashMap<TokenId, u64>>,
}

/// A request of a token that is known.
pub struct PurgeAttempt<'a> {
    pub token: &'a Token,
    pub address: IpAddr,
    pub request_id: &'a RequestId,
    pub uri: &'a Uri,
}

impl Default for Refusals {
    fn default() -> Self {
        let shared = TokenId::from_ulid(ulid::Ulid::nil());
        Self { buckets: Buckets::new(RATE, TOKENS_MAX, Some(shared)), unlisted: Mutex::default() }
    }
}

impl Refusals {
    /// It was refused.
    pub fn refused(&self, services: &Services, asked: &PurgeAttempt<'_>, problem: &Problem) {
        let (status, code) = (problem.code.status(), problem.code.as_str());
        self.note(services, asked, |entry| AuditEntry {
            result: AuditResult::of(status, Some(code)).as_str().into(),
            status: Some(status.as_u16()),
            code: Some(code.to_owned()),
            what: Some(beginning(asked.uri.path())),
            ..entry
        });
    }

    /// It had been done before.
    pub fn repeated(&self, services: &Services, asked: &PurgeAttempt<'_>, accepted: &Accepted) {
        self.note(services, asked, |entry| AuditEntry {
            object: Some(accepted.task.to_string()),
            result: AuditResult::Repeated.as_str().into(),
            ..entry
        });
    }

    fn note(
        &self,
        services: &Services,
        asked: &PurgeAttempt<'_>,
        with: impl FnOnce(AuditEntry) -> AuditEntry,
    ) {
        let id = asked.token.id;
        if self.buckets.take(services.clock.now(), id).is_err() {
            let mut unlisted = self.unlisted.lock();
            // Of tokens that are known, so there are only so many; and no more than those that have a bucket.
            if unlisted.len() < TOKENS_MAX || unlisted.contains_key(&id) {
                *unlisted.entry(id).or_default() += 1;
            }
            return;
        }
        let entry = with(AuditEntry {
            site: Some(asked.token.site.to_string()),
            address: Some(asked.address),
            request_id: Some(asked.request_id.as_str().to_owned()),
            unlisted: self.unlisted.lock().remove(&id),
            ..AuditEntry::new(services.clock.wall(), actor_of(id.ulid()), AuditAction::Purge)
        });
        services.audit.note(entry);
    }
}

fn beginning(path: &str) -> String {
    path.chars().take(PATH_BYTES_MAX).collect()
}
