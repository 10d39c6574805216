//! The purge API as one token sees it: submit, look, wait.

use std::time::{Duration, Instant};

use reqwest::header::{self, HeaderValue};
use reqwest::{Method, Request};
use sha2::{Digest, Sha256};

use crate::endpoint::Connections;
use crate::reply::{self, Effect};
use crate::{
    Credentials, DryRun, Endpoint, Error, Events, Include, ListQuery, Page, PurgeRequest, Retry,
    SIGNATURE_HEADER, Sla, TIMESTAMP_HEADER, Task, Timestamp, WAIT_MAX, sign,
};

/// What makes submissions within 24 hours one; a part of what is signed.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The longest wait that one of several control planes is asked for.
const WAIT_MAX_OF_SEVERAL: Duration = Duration::from_secs(5);

/// How often several control planes are asked for a task that they do not know …
const LOOKS_MAX: u32 = 10;

/// … and how much later each time.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The purge API, as one token sees it. Cheap to clone; connections are shared.
#[derive(Clone, Debug)]
pub struct Client {
    endpoint: Endpoint,
    credentials: Credentials,
    http: Connections,
    retry: Retry,
}

/// A purge, signed and ready to be sent, as often as need be: the control plane takes the same bytes once.
///
/// Good for 300 s from its signing; after that the API refuses it as too old.
#[derive(Debug)]
pub struct Submission(Request);

impl Client {
    /// Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Unusable`] when TLS cannot be set up, such as on a machine without root certificates.
    pub fn new(endpoint: Endpoint, credentials: Credentials) -> Result<Self, Error> {
        let http = endpoint.connect()?;
        Ok(Self { endpoint, credentials, http, retry: Retry::default() })
    }

    /// The same, with another stubbornness.
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Purges: returns when the purge is durable, long before it is completed (see [`Client::wait`]).
    pub async fn submit(&self, site: &str, purge: &PurgeRequest) -> Result<Task, Error> {
        self.send(&self.prepare(site, purge, None)?).await
    }

    /// Signs a purge without sending it. An `idempotency_key` (1 to 255 visible ASCII characters) makes later
    /// submissions with the same key and body the same purge for 24 hours, also when they are signed anew. For several control
    /// planes each submission has one, given or not: it is one purge whichever of them takes it.
    pub fn prepare(
        &self,
        site: &str,
        purge: &PurgeRequest,
        idempotency_key: Option<&str>,
    ) -> Result<Submission, Error> {
        Ok(Submission(self.purge_request(site, purge, &[], idempotency_key)?))
    }

    /// Sends a signed purge; 503 and lost connections are retried with the same bytes, with each control plane in turn.
    pub async fn send(&self, submission: &Submission) -> Result<Task, Error> {
        let response = reply::send(&self.http, &submission.0, Effect::Submission, self.retry).await?;
        reply::json(response, Effect::Submission).await
    }

    /// What the purge would hit; nothing is purged, and it costs no quota.
    pub async fn dry_run(&self, site: &str, purge: &PurgeRequest) -> Result<DryRun, Error> {
        let request = self.purge_request(site, purge, &[("dry_run", "true".to_owned())], None)?;
        let response = reply::send(&self.http, &request, Effect::Read, self.retry).await?;
        reply::json(response, Effect::Read).await
    }

    /// How far a purge has come.
    pub async fn status(&self, site: &str, task: &str, include: Include) -> Result<Task, Error> {
        self.status_after(site, task, include, Duration::ZERO).await
    }

    /// Waits until the purge is completed, but no longer than `limit`; the task as it then stands, so look at
    /// [`Task::is_completed`].
    pub async fn wait(&self, site: &str, task: &str, limit: Duration) -> Result<Task, Error> {
        self.wait_for(site, task, limit, Include::default()).await
    }

    /// [`Client::wait`] with more in the answer.
    pub async fn wait_for(
        &self,
        site: &str,
        task: &str,
        limit: Duration,
        include: Include,
    ) -> Result<Task, Error> {
        let begun = Instant::now();
        loop {
            let left = limit.saturating_sub(begun.elapsed());
            let asked = Instant::now();
            let seen = self.status_after(site, task, include, left.min(self.wait_max())).await?;
            if seen.is_completed() || begun.elapsed() >= limit {
                return Ok(seen);
            }
            // The API waits in whole seconds; a reply that comes at once must not turn this into a busy loop.
            const POLL_MIN: Duration = Duration::from_millis(100);
            tokio::time::sleep(POLL_MIN.saturating_sub(asked.elapsed()).min(left)).await;
        }
    }

    /// How long one question waits. One of several control planes may die meanwhile, and another is asked sooner then.
    fn wait_max(&self) -> Duration {
        if self.endpoint.is_several() { WAIT_MAX_OF_SEVERAL } else { WAIT_MAX }
    }

