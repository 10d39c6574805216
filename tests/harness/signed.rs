use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use reqwest::{Method, header::HeaderMap};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// A customer's developer: has a token and a secret, signs each request.
#[derive(Clone, Debug)]
pub struct Customer {
    /// `http://…` of the API.
    pub api: String,
    /// The site.
    pub site: String,
    /// The token.
    pub token: String,
    /// The signing secret.
    pub secret: String,
    /// How far the developer's clock is ahead, in seconds.
    ahead: i64,
    http: reqwest::Client,
}

/// What the API answered.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, when it is JSON; null otherwise.
    pub json: Value,
    /// The body as it came.
    pub text: String,
}

impl Reply {
    /// The `code` of a problem.
    pub fn code(&self) -> &str {
        self.json["code"].as_str().unwrap_or_default()
    }

    /// A header as text; empty when absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The task's id, of an accepted purge.
    pub fn task(&self) -> String {
        assert_eq!(self.status, 202, "not accepted: {}", self.text);
        self.json["task_id"].as_str().expect("a 202 has a task_id").to_owned()
    }
}

impl Customer {
    /// A customer of `site`.
    pub fn new(api: &str, site: &str, token: &str, secret: &str) -> Self {
        let http = crate::http();
        Self {
            api: api.to_owned(),
            site: site.to_owned(),
            token: token.to_owned(),
            secret: secret.to_owned(),
            ahead: 0,
            http,
        }
    }

    /// The same developer with a clock that is so many seconds ahead.
    #[must_use]
    pub fn ahead(&self, seconds: i64) -> Self {
        Self { ahead: seconds, ..self.clone() }
    }

    /// The time of a signature, with nanoseconds, as the examples send it.
    pub fn timestamp() -> String {
        Self::timestamp_ahead(0)
    }

    fn timestamp_ahead(seconds: i64) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
        format!("{}.{:09}", now.as_secs().saturating_add_signed(seconds), now.subsec_nanos())
    }

    /// The value of `X-Batoff-Signature`.
    pub fn signature(
        &self,
        timestamp: &str,
        method: &str,
        path: &str,
        body: &[u8],
        key: Option<&str>,
    ) -> String {
        let body = hex::encode(Sha256::digest(body));
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()).expect("any key length");
        mac.update(format!("{timestamp}\n{method}\n{path}\n{body}").as_bytes());
        if let Some(key) = key {
            mac.update(format!("\n{key}").as_bytes());
        }
        format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
    }

    /// A request that is ready to be sent, perhaps more than once.
    pub fn request(&self, method: &str, path: &str, body: Option<&[u8]>) -> reqwest::RequestBuilder {
        self.keyed_request(method, path, body, None)
    }

    /// The same with an `Idempotency-Key`.
    pub fn keyed_request(
        &self,
        method: &str,
        path: &str,
        body: Option<&[u8]>,
        key: Option<&str>,
    ) -> reqwest::RequestBuilder {
        let timestamp = Self::timestamp_ahead(self.ahead);
        let signature = self.signature(&timestamp, method, path, body.unwrap_or_default(), key);
        let method: Method = method.parse().expect("a method");
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.api))
            .bearer_auth(&self.token)
            .header("X-Batoff-Timestamp", timestamp)
            .header("X-Batoff-Signature", signature);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json").body(body.to_vec());
        }
        request
    }

    /// Sends a request as it is.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> reqwest::Result<Reply> {
        let response = request.send().await?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let text = response.text().await?;
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Reply { status, headers, json, text })
    }

    /// `GET`, signed.
    pub async fn get(&self, path: &str) -> Reply {
        self.send(self.request("GET", path, None)).await.expect("the API answers")
    }

    /// Submits a purge.
    pub async fn purge(&self, body: &Value) -> Reply {
        let path = format!("/v1/sites/{}/purge", self.site);
        let body = body.to_string();
        self.send(self.request("POST", &path, Some(body.as_bytes()))).await.expect("the API answers")
    }

    /// Submits a purge, sending the same bytes again through restarts and refusals of the control plane, until it is
    /// accepted.
    pub async fn purge_until_accepted(&self, body: &Value) -> Reply {
        self.send_until_accepted(body, None).await
    }

    /// The same with an `Idempotency-Key`: however often it is sent, it is one purge.
    pub async fn purge_once_accepted(&self, body: &Value, key: &str) -> Reply {
        self.send_until_accepted(body, Some(key)).await
    }

    async fn send_until_accepted(&self, body: &Value, key: Option<&str>) -> Reply {
        let path = format!("/v1/sites/{}/purge", self.site);
        let body = body.to_string();
        let request = self.keyed_request("POST", &path, Some(body.as_bytes()), key);
        crate::eventually("the purge is accepted", || {
            let request = request.try_clone().expect("the body is in memory");
            async move {
                match self.send(request).await {
                    Ok(reply) if reply.status == 202 => Some(reply),
                    Ok(reply) if reply.status == 503 => None,
                    Ok(reply) => panic!("refused: {}", reply.text),
                    Err(_) => None,
                }
            }
        })
        .await
    }

    /// Every task of the site, from the API's list, newest first.
    pub async fn tasks(&self) -> Vec<Value> {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.get(&format!("/v1/sites/{}/purges?limit=200{cursor}", self.site)).await;
            assert_eq!(page.status, 200, "{}", page.text);
            all.extend(page.json["purges"].as_array().expect("a list").iter().cloned());
            let Some(next) = page.json["next_cursor"].as_str() else { return all };
            cursor = format!("&cursor={next}");
        }
    }

    /// A task's status, after at most `wait` seconds.
    pub async fn task(&self, task: &str, wait: u32) -> Reply {
        self.get(&format!("/v1/sites/{}/purge/{task}?wait={wait}&include=pops", self.site)).await
    }

    /// Waits until a task is completed, through restarts of the control plane.
    pub async fn completed(&self, task: &str) -> Value {
        let path = format!("/v1/sites/{}/purge/{task}?wait=2", self.site);
        crate::eventually(&format!("task {task} is completed"), || async {
            let reply = self.send(self.request("GET", &path, None)).await.ok()?;
            (reply.status == 200 && reply.json["state"] == "completed").then_some(reply.json)
        })
        .await
    }
}
