//! What is shown, one claim after the other.

use std::io;
use std::time::Duration;

use batoff_types::{Cursor, FillToken, Generation, PurgeUrl};

use super::canary::PATIENCE;
use super::{Bench, CheckArgs};
use crate::nginx::files::Found;
use crate::nginx::header::Stamp;
use crate::nginx::key::KeyTemplate;
use crate::nginx::name::{FileName, Named};
use crate::nginx::share::Share;
use crate::shared::pipeline::Reply;
use crate::shared::report::{AGING, CheckError, X_CACHE, drop_last, note_methods, note_parents};
use crate::shared::visitor::{VisitArgs, Visitor};

/// Between two looks at whether something has happened.
const LOOK: Duration = Duration::from_millis(10);

/// Longer than nginx needs to ask the origin a second time, if it does.
const SECOND_REQUEST: Duration = Duration::from_millis(500);

impl Bench {
    /// Fetched once, then served from the cache; the file that it is in.
    pub(super) async fn stored_and_served(&mut self) -> Result<Option<FileName>, CheckError> {
        let reached = self.canary.get("page", "").await?.is_some();
        self.report.note(
            reached,
            "the fill hop sends the check's pages to the check",
            "no answer of the check's own came back: the fill hop needs the location /.well-known/batoff-check/ of \
             deploy/nginx/site.conf, and --origin must be the address there",
        );
        if !reached {
            return Ok(None);
        }
        let served = self.hit("page", "").await?.is_some();
        let why = if self.section.fence && !self.has_lease()? {
            "the daemon gives no lease now: look at its log and its /readyz"
        } else {
            "nginx stores nothing: the location must include batoff-strict.conf (or -available.conf), and go to the \
             upstream batoff_fill, whose server includes batoff-fill.conf; the daemon's run_dir must be the folder named \
             in them; a daemon with on_lease_lost = \"serve\" goes with batoff-available.conf, any other with \
             batoff-strict.conf; and proxy_cache_key must name $host, or the daemon takes out what is stored, as of a \
             host of no site"
        };
        self.report.note(served, "what is fetched is stored, and served again", why);
        let stored = self.stored()?.pop();
        if served && stored.is_none() {
            self.report.broken(
                "it is stored in caches.nginx.path",
                format!(
                    "no file appeared in {}: that is not the directory of this location's proxy_cache; or what stands in its \
                     key belongs to no site, and the daemon has taken it out: proxy_cache_key must name $host",
                    self.files.root().display()
                ),
            );
        }
        Ok(stored.filter(|_| served))
    }

    /// The number of a page that is served from the cache. A lease may be lost for a moment, so not the first answer counts.
    async fn hit(&self, page: &str, variant: &str) -> Result<Option<u64>, CheckError> {
        let begun = std::time::Instant::now();
        let mut last = self.canary.get(page, variant).await?;
        while begun.elapsed() < PATIENCE {
            let next = self.canary.get(page, variant).await?;
            if next == last {
                return Ok(next);
            }
            last = next;
            tokio::time::sleep(LOOK).await;
        }
        Ok(None)
    }

    fn has_lease(&self) -> Result<bool, CheckError> {
        let entries = std::fs::read_dir(self.run_dir.slots()).map_err(stopped)?;
        Ok(entries.count() > 0)
    }