    async fn status_after(
        &self,
        site: &str,
        task: &str,
        include: Include,
        wait: Duration,
    ) -> Result<Task, Error> {
        let mut query = Vec::new();
        let names = [(include.pops, "pops"), (include.items, "items"), (include.propagation, "propagation")];
        let wanted: Vec<_> = names.into_iter().filter_map(|(on, name)| on.then_some(name)).collect();
        if !wanted.is_empty() {
            query.push(("include", wanted.join(",")));
        }
        if !wait.is_zero() {
            query.push(("wait", wait.as_secs().max(1).to_string()));
        }
        let mut request = self.endpoint.request(Method::GET, &["sites", site, "purge", task], &query);
        *request.timeout_mut() = Some(self.endpoint.answer_timeout() + wait);
        let mut looks = 1;
        loop {
            let Some(copy) = request.try_clone() else { return self.read(request).await };
            match self.read(copy).await {
                // Another control plane than the one that took it may hear of it a moment later.
                Err(error) if self.endpoint.is_several() && is_unknown_yet(&error) && looks < LOOKS_MAX => {
                    looks += 1;
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                answer => return answer,
            }
        }
    }

    /// One page of the site's tasks, newest first.
    pub async fn list(&self, site: &str, query: &ListQuery) -> Result<Page, Error> {
        self.read(self.endpoint.request(Method::GET, &["sites", site, "purges"], &query.pairs())).await
    }

    /// The site's tasks over as many pages as it takes, newest first, at most `max`.
    pub async fn list_all(&self, site: &str, query: &ListQuery, max: usize) -> Result<Vec<Task>, Error> {
        let mut query = query.clone();
        let mut tasks = Vec::new();
        loop {
            let page = self.list(site, &query).await?;
            tasks.extend(page.purges);
            match page.next_cursor {
                Some(cursor) if tasks.len() < max => query.cursor = Some(cursor),
                _ => {
                    tasks.truncate(max);
                    return Ok(tasks);
                }
            }
        }
    }

    /// How fast the site's purges were over a window such as `24h` (a number and `s`, `m`, `h` or `d`, at most 30 days;
    /// widened to whole slots of five minutes), and which missed the target.
    pub async fn sla(&self, site: &str, window: &str) -> Result<Sla, Error> {
        let query = [("window", window.to_owned())];
        self.read(self.endpoint.request(Method::GET, &["sites", site, "sla"], &query)).await
    }

    /// Each purge of the site as it is accepted and at each change of its state, from now on, or after the event with
    /// that id.
    pub async fn events(&self, site: &str, last_event_id: Option<&str>) -> Result<Events, Error> {
        let mut request = self.endpoint.request(Method::GET, &["sites", site, "purges", "stream"], &[]);
        *request.timeout_mut() = None;
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Some(id) = last_event_id {
            request.headers_mut().insert("last-event-id", header_value("event id", id)?);
        }
        self.sign(&mut request)?;
        let response = reply::send(&self.http, &request, Effect::Read, self.retry).await?;
        Ok(Events::new(self.http.clone(), response))
    }

    async fn read<T: serde::de::DeserializeOwned>(&self, mut request: Request) -> Result<T, Error> {
        self.sign(&mut request)?;
        let response = reply::send(&self.http, &request, Effect::Read, self.retry).await?;
        reply::json(response, Effect::Read).await
    }

    fn purge_request(
        &self,
        site: &str,
        purge: &PurgeRequest,
        query: &[(&str, String)],
        idempotency_key: Option<&str>,
    ) -> Result<Request, Error> {
        let body = serde_json::to_vec(purge).map_err(|e| Error::Unusable(e.to_string()))?;
        let mut request = self.endpoint.request(Method::POST, &["sites", site, "purge"], query);
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // What one control plane took without an answer is the same purge for the next, at once and not only after two seconds.
        let own_key = self.endpoint.is_several().then(|| key_of(&body));
        *request.body_mut() = Some(body.into());
        if let Some(key) = idempotency_key.or(own_key.as_deref()) {
            request.headers_mut().insert(IDEMPOTENCY_KEY, key_value(key)?);
        }
        self.sign(&mut request)?;
        Ok(request)
    }

    fn sign(&self, request: &mut Request) -> Result<(), Error> {
        let timestamp = Timestamp::now();
        let url = request.url();
        let path_and_query = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let body = request.body().and_then(reqwest::Body::as_bytes).unwrap_or_default();
        let key = request.headers().get(IDEMPOTENCY_KEY).and_then(|key| key.to_str().ok());
        let signature = sign(
            self.credentials.secret(),
            timestamp.as_str(),
            request.method().as_str(),
            &path_and_query,
            body,
            key,
        );
        let token = header_value("token", &format!("Bearer {}", self.credentials.token()))?;
        let headers = request.headers_mut();
        headers.insert(header::AUTHORIZATION, token);
        headers.insert(TIMESTAMP_HEADER, header_value("timestamp", timestamp.as_str())?);
        headers.insert(SIGNATURE_HEADER, header_value("signature", &signature)?);
        Ok(())
    }
}

/// A key for this submission alone: equal bodies of one instant may well be one purge.
fn key_of(body: &[u8]) -> String {
    let digest = Sha256::new().chain_update(Timestamp::now().as_str()).chain_update(body).finalize();
    hex::encode(&digest[..16])
}

fn is_unknown_yet(error: &Error) -> bool {
    error.code() == Some("not_found")
}

/// The same rule as the API's; a key with white space at its ends would be signed with it and sent without.
fn key_value(key: &str) -> Result<HeaderValue, Error> {
    if !(1..=255).contains(&key.len()) || !key.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Error::Unusable("an idempotency key is 1 to 255 visible ASCII characters".to_owned()));
    }
    header_value("idempotency key", key)
}

pub(crate) fn header_value(what: &str, text: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| Error::Unusable(format!("the {what} has characters that no HTTP header may have")))?;
    value.set_sensitive(what == "token");
    Ok(value)
}
