//! HAProxy through its runtime API. It cannot drop an object, so a purge sets another *generation*, which is part of what
//! it takes for the URL (`deploy/haproxy/haproxy.cfg`): what was stored under the one before is not found again, and an
//! answer that is under way is stored where nobody will look.
//!
//! Nothing is kept here that HAProxy does not hold: a process that was restarted has lost its maps with its cache, and
//! is told its lease again within a quarter of a second.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use batoff_index::Index;
use batoff_types::{Body, Moment, Record, SiteTable};
use tokio::sync::{Mutex, Notify};

use self::bumps::{Bumps, Map};
use self::socket::{Socket, word};
use super::{Cache, CacheOpenError, CacheTrouble, Locator, Needs, Proof, Surroundings};
use crate::boottime;

mod bumps;
mod check;
mod config;
mod lease;
mod socket;

pub use self::check::check;
pub use self::config::{HaproxySection, Tags};

/// The name in logs, in metrics and at the control plane.
const NAME: &str = "haproxy";

/// Entries in all maps. Over it everything is set anew with one entry, and the maps begin empty.
const ENTRIES_MAX: usize = 100_000;

/// Added to the cache's `max-age` before an entry goes.
const MARGIN: Duration = Duration::from_secs(60);

/// What HAProxy says to `set map` where nothing can be set.
const NOT_FOUND: &str = "entry not found";

/// One HAProxy.
pub struct Haproxy {
    socket: Socket,
    maps: PathBuf,
    keep: Duration,
    index: Arc<Index<Locator>>,
    renewed: Arc<Notify>,
    book: Mutex<Book>,
}

/// What is kept between two groups of records.
struct Book {
    /// Tells the values of this run from those of others.
    instance: String,
    bumps: u64,
    /// When each entry was set last.
    set: BTreeMap<(Map, String), Moment>,
    /// Whose each hostname is where the records stand that come here; the index may be ahead.
    sites: SiteTable,
}

impl Haproxy {
    /// Begins to keep the lease. A process that does not answer yet is waited for; one without the maps is refused.
    pub async fn open(section: &HaproxySection, around: Surroundings) -> Result<Self, CacheOpenError> {
        let setup = |message: String| CacheOpenError::Setup { cache: NAME, message };
        let socket = Socket::new(section.socket.clone());
        let mut book = Book {
            instance: format!("{:016x}", rand::random::<u64>()),
            bumps: 0,
            set: BTreeMap::new(),
            sites: SiteTable::clone(&around.index.sites()),
        };
        for map in Map::EVERY {
            match show(&socket, &section.maps, map).await {
                Ok(entries) => book.set.extend(entries.into_iter().map(|key| ((map, key), boottime()))),
                Err(Show::Silent(error)) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                    let path = section.socket.display();
                    return Err(setup(format!(
                        "cannot open {path}: {error}; run the daemon in the socket's group"
                    )));
                }
                Err(Show::Silent(error)) => {
                    tracing::warn!(at = %section.socket.display(), %error, "haproxy does not answer yet");
                    break;
                }
                Err(Show::Refused(text)) => {
                    return Err(setup(format!(
                        "it does not know the map {}: {text}; take over deploy/haproxy/haproxy.cfg, and set maps to the \
                         folder that it names",
                        section.maps.join(map.file()).display()
                    )));
                }
            }
        }
        let haproxy = Self {
            socket: socket.clone(),
            maps: section.maps.clone(),
            keep: Duration::from_secs(section.max_age_secs) + MARGIN,
            index: around.index,
            renewed: Arc::new(Notify::new()),
            book: Mutex::new(book),
        };
        let keeper = lease::Keeper {
            socket,
            map: section.maps.join("lease"),
            guard: Duration::from_millis(section.lease_guard_ms),
            fence: around.fence,
            renewed: Arc::clone(&haproxy.renewed),
        };
        let stop = around.stop;
        tokio::spawn(async move { stop.run_until_cancelled(keeper.run()).await });
        Ok(haproxy)
    }

    /// Gives each entry a value that it has never had.
    async fn set(&self, book: &mut Book, mut bumps: Bumps) -> Result<(), CacheTrouble> {
        for map in [Map::Prefix, Map::Zone] {
            if bumps.iter().any(|(of, _)| *of == map) {
                let known =
                    show(&self.socket, &self.maps, map).await.map_err(|error| self.trouble(&error))?;
                bumps::with_hidden(&mut bumps, map, &known);
            }
        }
        if book.set.len() + bumps.len() > ENTRIES_MAX {
            bumps.insert(bumps::everything());
        }
        book.bumps += 1;
        let value = format!("{}-{:x}", book.instance, book.bumps);
        let command = |verb: &str, (map, key): &(Map, String)| {
            format!("{verb} map {} {} {value}", self.maps.join(map.file()).display(), word(key))
        };
        let commands: Vec<_> = bumps.iter().map(|bump| command("set", bump)).collect();
        let answers = self.run(&commands).await?;
        let mut missing = Vec::new();
        for (bump, answer) in bumps.iter().zip(answers) {
            match answer {
                answer if answer.is_empty() => {}
                answer if answer.contains(NOT_FOUND) => missing.push(bump),
                answer => return Err(CacheTrouble(format!("haproxy refuses to set {}: {answer}", bump.1))),
            }
        }
        let commands: Vec<_> = missing.iter().map(|bump| command("add", bump)).collect();
        if let Some(answer) = self.run(&commands).await?.into_iter().find(|answer| !answer.is_empty()) {
            return Err(CacheTrouble(format!("haproxy refuses an entry: {answer}")));
        }
        let now = boottime();
        if bumps.contains(&bumps::everything()) {
            self.clear(book).await?;
        }
        book.set.extend(bumps.into_iter().map(|bump| (bump, now)));
        self.forget(book, now).await
    }

    /// Under another generation of everything the others say nothing any more.
    async fn clear(&self, book: &mut Book) -> Result<(), CacheTrouble> {
        let maps = Map::EVERY.into_iter().filter(|map| *map != Map::All);
        let commands: Vec<_> =
            maps.map(|map| format!("clear map {}", self.maps.join(map.file()).display())).collect();
        self.run(&commands).await?;
        book.set.clear();
        Ok(())
    }

    /// Drops entries that nothing in the cache is old enough for.
    async fn forget(&self, book: &mut Book, now: Moment) -> Result<(), CacheTrouble> {
        let old = |set: &Moment| now.since(*set) > self.keep;
        let gone: Vec<_> =
            book.set.iter().filter(|(_, set)| old(set)).map(|(entry, _)| entry.clone()).collect();
        let commands: Vec<_> = gone
            .iter()
            .map(|(map, key)| format!("del map {} {}", self.maps.join(map.file()).display(), word(key)))
            .collect();
        // One that HAProxy has lost by a restart is gone too.
        self.run(&commands).await?;
        for entry in gone {
            book.set.remove(&entry);
        }
        Ok(())
    }

    async fn run(&self, commands: &[String]) -> Result<Vec<String>, CacheTrouble> {
        self.socket.run(commands).await.map_err(|error| self.trouble(&error))
    }

    fn trouble(&self, error: &dyn std::fmt::Display) -> CacheTrouble {
        CacheTrouble(format!("haproxy at {}: {error}", self.socket.path().display()))
    }
}

