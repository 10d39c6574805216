//! Who asked for a purge: its record says it, and the catalog knows what the operator calls that token.

use std::net::IpAddr;

use batoff_log::StoreError;
use batoff_types::{SiteId, TaskId};
use batoff_wire::RequesterIdentity;
use ulid::Ulid;

use crate::catalog::{Catalog, TokenId};
use crate::service::Services;
use crate::store::records;

/// Who asked, as far as the record says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asker {
    /// The token's label, its id when nobody knows it any more; of who is signed in here, the account.
    pub name: String,
    /// From where.
    pub address: Option<IpAddr>,
}

/// Of a task; empty when its record does not say, or is gone.
pub async fn of(services: &Services, task: TaskId) -> Result<Asker, StoreError> {
    let Some(row) = services.store.log().find_task(task).await? else { return Ok(Asker::default()) };
    // A record too large to stand in its row twice is not looked for: the audit log tells.
    if row.meta.is_empty() {
        return Ok(Asker::default());
    }
    let (_, requester) = records::requested(row.seq, &row.meta)?;
    let Some(requester) = requester else { return Ok(Asker::default()) };
    let name = match requester.identity {
        RequesterIdentity::Token(token) => name_of(&services.catalog, &row.site, Ulid::from_bytes(token)),
        RequesterIdentity::Account(name) => name,
    };
    Ok(Asker { name, address: Some(requester.address) })
}

fn name_of(catalog: &Catalog, site: &SiteId, token: Ulid) -> String {
    let id = TokenId::from_ulid(token);
    let issued = catalog.tokens(site.as_str()).into_iter().find(|token| token.id == id);
    let label = issued.map(|token| token.label.to_string()).or_else(|| {
        let revoked = catalog.revoked(site.as_str()).into_iter().find(|revoked| revoked.token.id == id);
        revoked.map(|revoked| revoked.token.label.to_string())
    });
    label.filter(|label| !label.is_empty()).unwrap_or_else(|| id.to_string())
}
