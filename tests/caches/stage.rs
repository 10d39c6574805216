//! Where a story plays: origin, control plane, cache and daemon, all real, and a visitor.

use batoff_tests::{eventually, http, scratch, scratch_on_disk};
use serde_json::{Value, json};

use crate::link::Link;
use crate::origin::Origin;
use crate::plane::{HOSTS, Plane};
use crate::subject::{Policy, Setting, Subject};

/// How long the removal of some thousand files may take a busy disk.
const CLEAN_UP: std::time::Duration = std::time::Duration::from_secs(150);

/// Everything that one story needs.
pub struct Stage<S> {
    /// The cache under test. Before the rest, so that it ends first.
    pub subject: S,
    tiers: Option<Tiers<S>>,
    /// The control plane.
    pub plane: Plane,
    /// The origin.
    pub origin: Origin,
    http: reqwest::Client,
    _dir: tempfile::TempDir,
}

/// The cache behind the one under test.
struct Tiers<S> {
    parent: S,
    /// Between the parent's daemon and the control plane.
    control: Link,
    /// Between the two caches.
    between: Link,
}

/// The PoP of the parent.
pub const PARENT: &str = "pop2";

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
        let dir = folder(S::ON_DISK);
        let (origin, plane) = (Origin::start().await, Plane::start(dir.path()).await);
        let setting = Setting::alone("pop1", dir.path(), &plane, origin.address(), policy);
        let subject = S::start(&setting).await;
        plane.leased(setting.name).await;
        Self { subject, tiers: None, plane, origin, http: http(), _dir: dir }
    }

    /// Starts everything, with a second cache of the same kind between the one under test and the origin. Both are on
    /// available nodes: a parent that is held serves on.
    pub async fn behind_a_parent() -> Self {
        Self::behind(&[PARENT]).await
    }

    /// The same, and the configuration of the cache under test does not name the other.
    pub async fn behind_an_undeclared_parent() -> Self {
        Self::behind(&[]).await
    }

    async fn behind(parents: &[&str]) -> Self {
        let dir = folder(S::ON_DISK);
        let (origin, plane) = (Origin::start().await, Plane::start(dir.path()).await);
        let below = |name: &str| {
            let below = dir.path().join(name);
            std::fs::create_dir(&below).expect("a folder");
            open_to_everyone(&below);
            below
        };
        let (of_parent, of_child) = (below("parent"), below("child"));
        let control = Link::to(&plane.grpc).await;
        let setting = Setting {
            control: control.address().to_string(),
            is_parent: true,
            ..Setting::alone(PARENT, &of_parent, &plane, origin.address(), Policy::Available)
        };
        let parent = S::start(&setting).await;
        let between = Link::to(&parent.visitors().to_string()).await;
        let setting = Setting {
            name: "pop1",
            dir: &of_child,
            control: plane.grpc.clone(),
            origin: between.address(),
            parents,
            is_parent: false,
            ..setting
        };
        let subject = S::start(&setting).await;
        for pop in [PARENT, "pop1"] {
            plane.leased(pop).await;
        }
        let tiers = Some(Tiers { parent, control, between });
        Self { subject, tiers, plane, origin, http: http(), _dir: dir }
    }

    fn tiers(&self) -> &Tiers<S> {
        self.tiers.as_ref().expect("a stage with a parent")
    }

    /// From now on the parent's daemon hears nothing from the control plane.
    pub fn hold_parent(&self) {
        self.tiers().control.hold();
    }

    /// It hears everything that it missed.
    pub fn release_parent(&self) {
        self.tiers().control.release();
    }

    /// How often the cache under test has asked its parent.
    pub fn asked_parent(&self) -> u64 {
        self.tiers().between.requests()
    }

    /// A visitor's request to the parent itself.
    pub async fn get_at_parent(&self, target: &str) -> Answer {
        let before = self.origin.requests(HOSTS[0], target);
        let address = self.tiers().parent.visitors();
        let answer = self.ask(address, HOSTS[0], target, &[]).await.expect("the parent answers");
        Answer { asked: self.origin.requests(HOSTS[0], target) > before, ..answer }
    }

    /// Reads a page at the parent until it comes from its cache; the origin's number.
    pub async fn filled_at_parent(&self, target: &str) -> u64 {
        eventually(&format!("{target} is a hit at the parent"), || async {
            let answer = self.get_at_parent(target).await;
            (answer.status == 200 && !answer.asked).then_some(answer.number)
        })
        .await
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
        self.ask(self.subject.visitors(), host, target, headers).await
    }

    async fn ask(
        &self,
        address: std::net::SocketAddr,
        host: &str,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Result<Answer, reqwest::Error> {
        // As it is: a client that tidied the target up would leave nothing to test.
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

    /// Sends a request as it is, and gives the whole answer. It has to ask for the connection's end.
    pub async fn raw(&self, request: &str) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let mut stream = tokio::net::TcpStream::connect(self.subject.visitors()).await.expect("a connection");
        // A cache may refuse it before it has read all, and end the connection in its own way.
        drop(stream.write_all(request.as_bytes()).await);
        let mut answer = Vec::new();
        drop(tokio::time::timeout(batoff_tests::PATIENCE, stream.read_to_end(&mut answer)).await);
        String::from_utf8_lossy(&answer).into_owned()
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

/// A folder for everything of one story.
fn folder(on_disk: bool) -> tempfile::TempDir {
    let dir = if on_disk { scratch_on_disk() } else { scratch() };
    open_to_everyone(dir.path());
    dir
}

/// Cache servers run as users of their own and have to find their sockets and files.
fn open_to_everyone(dir: &std::path::Path) {
    let everyone = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir, everyone).expect("its own folder");
}

/// A URL on the first hostname.
pub fn url(target: &str) -> String {
    format!("https://{}{target}", HOSTS[0])
}
