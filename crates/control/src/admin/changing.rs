//! A change that is written down before it is made, and after, when somebody asks for it who is no route of this API: the
//! console. (Of the routes here, `audit` writes it down.)

use std::net::IpAddr;
use std::sync::Arc;

use super::refusal::{AdminRefusal, Conflict, TITLE};
use crate::api::problem::{Code, Problem};
use crate::audit::{AuditAction, AuditEntry, AuditResult};
use crate::service::Services;

/// Who asks for a change, as the audit log calls him.
#[derive(Clone, Debug)]
pub struct ChangeAsker {
    /// See [`AuditEntry::actor`].
    pub actor: String,
    /// The address he asks from.
    pub address: Option<IpAddr>,
    /// The request's id.
    pub request_id: Option<String>,
}

/// What is about to be changed.
#[derive(Debug)]
pub struct ChangeOf {
    /// Which change it is.
    pub action: AuditAction,
    /// The site that it is about.
    pub site: Option<String>,
    /// What of it, where that is known beforehand.
    pub object: Option<String>,
    /// What was asked for, without a secret.
    pub change: Option<serde_json::Value>,
}

/// Makes a change that `change` describes, and gives what it gives, with the name of what came to be if there is one. One
/// that cannot be written down is not made. It goes on to its end, even if who asked goes away: a change is not left half
/// made, nor its entry half written.
pub async fn audited<T, F>(
    services: Arc<Services>,
    asker: ChangeAsker,
    about: ChangeOf,
    change: F,
) -> Result<T, AdminRefusal>
where
    T: Send + 'static,
    F: Future<Output = Result<(T, Option<String>), AdminRefusal>> + Send + 'static,
{
    let changing = tokio::spawn(async move {
        let entry = AuditEntry {
            site: about.site,
            object: about.object,
            change: about.change,
            address: asker.address,
            request_id: asker.request_id,
            ..AuditEntry::new(services.clock.wall(), asker.actor, about.action)
        };
        let id = services.ids.next().to_string();
        let mut begun = services.audit.begin(id, entry).await.map_err(|error| {
            tracing::error!(%error, "a change is refused, for the audit log cannot be written");
            let detail = "the audit log cannot be written now, and nothing was changed";
            Problem::detailed(Code::Unavailable, detail)
        })?;
        // A panic must not end this task: the entry is still to be written.
        let outcome = tokio::spawn(change).await.unwrap_or_else(|_| Err(after_panic()));
        let code = outcome.as_ref().err().map(AdminRefusal::code);
        let entry = &mut begun.entry;
        entry.result = match code {
            None => AuditResult::Done,
            Some("outcome_unknown") => AuditResult::Unknown,
            Some(_) => AuditResult::Refused,
        }
        .as_str()
        .into();
        entry.code = code.map(str::to_owned);
        if let Ok((_, Some(object))) = &outcome {
            entry.object = Some(object.clone());
        }
        services.audit.finish(begun).await;
        outcome.map(|(made, _)| made)
    });
    changing.await.unwrap_or_else(|_| Err(after_panic()))
}

/// A bug of ours. Whether the change was made cannot be said.
fn after_panic() -> AdminRefusal {
    Problem::detailed(Code::OutcomeUnknown, "an internal error; look before you repeat it").into()
}

impl AdminRefusal {
    /// The word for programs.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Problem(problem) => problem.code.as_str(),
            Self::Conflict(_) => "conflict",
        }
    }
}

/// As a page says it.
impl From<AdminRefusal> for Problem {
    fn from(refusal: AdminRefusal) -> Self {
        match refusal {
            AdminRefusal::Problem(problem) => problem,
            AdminRefusal::Conflict(Conflict { detail, errors }) => Self {
                title: Some(TITLE),
                detail: Some(detail.into()),
                ..Self::of_items(Code::InvalidRequest, errors)
            },
        }
    }
}
