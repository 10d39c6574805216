//! The operator's API: sites, tokens, users, nodes, audit log.

mod audit;
mod model;
mod overview;
mod replicas;

use reqwest::header::{self, HeaderValue};
use reqwest::{Method, Request};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::client::header_value;
use crate::endpoint::Connections;
use crate::reply::{self, Effect};
use crate::{Endpoint, Error, Retry, Sla};

pub use self::audit::{AuditExport, AuditFlaw, AuditQuery, AuditRecord, AuditVerdict};
pub use self::model::{
    AddedUser, CacheReport, IssueToken, IssuedToken, NewSite, NewUser, NodeReport, Nodes, Site, SiteLimits,
    SiteOverflow, SitePatch, TokenReport, UserPatch, UserReport,
};
use self::model::{Sites, Tokens, Users};
pub use self::overview::{ConcernReport, FleetReport, HourReport, OverviewReport, SlowestReport};
pub use self::replicas::{ReplicaReport, ReplicaSetWritten, ReplicasReport};

/// The operator's API: sites, tokens, nodes. Its listener is not the customers'.
#[derive(Clone)]
pub struct AdminClient {
    endpoint: Endpoint,
    token: String,
    http: Connections,
    retry: Retry,
}

impl AdminClient {
    /// Nothing is sent yet. `token` is the `bto_admin_…` that `batoff-control init` made.
    ///
    /// # Errors
    /// [`Error::Unusable`] when TLS cannot be set up.
    pub fn new(endpoint: Endpoint, token: &str) -> Result<Self, Error> {
        let http = endpoint.connect()?;
        Ok(Self { endpoint, token: token.trim().to_owned(), http, retry: Retry::default() })
    }

    /// The same, with another stubbornness.
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// All sites.
    pub async fn sites(&self) -> Result<Vec<Site>, Error> {
        self.get::<Sites>(&["sites"]).await.map(|list| list.sites)
    }

    /// One site.
    pub async fn site(&self, site: &str) -> Result<Site, Error> {
        self.get(&["sites", site]).await
    }

    /// Creates a site. Its hostnames must belong to no other.
    pub async fn create_site(&self, site: &NewSite) -> Result<Site, Error> {
        self.change(Method::POST, &["sites"], site).await
    }

    /// Changes a site. A hostname that leaves it is purged on every node.
    pub async fn update_site(&self, site: &str, patch: &SitePatch) -> Result<Site, Error> {
        self.change(Method::PATCH, &["sites", site], patch).await
    }

    /// Deletes a site with its tokens; everything that is cached for it is purged.
    pub async fn delete_site(&self, site: &str) -> Result<(), Error> {
        self.delete(&["sites", site], &[]).await
    }

    /// A site's tokens: what is known about them, never the tokens.
    pub async fn tokens(&self, site: &str) -> Result<Vec<TokenReport>, Error> {
        self.get::<Tokens>(&["sites", site, "tokens"]).await.map(|list| list.tokens)
    }

    /// A site's revoked tokens, the newest thousand revocations.
    pub async fn revoked_tokens(&self, site: &str) -> Result<Vec<TokenReport>, Error> {
        self.get::<Tokens>(&["sites", site, "tokens"]).await.map(|list| list.revoked)
    }

    /// Issues a token and its secret: the only time that they are shown.
    pub async fn issue_token(&self, site: &str, token: &IssueToken) -> Result<IssuedToken, Error> {
        self.change(Method::POST, &["sites", site, "tokens"], token).await
    }

    /// Revokes a token; refused everywhere within a second.
    pub async fn revoke_token(&self, site: &str, token_id: &str) -> Result<(), Error> {
        self.delete(&["sites", site, "tokens", token_id], &[]).await
    }

    /// All users of the console.
    pub async fn users(&self) -> Result<Vec<UserReport>, Error> {
        self.get::<Users>(&["users"]).await.map(|list| list.users)
    }

    /// One user of the console.
    pub async fn user(&self, name: &str) -> Result<UserReport, Error> {
        self.get(&["users", name]).await
    }

    /// Adds a user with a one-time password: the only time that it is shown.
    pub async fn add_user(&self, user: &NewUser) -> Result<AddedUser, Error> {
        self.change(Method::POST, &["users"], user).await
    }

    /// Changes what a user may do; with another role, or disabled, the user is signed out everywhere.
    pub async fn update_user(&self, name: &str, patch: &UserPatch) -> Result<UserReport, Error> {
        self.change(Method::PATCH, &["users", name], patch).await
    }

    /// Gives a user a new one-time password, and ends all sessions; with `codes`, a sign-in takes no code any more.
    pub async fn reset_user(&self, name: &str, codes: bool) -> Result<AddedUser, Error> {
        self.change(Method::POST, &["users", name, "reset"], &serde_json::json!({ "codes": codes })).await
    }

