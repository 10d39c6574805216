//! What the audit log is told of purges that changed nothing: refused ones of a token that is known, and repeats.
//!
//! Only tokens and accounts are listed, so that a stranger writes nothing; and each of them so seldom that a script that has gone wild,
//! or who has found a token without its secret, cannot push what others did out of the log's share of the disk: 60 at
//! once and 6 more a minute, some 3 MB a day. What is left out is counted, and the next that is listed says how many.

use std::collections::HashMap;

use batoff_types::SiteId;
use batoff_wire::Requester;
use parking_lot::Mutex;

use super::bucket::Rate;
use super::buckets::{Buckets, RequesterKey, key_of};
use super::problem::Problem;
use super::request_id::RequestId;
use crate::audit::{AuditAction, AuditEntry, AuditResult, actor_of};
use crate::commit::Accepted;
use crate::service::Services;

/// Entries of one token, or account.
const RATE: Rate = Rate { burst: 60, per_minute: 6 };

/// Tokens and accounts remembered one by one; further ones share a bucket.
const TOKENS_MAX: usize = 65_536;

/// Bytes of a path that an entry tells.
const PATH_BYTES_MAX: usize = 200;

/// What each token and each account may still have listed.
pub struct Refusals {
    buckets: Buckets<RequesterKey>,
    unlisted: Mutex<HashMap<RequesterKey, u64>>,
}

/// A request of a token, or of an account, that is known.
pub struct PurgeAttempt<'a> {
    /// Who asked.
    pub requester: Requester,
    /// For which site.
    pub site: &'a SiteId,
    /// The request's id.
    pub request_id: &'a RequestId,
    /// The route.
    pub path: &'a str,
}

impl Default for Refusals {
    fn default() -> Self {
        Self { buckets: Buckets::new(RATE, TOKENS_MAX, Some([0; 16])), unlisted: Mutex::default() }
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
            what: Some(beginning(asked.path)),
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
        let id = key_of(&asked.requester.identity);
        if self.buckets.take(services.clock.now(), id).is_err() {
            let mut unlisted = self.unlisted.lock();
            // Of tokens and accounts that are known, so there are only so many; and no more than those that have a bucket.
            if unlisted.len() < TOKENS_MAX || unlisted.contains_key(&id) {
                *unlisted.entry(id).or_default() += 1;
            }
            return;
        }
        let entry = with(AuditEntry {
            site: Some(asked.site.to_string()),
            address: Some(asked.requester.address),
            request_id: Some(asked.request_id.as_str().to_owned()),
            unlisted: self.unlisted.lock().remove(&id),
            ..AuditEntry::new(services.clock.wall(), actor_of(&asked.requester.identity), AuditAction::Purge)
        });
        services.audit.note(entry);
    }
}

fn beginning(path: &str) -> String {
    path.chars().take(PATH_BYTES_MAX).collect()
}