    /// Its key names its URL, and its stamp is the daemon's.
    pub(super) fn says_what_it_is(&mut self, file: FileName) -> Result<(), CheckError> {
        let Found::Readable(header) = self.files.read(file).map_err(stopped)? else {
            self.report
                .broken("the file can be read", "it is not in nginx's format 5, which 1.18 to 1.29 write");
            return Ok(());
        };
        let template = KeyTemplate::parse(&self.section.key).map_err(CheckError)?;
        let wanted: Option<PurgeUrl> =
            format!("http://{}{}", self.canary.host(), self.canary.path("page")).parse().ok();
        let found = template.url(&header.key);
        self.report.note(
            found.is_some() && found.as_ref().map(PurgeUrl::key) == wanted.as_ref().map(PurgeUrl::key),
            "its key names its URL",
            format!(
                "nginx's key is {:?}, which caches.nginx.key = {:?} does not turn into {}; proxy_cache_key must be the \
                 same (without one, nginx writes the upstream's name in the place of the host)",
                String::from_utf8_lossy(&header.key),
                self.section.key,
                wanted.as_ref().map(PurgeUrl::as_str).unwrap_or_default()
            ),
        );
        self.report.note(
            header.stamp.is_some() && header.stamp.map(|stamp| stamp.daemon) == self.daemon,
            "it carries the daemon's fill token, and no one else's",
            "the stored header has no X-Fill-Gen, several, or another daemon's: the fill hop must include \
             batoff-fill.conf, which also hides the origin's own",
        );
        self.report.note(
            header.tags.tags.iter().any(|tag| tag.as_str() == "batoff-check"),
            "its tags are stored with it",
            "the stored header has no Cache-Tag: remove proxy_hide_header and the like for it from the fill hop",
        );
        Ok(())
    }

    /// What the daemon removes is fetched anew.
    pub(super) async fn removed_is_gone(&mut self, file: FileName) -> Result<(), CheckError> {
        let before = self.hit("page", "").await?;
        self.files.remove(file).map_err(stopped)?;
        let after = self.canary.get("page", "").await?;
        self.report.note(
            after > before,
            "what is removed is fetched anew",
            "it was served from somewhere else: another cache behind this one (proxy_store, a second proxy_cache)?",
        );
        Ok(())
    }

    /// All variants of a URL are known by its key.
    pub(super) async fn variants_go_together(&mut self) -> Result<(), CheckError> {
        self.stored()?;
        let mut before = Vec::new();
        for variant in ["a", "b"] {
            before.push(self.hit("vary", variant).await?);
        }
        for file in self.stored()? {
            self.files.remove(file).map_err(stopped)?;
        }
        let mut gone = true;
        for (variant, before) in ["a", "b"].into_iter().zip(before) {
            gone &= self.canary.get("vary", variant).await? > before;
        }
        self.report.note(
            gone,
            "all variants of a URL go together",
            "a variant stayed: is there a second cache?",
        );
        Ok(())
    }

    /// A soft purge leads to a new fetch, by this request or after it.
    pub(super) async fn stale_is_fetched_anew(&mut self) -> Result<(), CheckError> {
        let before = self.hit("soft", "").await?;
        for file in self.stored()? {
            self.files.make_stale(file, seconds()).map_err(stopped)?;
        }
        let mut fetched = false;
        for _ in 0..5 {
            fetched = fetched || self.canary.get("soft", "").await? > before;
            tokio::time::sleep(LOOK).await;
        }
        self.report.note(
            fetched,
            "what turns stale is fetched anew",
            "nginx goes on serving what has expired",
        );
        Ok(())
    }

    /// An answer that does not confirm what is stale ends it.
    pub(super) async fn what_is_taken_back_ends(&mut self) -> Result<(), CheckError> {
        self.stored()?;
        let stored = self.hit("gone", "").await?.is_some();
        for file in self.stored()? {
            self.files.make_stale(file, seconds()).map_err(stopped)?;
        }
        let begun = std::time::Instant::now();
        let mut ended = false;
        while stored && !ended && begun.elapsed() < PATIENCE {
            ended = self.canary.get("gone", "").await?.is_none();
            tokio::time::sleep(LOOK).await;
        }
        self.report.note(
            ended,
            "what the origin takes back is not served stale",
            "a 404 of the origin did not end it: the fill hop must write its notes (batoff-http.conf, batoff-cache.conf and \
             batoff-fill.conf of this version), and the daemon must run and own the host",
        );
        Ok(())
    }

