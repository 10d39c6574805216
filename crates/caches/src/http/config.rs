//! `[caches.http]`: the requests, what other purges do, and what is refused because such a cache cannot do it.

use std::fmt;

use batoff_edge::config::ConfigError;
use serde::Deserialize;

use crate::shared::pipeline::Address;

/// The longest time that an operator's command to empty the cache may take, in seconds.
const EMPTY_SECS_MAX: u64 = 600;

/// `[caches.http]`: a cache that removes a URL, with all its variants, when it is sent one request.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSection {
    /// Where the requests go: `host:port`, or the path of a Unix socket.
    pub address: String,
    /// Their method.
    #[serde(default = "default_method")]
    pub method: String,
    /// Their target: `{target}` is path and query, `{key}` is host, path and query, `{host}` is the host with its port.
    #[serde(default = "default_target")]
    pub target: String,
    /// Further headers, `Name: value`, with the same placeholders; a secret, perhaps.
    #[serde(default)]
    pub headers: Vec<Header>,
    /// The statuses that mean that the URL is not in the cache any more.
    #[serde(default = "default_done")]
    pub done: Vec<u16>,
    /// What a purge by prefix, tag, host or of everything does.
    pub others: Option<Others>,
    /// The command that empties the cache, with its arguments: for resets, and for purges that cannot be listed. When it
    /// has ended with 0, nothing that was stored before it began may be served.
    #[serde(default)]
    pub empty: Vec<String>,
    /// How long that may take.
    #[serde(default = "default_empty_within")]
    pub empty_within_secs: u64,
}

/// What a purge does that names no URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Others {
    /// One request for each URL that it hits: all that the cache holds is registered through the local API.
    Registered,
    /// It empties the cache.
    Empty,
}

/// A header line; it may hold a secret, so it is never shown.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Header(String);

impl Header {
    /// The line.
    pub(super) fn line(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.split(':').next().unwrap_or_default())
    }
}

impl HttpSection {
    /// Checks what types cannot say. `registered`: there is a `[caches.local]` for objects to be registered with.
    pub fn validate(&self, registered: bool) -> Result<(), ConfigError> {
        let invalid =
            |key: &str, message: String| Err(ConfigError::invalid(format!("caches.http.{key}"), message));
        if let Err(message) = self.address.parse::<Address>() {
            return invalid("address", message);
        }
        if self.method.is_empty() || !self.method.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return invalid("method", "must be capital letters, such as PURGE".to_owned());
        }
        if !self.target.starts_with('/') && !self.target.starts_with("http") && !self.target.starts_with('{')
        {
            return invalid("target", "must begin with a slash, a scheme or a placeholder".to_owned());
        }
        if self.target.contains(char::is_whitespace) {
            return invalid("target", "must not have spaces".to_owned());
        }
        for header in &self.headers {
            let line = header.line();
            if line.contains(char::is_control) || line.split_once(':').is_none_or(|(name, _)| name.is_empty())
            {
                return invalid("headers", format!("{header:?}: each must be \"Name: value\""));
            }
        }
        match self.others {
            None => invalid(
                "others",
                "is missing: by itself this cache can only be purged by URL. Set others = \"registered\" if all that it \
                 holds is registered through [caches.local], or \"empty\" to have every other purge empty it"
                    .to_owned(),
            ),
            Some(Others::Registered) if !registered => invalid(
                "others",
                "is \"registered\", but there is no [caches.local] to register anything with".to_owned(),
            ),
            Some(_) if self.empty.is_empty() => invalid(
                "empty",
                "is missing: a node that is reset has to drop everything that it holds; name a command that empties the \
                 cache"
                    .to_owned(),
            ),
            Some(_) if !(1..=EMPTY_SECS_MAX).contains(&self.empty_within_secs) => {
                invalid("empty_within_secs", format!("must be 1 to {EMPTY_SECS_MAX}"))
            }
            Some(_) => Ok(()),
        }
    }
}

fn default_method() -> String {
    "PURGE".to_owned()
}

fn default_target() -> String {
    "{target}".to_owned()
}

fn default_done() -> Vec<u16> {
    vec![200, 204, 404]
}

const fn default_empty_within() -> u64 {
    60
}
