//! The adapter: one request for each URL that was hit, or the command that empties the cache where that is not enough.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use batoff_edge::cache::{Cache, CacheTrouble, Needs, Proof};
use batoff_index::Match;
use batoff_types::message::LeasePolicy;
use batoff_types::{Body, PurgeUrl, Record, Selector};
use tokio::process::Command;
use tokio::sync::Mutex;

use super::config::{HttpSection, Others};
use crate::shared::pipeline::{Address, Pipeline};
use crate::{CacheOpenError, Locator, Surroundings};

/// The name in logs, in metrics and at the control plane.
const NAME: &str = "http";

/// A cache that removes a URL, with all its variants, when it is sent one request.
///
/// It does not ask whether it may serve, so it cannot be fenced: its node is available. What becomes of a fetch that is
/// under way when its URL is purged is up to the cache: Traffic Server stores it, if nothing was stored before.
#[derive(Debug)]
pub struct Http {
    section: HttpSection,
    others: Others,
    pipeline: Mutex<Pipeline>,
}

impl Http {
    /// Refuses what such a cache cannot do.
    pub fn open(section: &HttpSection, around: &Surroundings) -> Result<Self, CacheOpenError> {
        let setup = |message: String| CacheOpenError::Setup { cache: NAME, message };
        if around.policy == LeasePolicy::Revalidate {
            return Err(setup(
                "this cache does not ask whether it may serve, so it cannot be fenced; set [lease] on_lease_lost = \"serve\""
                    .to_owned(),
            ));
        }
        if around.path.has_parents() {
            return Err(setup(
                "this cache stores whatever it fetches, so it cannot wait for parents that are behind; fetch from the origins \
                 themselves and remove [path] parents, or use a cache with an adapter of its own"
                    .to_owned(),
            ));
        }
        let address: Address = section.address.parse().map_err(setup)?;
        let others = section.others.ok_or_else(|| setup("others is missing".to_owned()))?;
        Ok(Self { section: section.clone(), others, pipeline: Mutex::new(Pipeline::new(address)) })
    }

    async fn remove(&self, urls: &BTreeSet<&str>) -> Result<(), CacheTrouble> {
        let requests: Vec<_> = urls.iter().map(|key| request(&self.section, key)).collect();
        let mut pipeline = self.pipeline.lock().await;
        let replies = pipeline.send(&requests).await;
        let replies =
            replies.map_err(|error| CacheTrouble(format!("the cache at {}: {error}", pipeline.address())))?;
        for (url, reply) in urls.iter().zip(replies) {
            if !self.section.done.contains(&reply.status) {
                let Self { section, .. } = self;
                let message = format!("the cache answers {} {url} with {}", section.method, reply.status);
                return Err(CacheTrouble(message));
            }
        }
        Ok(())
    }

    async fn empty(&self) -> Result<(), CacheTrouble> {
        let trouble = |what: String| CacheTrouble(format!("the command that empties the cache {what}"));
        let [program, args @ ..] = self.section.empty.as_slice() else {
            return Err(trouble("is missing".to_owned()));
        };
        let run = Command::new(program).args(args).kill_on_drop(true).output();
        let within = Duration::from_secs(self.section.empty_within_secs);
        match tokio::time::timeout(within, run).await {
            Ok(Ok(output)) if output.status.success() => Ok(()),
            Ok(Ok(output)) => {
                let said = String::from_utf8_lossy(&output.stderr);
                Err(trouble(format!("ended with {}: {}", output.status, said.trim())))
            }
            Ok(Err(error)) => Err(trouble(format!("cannot be run: {program}: {error}"))),
            Err(_) => Err(trouble(format!("did not end within {} s", within.as_secs()))),
        }
    }
}

#[async_trait]
impl Cache<Locator> for Http {
    fn name(&self) -> &str {
        NAME
    }

    fn needs(&self) -> Needs {
        Needs::Objects
    }

    /// Whoever fills it may register nothing at all.
    fn is_counted(&self) -> bool {
        false
    }

    fn proof(&self) -> Proof {
        Proof::Eviction
    }

    /// URLs need not be registered to be removed.
    async fn begin(&self, records: &[Arc<Record>]) -> Result<(), CacheTrouble> {
        if self.others == Others::Empty && records.iter().any(|record| hits_more_than_urls(record)) {
            return self.empty().await;
        }
        if records.iter().any(|record| matches!(record.body, Body::Unknown)) {
            return self.empty().await;
        }
        let urls = records.iter().flat_map(|record| urls(record)).map(PurgeUrl::key).collect();
        self.remove(&urls).await
    }

    async fn evict(&self, objects: &[Match<Locator>]) -> Result<(), CacheTrouble> {
        self.remove(&objects.iter().map(|object| object.url.key()).collect()).await
    }

    async fn flush(&self) -> Result<(), CacheTrouble> {
        self.empty().await
    }
}