    /// 16 KB of tags go through both hops into the file.
    pub(super) async fn long_headers_are_stored(&mut self) -> Result<(), CheckError> {
        self.stored()?;
        let stored = self.hit("long", "").await?.is_some();
        let mut seen = false;
        for file in self.stored()? {
            if let Found::Readable(header) = self.files.read(file).map_err(stopped)? {
                seen |= header.tags.tags.iter().any(|tag| tag.as_str() == "batoff-check");
            }
        }
        self.report.note(
            stored && seen,
            "an answer with 16 KB of tags is stored with them",
            "proxy_buffer_size must be 32k in both hops (batoff-cache.conf and batoff-fill.conf): visitors get 502 for such \
             answers, or nothing is stored",
        );
        Ok(())
    }

    /// A file appears in the directory while it is received.
    pub(super) async fn is_received_where_it_is_seen(&mut self) -> Result<(), CheckError> {
        let mut seen = false;
        for page in ["body1", "body2", "body3"] {
            seen = seen || self.is_seen(page).await?;
        }
        self.report.note(
            seen,
            "an answer is received where the daemon sees it",
            "no file appeared while an answer was on its way: proxy_cache_path needs use_temp_path=off",
        );
        Ok(())
    }

    async fn is_seen(&mut self, page: &'static str) -> Result<bool, CheckError> {
        self.stored()?;
        let canary = self.canary.clone();
        let visitor = tokio::spawn(async move { canary.get(page, "").await });
        let mut seen = false;
        let begun = std::time::Instant::now();
        while !seen && begun.elapsed() < SECOND_REQUEST {
            let names = self.events.names().map_err(stopped)?;
            seen = names.iter().any(|name| matches!(Named::parse(name), Named::InFlight(_)));
            tokio::time::sleep(LOOK).await;
        }
        self.origin.let_go(1);
        visitor.await.map_err(|error| CheckError(error.to_string()))??;
        Ok(seen)
    }

    /// An answer whose header comes after a purge is not stored.
    pub(super) async fn guards_against_late_headers(&mut self) -> Result<(), CheckError> {
        let path = self.canary.path("header-guard");
        let canary = self.canary.clone();
        let visitor = tokio::spawn(async move { canary.get("header-guard", "").await });
        self.asked(&path, 1).await;
        // As a purge does it, and back again unless there was one.
        let link = self.run_dir.stamp_link();
        let before = std::fs::read_link(&link).map_err(stopped)?;
        let token = FillToken { generation: Generation(0), applied: Cursor::START };
        let stamp = Stamp { daemon: 0, token, run: 0 };
        self.run_dir.set_stamp(|| stamp).map_err(stopped)?;
        self.origin.let_go(1);
        let late = visitor.await.map_err(|error| CheckError(error.to_string()))??;
        if std::fs::read_link(&link).is_ok_and(|now| now.as_os_str() == stamp.folder().as_str()) {
            let back = before.to_str().and_then(|name| Stamp::parse(name.as_bytes()));
            if let Some(back) = back {
                self.run_dir.set_stamp(|| back).map_err(stopped)?;
            }
        }
        self.origin.let_go(1);
        let next = self.canary.get("header-guard", "").await?;
        self.report.note(
            next > late,
            "an answer that was asked for before a purge and came after it is not stored",
            "it was: proxy_no_cache must name $batoff_moved, and `root` must be the link gen/cur (batoff-cache.conf)",
        );
        Ok(())
    }