#[async_trait]
impl Cache<Locator> for Haproxy {
    fn name(&self) -> &str {
        NAME
    }

    fn needs(&self) -> Needs {
        Needs::Selectors
    }

    fn proof(&self) -> Proof {
        Proof::Eviction
    }

    async fn purge(&self, records: &[Arc<Record>]) -> Result<(), CacheTrouble> {
        let mut book = self.book.lock().await;
        let mut sites = book.sites.clone();
        // A hostname that comes or goes within the group counts before and after.
        let mut tables = vec![self.index.sites()];
        for record in records {
            if let Body::Site(change) = &record.body {
                tables.push(Arc::new(sites.clone()));
                sites.apply(change);
            }
        }
        tables.push(Arc::new(sites.clone()));
        let names = |site: &batoff_types::SiteId| -> BTreeSet<_> {
            tables.iter().filter_map(|table| table.hostnames(site.as_str())).flatten().cloned().collect()
        };
        self.set(&mut book, bumps::of(records, names)).await?;
        book.sites = sites;
        Ok(())
    }

    async fn flush(&self) -> Result<(), CacheTrouble> {
        let mut book = self.book.lock().await;
        self.set(&mut book, Bumps::from([bumps::everything()])).await?;
        book.sites = SiteTable::clone(&self.index.sites());
        Ok(())
    }

    fn serve_until(&self, _until: Moment) {
        self.renewed.notify_one();
    }
}

/// Why the entries of a map are not known.
#[derive(Debug, thiserror::Error)]
enum Show {
    #[error(transparent)]
    Silent(#[from] std::io::Error),
    #[error("{0}")]
    Refused(String),
}

/// The keys of a map.
async fn show(socket: &Socket, maps: &std::path::Path, map: Map) -> Result<Vec<String>, Show> {
    let command = format!("show map {}", maps.join(map.file()).display());
    let answer = socket.run(&[command]).await?.pop().unwrap_or_default();
    let mut keys = Vec::new();
    for line in answer.lines().filter(|line| !line.is_empty()) {
        // `0x7f6ea403c7a0 www.example.test/a 0f-1`
        let mut words = line.split(' ');
        match (words.next().is_some_and(|word| word.starts_with("0x")), words.next()) {
            (true, Some(key)) => keys.push(key.to_owned()),
            _ => return Err(Show::Refused(answer)),
        }
    }
    Ok(keys)
}