fn hits_more_than_urls(record: &Record) -> bool {
    match &record.body {
        Body::Purge(purge) => purge.selectors.iter().any(|selector| !matches!(selector, Selector::Url(_))),
        Body::Site(change) => !change.affected.is_empty(),
        Body::Unknown => true,
        Body::NodeRegistered(_) | Body::NodeRemoved(_) | Body::ReplicaSet(_) => false,
    }
}

fn urls(record: &Record) -> impl Iterator<Item = &PurgeUrl> {
    let selectors = match &record.body {
        Body::Purge(purge) => purge.selectors.as_slice(),
        _ => &[],
    };
    selectors.iter().filter_map(|selector| match selector {
        Selector::Url(url) => Some(url),
        _ => None,
    })
}

pub(super) fn request(section: &HttpSection, key: &str) -> Vec<u8> {
    let (host, target) = key.split_at(key.find('/').unwrap_or(key.len()));
    let fill = |template: &str| fill(template, &[("{target}", target), ("{key}", key), ("{host}", host)]);
    let mut text = format!("{} {} HTTP/1.1\r\nHost: {host}\r\n", section.method, fill(&section.target));
    for header in &section.headers {
        text.push_str(&fill(header.line()));
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    text.into_bytes()
}

/// In one pass: what is filled in may look like a placeholder.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut text = String::with_capacity(template.len() + 64);
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        let known = values.iter().find(|(name, _)| rest.starts_with(name));
        let (value, length) = known.map_or(("{", 1), |(name, value)| (*value, name.len()));
        text.push_str(value);
        rest = &rest[length..];
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(text: &str) -> HttpSection {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_request_is_made_from_its_templates() {
        let plain = section("address = '127.0.0.1:80'");
        let text = String::from_utf8(request(&plain, "a.example:8443/x?y={host}")).unwrap();
        assert_eq!(text, "PURGE /x?y={host} HTTP/1.1\r\nHost: a.example:8443\r\n\r\n");
        let other = section(
            "address = '/run/x.sock'\nmethod = 'BAN'\ntarget = '/purge/{key}'\nheaders = ['X-Key: s3cret', 'X-Host: {host}']",
        );
        let text = String::from_utf8(request(&other, "a.example/x")).unwrap();
        assert_eq!(
            text,
            "BAN /purge/a.example/x HTTP/1.1\r\nHost: a.example\r\nX-Key: s3cret\r\nX-Host: a.example\r\n\r\n"
        );
        assert!(!format!("{other:?}").contains("s3cret"), "{other:?}");
    }

    #[test]
    fn a_strict_node_and_one_with_parents_are_refused() {
        let around = |policy, has_parents| {
            let fence = Arc::new(batoff_edge::Fence::new(policy));
            Surroundings {
                index: Arc::new(batoff_index::Index::new(batoff_index::IndexConfig::default())),
                fence: Arc::clone(&fence),
                path: Arc::new(batoff_edge::Path::new(has_parents)),
                overflow: Arc::default(),
                policy,
                state_dir: "/nowhere".into(),
                provenance: batoff_edge::Provenance::new(batoff_edge::Identity::random(), fence),
                resumes: true,
                stop: tokio_util::sync::CancellationToken::new(),
            }
        };
        let section = section("address = '127.0.0.1:80'\nothers = 'empty'\nempty = ['x']");
        let error = Http::open(&section, &around(LeasePolicy::Revalidate, false)).unwrap_err();
        assert!(error.is_usage() && error.to_string().contains("on_lease_lost"), "{error}");
        let error = Http::open(&section, &around(LeasePolicy::Serve, true)).unwrap_err();
        assert!(error.is_usage() && error.to_string().contains("[path] parents"), "{error}");
        Http::open(&section, &around(LeasePolicy::Serve, false)).unwrap();
    }

    #[test]
    fn what_it_cannot_do_is_refused_and_not_ignored() {
        let refused =
            |text: &str, registered| section(text).validate(registered).map_err(|error| error.to_string());
        let error = refused("address = '127.0.0.1:80'", true).unwrap_err();
        assert!(error.contains("others") && error.contains("registered"), "{error}");
        let error =
            refused("address = '127.0.0.1:80'\nothers = 'registered'\nempty = ['x']", false).unwrap_err();
        assert!(error.contains("caches.local"), "{error}");
        let error = refused("address = '127.0.0.1:80'\nothers = 'empty'", false).unwrap_err();
        assert!(error.contains("empty"), "{error}");
        for wrong in [
            "headers = ['no-colon']",
            "headers = [\"A: b\\r\\nC: d\"]",
            "method = 'purge x'",
            "target = 'a b'",
        ] {
            refused(&format!("address = '127.0.0.1:80'\nothers = 'empty'\nempty = ['x']\n{wrong}"), false)
                .unwrap_err();
        }
        refused("address = '127.0.0.1:80'\nothers = 'empty'\nempty = ['x']", false).unwrap();
    }
}
