//! What stands in the cache directory, and what the rules say about it: every file is registered in the index under what its
//! header says, and judged there.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use batoff_edge::{FILL_MAX_CROWDED, Overflow};
use batoff_index::{Effect, Entry, Index, Variant, Verdict};
use batoff_types::{Cursor, FillToken, PurgeUrl, Selector, SiteId};
use parking_lot::Mutex;

use super::files::{Files, Found, Spoilt, Staled};
use super::header::{FileHeader, HeaderError};
use super::key::KeyTemplate;
use super::name::{FileName, InFlight};
use super::oddities::Oddities;
use super::spoiled::Spoiled;
use super::stale::StaleFiles;
use super::tokens::FillTokens;
use super::trust::{Scan, Seen, Trust};
use crate::{Locator, Surroundings};

/// Locks by file name, so that whoever reads a file last registers it last.
const STRIPES: usize = 64;

/// Hosts remembered. With more, a purge of a tag cannot hold back its site host by host.
const HOSTS_MAX: usize = 65_536;

/// The files, registered in the index.
pub(super) struct Register {
    pub(super) files: Files,
    /// When what is in them was fetched.
    pub(super) tokens: FillTokens,
    pub(super) oddities: Oddities,
    pub(super) spoiled: Spoiled,
    index: Arc<Index<Locator>>,
    key: KeyTemplate,
    stripes: [Mutex<()>; STRIPES],
    known: Mutex<HashMap<FileName, RegisteredFile>>,
    in_flight: Mutex<HashSet<InFlight>>,
    stale: StaleFiles,
    overflow: Arc<Overflow>,
    /// Every host that an object was seen of.
    hosts: Mutex<HashSet<Box<str>>>,
    /// The scan under way, or the last one.
    pass: AtomicU64,
}

/// A registered file. The index finds it by its URL; nginx names only the file when it removes it.
struct RegisteredFile {
    url: Box<str>,
    seen_in: u64,
}

impl Register {
    pub(super) fn new(files: Files, around: &Surroundings, key: KeyTemplate, daemon: u64) -> Self {
        Self {
            files,
            tokens: FillTokens::new(around, daemon),
            oddities: Oddities::default(),
            spoiled: Spoiled::default(),
            index: Arc::clone(&around.index),
            key,
            stripes: std::array::from_fn(|_| Mutex::default()),
            known: Mutex::default(),
            in_flight: Mutex::default(),
            stale: StaleFiles::default(),
            overflow: Arc::clone(&around.overflow),
            hosts: Mutex::default(),
            pass: AtomicU64::new(0),
        }
    }

    /// What has been applied here.
    pub(super) fn applied(&self) -> Cursor {
        self.index.applied()
    }

    /// The hosts under which there may be objects of a site; `None` when they are too many to be known.
    pub(super) fn hosts_of(&self, site: &SiteId) -> Option<Vec<String>> {
        let sites = self.index.sites();
        let hosts = self.hosts.lock();
        let of_site = hosts.iter().filter(|host| sites.owner(host) == Some(site));
        (hosts.len() < HOSTS_MAX).then(|| of_site.map(|host| host.to_string()).collect())
    }

    pub(super) fn files_known(&self) -> usize {
        self.known.lock().len()
    }

    pub(super) fn files_in_flight(&self) -> usize {
        self.in_flight.lock().len()
    }

    /// Looks at a file: registers it, takes it out if it was purged, makes it stale if it is to be, forgets it if it is not
    /// there.
    pub(super) fn admit(&self, name: FileName, seen: Seen) -> io::Result<()> {
        let _alone = self.stripe(name).lock();
        let header = match self.files.read(name)? {
            Found::Readable(header) => header,
            Found::Nothing => {
                self.forget(name);
                return Ok(());
            }
            Found::HeaderError(HeaderError::Spoiled) => {
                self.forget(name);
                // Here, whoever spoiled it sees to it; a daemon before this one does not.
                if matches!(seen, Seen::Scan(_)) {
                    self.spoiled.add(name);
                }
                return Ok(());
            }
            Found::HeaderError(HeaderError::Foreign | HeaderError::Short(_)) => {
                self.forget(name);
                self.oddities.unreadable(name);
                return Ok(());
            }
            Found::Odd => {
                self.forget(name);
                self.oddities.not_plain(name);
                return Ok(());
            }
        };
        let Some(url) = self.key.url(&header.key) else {
            self.forget(name);
            self.oddities.unparsable(name, &header.key);
            return Ok(());
        };
        if self.index.sites().owner(url.host()).is_none() {
            // No purge can name it.
            self.take_out(name)?;
            self.forget(name);
            self.oddities.without_owner(&url);
            return Ok(());
        }
        let token = self.token(name, &header, seen)?;
        let tags = header.tags.clone().limited_to(self.index.tags_max(url.host()));
        self.overflow.note(&tags, &url, &self.index.sites());
        let entry = Entry {
            url: url.clone(),
            variant: Variant::from(name.0),
            tags,
            token,
            locator: Locator::File(name.0),
        };
        self.saw_host(&url);
        if self.index.insert(entry).is_err() {
            self.take_out(name)?;
            self.forget(name);
            return Ok(());
        }
        let known = RegisteredFile { url: url.key().into(), seen_in: self.pass.load(Ordering::Acquire) };
        self.known.lock().insert(name, known);
        self.oddities.is_regular(name);
        self.settle_stale(name, &header, &url)
    }

