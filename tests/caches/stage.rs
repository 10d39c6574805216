//! Where a story plays: origin, control plane, cache and daemon, all real, and a visitor.

use batoff_tests::{eventually, http, scratch};
use serde_json::{Value, json};

use crate::origin::Origin;
use crate::plane::{HOSTS, Plane};
use crate::subject::{Policy, Setting, Subject};

/// How long the removal of some thousand files may take a busy disk.
const CLEAN_UP: std::time::Duration = std::time::Duration::from_secs(150);

/// Everything that one story needs.
pub struct Stage<S> {
    /// The cache under test. Before the rest, so that it ends first.
    pub subject: S,
    /// The control plane.
    pub plane: Plane,
    /// The origin.
    pub origin: Origin,
    http: reqwest::Client,
    _dir: tempfile::TempDir,
}

/// What a visitor got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The number that the origin gave the answer.
    pub number: u64,
    /// Whether the origin was asked while the visitor waited. `false` is a hit.
    pub asked: bool,
}

impl<S: Subject> Stage<S> {
    /// Starts everything on a strict node, if the cache can be fenced.
    pub async fn strict() -> Self {
        Self::with(if S::STRICT { Policy::Strict } else { Policy::Available }).await
    }

    /// Starts everything.
    pub async fn with(policy: Policy) -> Self {
        let dir = scratch();
        // Cache servers run as users of their own and have to find their sockets and files.
        let everyone = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir.path(), everyone).expect("its own folder");
        let (origin, plane) = (Origin::start().await, Plane::start(dir.path()).await);
        let setting =
            Setting { name: "pop1", dir: dir.path(), plane: &plane, origin: origin.address(), policy };
        let subject = S::start(&setting).await;
        plane.leased(setting.name).await;
        Self { subject, plane, origin, http: http(), _dir: dir }
    }

    /// A visitor's request to the first hostname.
    pub async fn get(&self, target: &str) -> Answer {
        self.get_from(HOSTS[0], target, &[]).await
    }

    /// A visitor's request.
    pub async fn get_from(&self, host: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
        let before = self.origin.requests(host, target);
        let answer = self
            .try_get(host, target, headers)
            .await
            .unwrap_or_else(|error| panic!("{host}{target}: {error}"));
        Answer { asked: self.origin.requests(host, target) > before, ..answer }
    }

    /// A visitor's request, without looking at the origin; `Err` when the cache does not answer.
    pub async fn try_get(
        &self,
        host: &str,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Result<Answer, reqwest::Error> {
        // As it is: a client that tidied the target up would leave nothing to test.
        let address = self.subject.visitors();
        let mut request = self.http.get(format!("http://{address}{target}")).header("Host", host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let reply = request.send().await?;
        let status = reply.status().as_u16();
        let body = reply.text().await?;
        let number =
            body.lines().next().and_then(|line| line.strip_prefix("number=")).and_then(|n| n.parse().ok());
        Ok(Answer { status, number: number.unwrap_or(0), asked: false })
    }

    /// Reads a page until it comes from the cache.
    pub async fn fill(&self, target: &str) -> Answer {
        self.fill_from(HOSTS[0], target, &[]).await
    }

    /// Reads a page until it comes from the cache.
    pub async fn fill_from(&self, host: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
        eventually(&format!("{host}{target} is a hit"), || async {
            let answer = self.get_from(host, target, headers).await;
            assert_eq!(answer.status, 200, "{host}{target}");
            (!answer.asked).then_some(answer)
        })
        .await
    }

    /// The same of a host of which much is still being removed: thousands of files take a busy disk a minute.
    pub async fn fill_after_clean_up(&self, target: &str) -> Answer {
        let begun = std::time::Instant::now();
        loop {
            let answer = self.get(target).await;
            assert_eq!(answer.status, 200, "{target}");
            if !answer.asked {
                return answer;
            }
            assert!(begun.elapsed() < CLEAN_UP, "{target} is not served from the cache again");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }

    /// Whether a page comes from the cache.
    pub async fn hits(&self, target: &str) -> bool {
        !self.get(target).await.asked
    }

    /// Submits a purge and waits until it is completed: no node can serve it any more, or so it is said.
    pub async fn purge(&self, body: Value) {
        let task = self.plane.customer.purge_until_accepted(&body).await.task();
        self.plane.customer.completed(&task).await;
    }

    /// Purges one URL on the first hostname.
    pub async fn purge_url(&self, target: &str) {
        self.purge(json!({"urls": [url(target)]})).await;
    }
}

/// A URL on the first hostname.
pub fn url(target: &str) -> String {
    format!("https://{}{target}", HOSTS[0])
}