    /// Nobody waits for another's fetch.
    pub(super) async fn collapses_nothing(&mut self) -> Result<(), CheckError> {
        let path = self.canary.path("header-lock");
        let visitors = [(); 2].map(|()| {
            let canary = self.canary.clone();
            tokio::spawn(async move { canary.get("header-lock", "").await })
        });
        self.asked(&path, 1).await;
        let begun = std::time::Instant::now();
        while self.origin.requests(&path) < 2 && begun.elapsed() < SECOND_REQUEST {
            tokio::time::sleep(LOOK).await;
        }
        let both = self.origin.requests(&path) == 2;
        self.origin.let_go(2);
        for visitor in visitors {
            visitor.await.map_err(|error| CheckError(error.to_string()))??;
        }
        self.report.note(
            both,
            "nobody gets what another fetched before a purge",
            "of two requests one waited for the other's answer: proxy_cache_lock must be off",
        );
        Ok(())
    }

    /// A host that is held back is not served from the cache.
    pub(super) async fn holds_back(&mut self) -> Result<(), CheckError> {
        let share = Share::of(&self.canary.host().to_ascii_lowercase());
        let before = self.hit("held", "").await?;
        self.run_dir.hold(share).map_err(stopped)?;
        let held = self.canary.get("held", "").await;
        self.run_dir.let_go(share).map_err(stopped)?;
        let after = self.hit("held", "").await?;
        self.report.note(
            held? > before && after == before,
            "a host that is held back is not served from the cache",
            "nginx does not ask for lease/$batoff_share_a$batoff_share_b (batoff-strict.conf, batoff-available.conf, and \
             batoff-http.conf of this version), or asks its open_file_cache; correct that, or set caches.nginx.fence = false",
        );
        Ok(())
    }

    /// Without a slot (or `open`) nothing is served from the cache. Shown on the share of the check's host: in the place of
    /// the slots it finds an empty folder for a moment.
    pub(super) async fn stops_without_a_lease(&mut self) -> Result<(), CheckError> {
        let before = self.hit("leased", "").await?;
        let share = Share::of(&self.canary.host().to_ascii_lowercase());
        self.run_dir.empty(share).map_err(stopped)?;
        let fenced = self.canary.get("leased", "").await;
        self.run_dir.refill(share).map_err(stopped)?;
        self.report.note(
            fenced? > before,
            "without a lease nothing is served from the cache",
            "nginx does not ask for the lease: include batoff-strict.conf (or -available.conf) in the location",
        );
        Ok(())
    }

    /// The check's own pages never come from where the site's do, so one of those is read: twice, so that a cache behind this
    /// one has had it, and under a query of the check's own, so that nobody has it yet.
    pub(super) async fn parents_are_declared(
        &mut self,
        args: &CheckArgs,
        has_parents: bool,
    ) -> Result<(), CheckError> {
        let separator = if args.page.contains('?') { '&' } else { '?' };
        let page = format!("{}{separator}batoff-check={}", args.page, self.canary.nonce());
        let (connect, host) = (args.connect.to_string(), args.host.clone());
        let mut visitor = Visitor::new(&VisitArgs { connect, host, page })?;
        self.stored()?;
        visitor.read().await?;
        tokio::time::sleep(AGING).await;
        for file in self.stored()? {
            self.files.remove(file).map_err(stopped)?;
        }
        let fetched = visitor.read().await?;
        let files = self.stored()?;
        let again = visitor.read().await?;
        let mut headers = fetched.headers();
        // Its own is the last, if it writes one: unlike that of a page it changes when what is stored is read again.
        let last = |reply: &Reply| reply.headers().get_all(X_CACHE).iter().next_back().cloned();
        if files.is_empty() || last(&fetched) != last(&again) {
            drop_last(&mut headers, &X_CACHE);
        }
        for file in files {
            self.files.remove(file).map_err(stopped)?;
        }
        note_parents(&mut self.report, has_parents, &headers, &[]);
        note_methods(&mut self.report, "a POST, a PUT or any other method that changes it");
        Ok(())
    }

    async fn asked(&self, path: &str, times: u64) {
        let begun = std::time::Instant::now();
        while self.origin.requests(path) < times && begun.elapsed() < PATIENCE {
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn stopped(error: io::Error) -> CheckError {
    CheckError(error.to_string())
}

fn seconds() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