    fn stripe(&self, name: FileName) -> &Mutex<()> {
        &self.stripes[usize::from(name.0[0]) % STRIPES]
    }

    fn saw_host(&self, url: &PurgeUrl) {
        let mut hosts = self.hosts.lock();
        if hosts.len() < HOSTS_MAX && !hosts.contains(url.host()) {
            hosts.insert(url.host().into());
        }
    }

    /// When the fetch of what lies there began.
    fn token(&self, name: FileName, header: &FileHeader, seen: Seen) -> io::Result<FillToken> {
        if matches!(seen, Seen::Scan(Scan { trust: Trust::All, .. })) {
            return Ok(self.index.begin_fill());
        }
        let forgotten = self.tokens.of_the_forgotten();
        let token = self.tokens.of_file(header, seen);
        let refreshed = self.stale.refreshed_since(name, &header.times);
        let token = refreshed.map_or(token, |through| newer(token, through));
        // Rules are forgotten when everything that they hit has come and gone: they did not hit what is still here, unless
        // its fetch took longer than that.
        let was_here = match seen {
            Seen::Scan(Scan { trust: Trust::Restarted, .. }) => true,
            Seen::Event | Seen::Scan(_) => self.known.lock().contains_key(&name),
        };
        let lifted =
            was_here && token.generation == forgotten.generation && token.applied < forgotten.applied;
        if lifted && !self.took_too_long(name, header)? { Ok(forgotten) } else { Ok(token) }
    }

    /// Whether its fetch took longer than a rule is kept at least: what took as long may be older than a rule that is
    /// forgotten. It is fetched again after a restart.
    fn took_too_long(&self, name: FileName, header: &FileHeader) -> io::Result<bool> {
        let Some(began) = header.began_ms else { return Ok(false) };
        let Some(written) = self.files.written_ms(name)? else { return Ok(false) };
        // Put back meanwhile, the clock cannot tell. (The kernel's is a little behind by itself.)
        let put_back = written.saturating_add(1_000) < began;
        Ok(put_back || u128::from(written.saturating_sub(began)) > FILL_MAX_CROWDED.as_millis())
    }

    /// Brings the file of an object that a soft purge hit in line with the index.
    fn settle_stale(&self, name: FileName, header: &FileHeader, url: &PurgeUrl) -> io::Result<()> {
        let verdict = self.index.lookup(url, Variant::from(name.0));
        if !matches!(verdict, Some((Verdict::Stale, _))) {
            return Ok(());
        }
        if self.stale.is_settled(name, &header.times) {
            return Ok(());
        }
        self.make_stale(name)
    }