    /// Asks a user for no code of an authenticator any more, for who has lost it and knows the password.
    pub async fn drop_user_codes(&self, name: &str) -> Result<(), Error> {
        self.delete(&["users", name, "codes"], &[]).await
    }

    /// Signs a user out everywhere.
    pub async fn sign_out_user(&self, name: &str) -> Result<(), Error> {
        self.delete(&["users", name, "sessions"], &[]).await
    }

    /// Removes a user; all sessions end.
    pub async fn remove_user(&self, name: &str) -> Result<(), Error> {
        self.delete(&["users", name], &[]).await
    }

    /// All nodes, and the names of those that were removed.
    pub async fn nodes(&self) -> Result<Nodes, Error> {
        self.get(&["nodes"]).await
    }

    /// The control planes beside the log: those that count, those that follow, and how far each is.
    pub async fn replicas(&self) -> Result<ReplicasReport, Error> {
        self.get(&["replicas"]).await
    }

    /// Writes which control planes count from now on. Unless `force`d, not while too few of them are there, or strict nodes
    /// could not serve by their leases.
    pub async fn set_replicas(&self, members: &[u8], force: bool) -> Result<ReplicaSetWritten, Error> {
        let query = [("force", "true".to_owned())];
        let query: &[(&str, String)] = if force { &query } else { &[] };
        let body = serde_json::json!({ "members": members });
        self.change_with(Method::POST, &["replicas", "sets"], query, &body).await
    }

    /// How fast the purges of all sites were over a window such as `24h`, and which missed the target.
    pub async fn sla(&self, window: &str) -> Result<Sla, Error> {
        let mut request = self.endpoint.request(Method::GET, &["sla"], &[("window", window.to_owned())]);
        self.authorize(&mut request)?;
        let response = reply::send(&self.http, &request, Effect::Read, self.retry).await?;
        reply::json(response, Effect::Read).await
    }

    /// How all is, and what needs attention: at most a second old.
    pub async fn overview(&self) -> Result<OverviewReport, Error> {
        self.get(&["overview"]).await
    }

    /// The SLA day by day, as the API writes it: of `query` are `site`, `from`, `until`, `format` (`json` or `csv`) and
    /// `table` (`days` or `breaches`).
    pub async fn sla_export(&self, query: &[(&str, String)]) -> Result<Vec<u8>, Error> {
        let mut request = self.endpoint.request(Method::GET, &["sla", "export"], query);
        self.authorize(&mut request)?;
        let response = reply::send(&self.http, &request, Effect::Read, self.retry).await?;
        let bytes = response.bytes().await;
        let lost =
            |error: reqwest::Error| Error::Unavailable { retry_after: None, reason: error.to_string() };
        bytes.map(Vec::from).map_err(lost)
    }

    /// Lets a removed node connect and be registered again.
    pub async fn admit_node(&self, pop: &str, node: &str) -> Result<(), Error> {
        let mut request = self.endpoint.request(Method::POST, &["nodes", pop, node], &[]);
        self.authorize(&mut request)?;
        reply::send(&self.http, &request, Effect::Read, self.retry).await.map(|_| ())
    }

    /// Decommissions a node: purges wait for it no longer, and its name is blocked. Unless `force`d, one that may still
    /// serve what was purged is not removed.
    pub async fn remove_node(&self, pop: &str, node: &str, force: bool) -> Result<(), Error> {
        let query = [("force", "true".to_owned())];
        self.delete(&["nodes", pop, node], if force { &query } else { &[] }).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, Error> {
        let mut request = self.endpoint.request(Method::GET, path, &[]);
        self.authorize(&mut request)?;
        let response = reply::send(&self.http, &request, Effect::Read, self.retry).await?;
        reply::json(response, Effect::Read).await
    }

    /// Changes are sent once: unlike a purge, creating something twice is not harmless.
    async fn change<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T, Error> {
        self.change_with(method, path, &[], body).await
    }

    async fn change_with<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: &impl Serialize,
    ) -> Result<T, Error> {
        let mut request = self.endpoint.request(method, path, query);
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let body = serde_json::to_vec(body).map_err(|e| Error::Unusable(e.to_string()))?;
        *request.body_mut() = Some(body.into());
        self.authorize(&mut request)?;
        let response = reply::send(&self.http, &request, Effect::Submission, Retry::NEVER).await?;
        reply::json(response, Effect::Submission).await
    }

    async fn delete(&self, path: &[&str], query: &[(&str, String)]) -> Result<(), Error> {
        let mut request = self.endpoint.request(Method::DELETE, path, query);
        self.authorize(&mut request)?;
        reply::send(&self.http, &request, Effect::Read, self.retry).await.map(|_| ())
    }

    fn authorize(&self, request: &mut Request) -> Result<(), Error> {
        let value = header_value("token", &format!("Bearer {}", self.token))?;
        request.headers_mut().insert(header::AUTHORIZATION, value);
        Ok(())
    }
}