    /// After this nginx cannot serve it. It is unlinked later.
    fn take_out(&self, name: FileName) -> io::Result<()> {
        match self.files.spoil(name) {
            Ok(Spoilt::Done) => self.spoiled.add(name),
            Ok(Spoilt::Nothing) => {}
            Ok(Spoilt::Odd) => self.files.unlink(name)?,
            // No room for what would be written, on a file system that never writes in place. Its name can be taken away.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => self.files.unlink(name)?,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn make_stale(&self, name: FileName) -> io::Result<()> {
        // A parent that is behind may confirm what was purged.
        let through = self.tokens.of_now();
        match self.files.make_stale(name, now_seconds())? {
            Staled::Nothing => {}
            Staled::Marked(mark) => self.stale.add(name, through, mark),
            Staled::MustGo => self.take_out(name)?,
        }
        Ok(())
    }

    /// What the rules hit among the files.
    pub(super) fn evict(&self, files: &[(FileName, Effect)]) -> io::Result<()> {
        for &(name, effect) in files {
            match effect {
                // The event that follows forgets the file.
                Effect::Evicted => self.take_out(name)?,
                Effect::Stale => {
                    let _alone = self.stripe(name).lock();
                    self.make_stale(name)?;
                }
            }
        }
        Ok(())
    }

    /// The origin has answered for this URL with something that does not confirm what was stored: takes out what is stale of
    /// it. How many files that were.
    pub(super) fn taken_back(&self, url: &PurgeUrl) -> io::Result<u64> {
        let Some(site) = self.index.sites().owner(url.host()).cloned() else { return Ok(0) };
        let (now, mut files) = (now_seconds(), 0);
        for object in self.index.list(&site, &Selector::Url(url.clone())) {
            let Locator::File(name) = object.locator else { continue };
            let name = FileName(name);
            let _alone = self.stripe(name).lock();
            if self.files.spoil_stale(name, now)? == Spoilt::Done {
                self.spoiled.add(name);
                files += 1;
            }
        }
        Ok(files)
    }

    /// A file's name was taken away. Should the file be there again, then that is an event that comes after this one, and
    /// whoever waits for the events until now waits for that one too.
    pub(super) fn gone(&self, name: FileName) {
        let _alone = self.stripe(name).lock();
        self.forget(name);
    }

    /// A file is being received.
    pub(super) fn begins(&self, file: InFlight) {
        self.in_flight.lock().insert(file);
    }

    /// It was received, or given up.
    pub(super) fn ended(&self, file: &InFlight) {
        self.in_flight.lock().remove(file);
    }

    /// One of the two, and which came last is not known.
    pub(super) fn came_and_went(&self, file: &InFlight) -> io::Result<()> {
        if self.files.is_in_flight(file)? {
            self.begins(file.clone());
        } else {
            self.ended(file);
        }
        Ok(())
    }

    /// Removes what is being received and was purged meanwhile, and (`strictly`) what does not say what it is.
    pub(super) fn stop_purged_fills(&self, strictly: bool) -> io::Result<()> {
        let in_flight: Vec<_> = self.in_flight.lock().iter().cloned().collect();
        for file in in_flight {
            let purged = match self.files.read_in_flight(&file)? {
                Found::Nothing => continue,
                Found::HeaderError(_) | Found::Odd => strictly,
                Found::Readable(header) => self.is_purged_fill(&header),
            };
            if purged {
                self.files.remove_in_flight(&file)?;
            }
        }
        Ok(())
    }

    fn is_purged_fill(&self, header: &FileHeader) -> bool {
        let Some(url) = self.key.url(&header.key) else { return true };
        let Some(token) = self.tokens.of_fill(header) else { return true };
        self.index.check(&url, &header.tags, token) == Verdict::Gone
    }

    /// Takes out every file whose key says nothing: no purge may leave out what it might hit.
    pub(super) fn remove_oddities(&self) -> io::Result<()> {
        for name in self.oddities.names() {
            self.take_out(name)?;
            self.oddities.is_regular(name);
        }
        Ok(())
    }

    /// Nothing that was known lies there any more.
    pub(super) fn forget_all(&self) {
        let names: Vec<_> = self.known.lock().keys().copied().collect();
        for name in names {
            let _alone = self.stripe(name).lock();
            self.forget(name);
        }
        self.oddities.forget_all();
        self.in_flight.lock().clear();
    }

    pub(super) fn begin_pass(&self, pass: u64) {
        self.pass.store(pass, Ordering::Release);
    }

    /// Forgets what a whole pass has not met.
    pub(super) fn end_pass(&self, pass: u64) {
        let unseen: Vec<_> = {
            let known = self.known.lock();
            known.iter().filter(|(_, known)| known.seen_in < pass).map(|(name, _)| *name).collect()
        };
        for name in unseen {
            let _alone = self.stripe(name).lock();
            if self.known.lock().get(&name).is_some_and(|known| known.seen_in < pass) {
                self.forget(name);
            }
        }
    }

    fn forget(&self, name: FileName) {
        self.oddities.is_regular(name);
        self.stale.forget(name);
        let Some(known) = self.known.lock().remove(&name) else { return };
        if let Ok(url) = PurgeUrl::from_key(&known.url) {
            self.index.remove(&url, Variant::from(name.0));
        }
    }
}

/// The later of two tokens; one of another generation counts for nothing.
fn newer(token: FillToken, other: FillToken) -> FillToken {
    if token.generation != other.generation || token.applied >= other.applied { token } else { other }
}

/// By the clock that nginx compares with.
fn now_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
