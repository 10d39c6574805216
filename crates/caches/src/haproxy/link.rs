//! What is told to the process that answers at the socket, and how a new one is met.
//!
//! ```text
//!  socket ──▶ process 1  id = a   lease[a] = until        reload ──▶ process 2: no id, no lease: uses no cache
//!             every line of commands asks: is your id a?             ├ named b, everything anew, then lease[b]
//!                                                                    └ acks wait for process 1's end or lease
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use batoff_edge::cache::CacheTrouble;
use batoff_edge::{Fence, Path, boottime};
use batoff_index::Index;
use batoff_types::{Cursor, Moment, SiteTable};
use tokio::sync::{Mutex, Notify};

use super::bumps::{self, Bumps, Map};
use super::charge::{Allowance, Charge, wall_millis};
use super::identity::{self, LastProcess};
use super::process::{Predecessor, Process};
use super::socket::{Answer, NOT_FOUND, Socket, word};
use crate::Locator;

/// Entries in all maps of generations. Over it everything is set anew with one entry, and the maps begin empty.
const ENTRIES_MAX: usize = 100_000;

/// The longest that a purge sleeps until an old process has no lease any more; a lease is shorter.
const SLEEP_MAX: Duration = Duration::from_secs(2);

/// Between two looks at whether an old process has ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// One HAProxy, whatever process of it is in charge.
pub(super) struct Link {
    pub(super) socket: Socket,
    pub(super) maps: PathBuf,
    /// Entries of generations older than this say nothing: nothing in the cache is as old.
    pub(super) keep: Duration,
    pub(super) hard_stop: Duration,
    pub(super) guard: Duration,
    pub(super) index: Arc<Index<Locator>>,
    pub(super) fence: Arc<Fence>,
    pub(super) path: Arc<Path>,
    pub(super) renewed: Notify,
    /// `None` for a look from outside, which takes nothing over.
    pub(super) state_dir: Option<PathBuf>,
    /// Tells the values of this run from those of others.
    pub(super) instance: String,
    pub(super) charge: parking_lot::Mutex<Option<Charge>>,
    pub(super) book: Mutex<Book>,
}

/// What is kept between two groups of records.
#[derive(Default)]
pub(super) struct Book {
    pub(super) bumps: u64,
    /// When each entry was set last.
    pub(super) set: BTreeMap<(Map, String), Moment>,
    /// Whose each hostname is where the records stand that come here; the index may be ahead.
    pub(super) sites: SiteTable,
    /// Entries under which nothing is cached until all parents have reached a position: what is fetched before may be
    /// what was purged. Then they get another value.
    pub(super) held: BTreeMap<(Map, String), Cursor>,
    /// The last record that came here.
    pub(super) through: Cursor,
    /// The names in force in the process: what is under others is not stored.
    pub(super) owned: BTreeSet<(Map, String)>,
    /// The one in charge.
    pub(super) process: Option<Process>,
    /// Those that were, and may still serve.
    pub(super) old: Vec<Predecessor>,
}

/// Why something was not told.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    /// Another process answers than the one that is known.
    #[error("another process answers")]
    Other,
    #[error(transparent)]
    Silent(#[from] io::Error),
    /// It says no.
    #[error("{0}")]
    Refused(String),
}

impl Link {
    /// Gives each entry a value that it has never had, and the names that are stored under those of `sites`.
    pub(super) async fn set(
        &self,
        book: &mut Book,
        bumps: Bumps,
        sites: &SiteTable,
    ) -> Result<(), CacheTrouble> {
        match self.try_set(book, bumps, sites).await {
            // It holds nothing that was purged.
            Err(Failed::Other) => self.adopt(book, sites).await,
            done => done.map_err(|error| self.trouble(&error)),
        }
    }

    pub(super) async fn try_set(
        &self,
        book: &mut Book,
        mut bumps: Bumps,
        sites: &SiteTable,
    ) -> Result<(), Failed> {
        for map in [Map::Prefix, Map::Zone] {
            if bumps.iter().any(|(of, _)| *of == map) {
                let shown = self.run(&[self.command("show map", map, "")]).await?.pop();
                bumps::with_hidden(&mut bumps, map, &keys(shown.unwrap_or_default())?);
            }
        }
        if book.set.len() + bumps.len() > ENTRIES_MAX {
            bumps.insert(bumps::everything());
        }
        let value = self.value_of(book);
        self.put(&bumps, &value).await?;
        let now = boottime();
        self.hold(book, &bumps, &value);
        if bumps.contains(&bumps::everything()) {
            // Under another generation of everything the others say nothing any more.
            let others = Map::EVERY.into_iter().filter(|map| *map != Map::All);
            let clear: Vec<_> = others.map(|map| self.command("clear map", map, "")).collect();
            self.run(&clear).await?;
            book.set.clear();
            book.held.retain(|(map, _), _| *map == Map::All);
        }
        book.set.extend(bumps.into_iter().map(|bump| (bump, now)));
        // What a name held before it was given up has another generation already.
        self.own(book, sites).await?;
        self.forget(book, now).await
    }

    /// Stores what is under the names of `sites`, and nothing else.
    pub(super) async fn own(&self, book: &mut Book, sites: &SiteTable) -> Result<(), Failed> {
        let wanted = bumps::owned(sites);
        let gone: Vec<_> = book.owned.difference(&wanted).cloned().collect();
        let new: Vec<_> = wanted.difference(&book.owned).cloned().collect();
        let gone: Vec<_> = gone.iter().map(|(map, key)| self.command("del map", *map, key)).collect();
        let new: Vec<_> = new.iter().map(|(map, key)| self.command("add map", *map, key) + " 1").collect();
        // One that is not there is gone, too.
        self.run(&gone).await?;
        none_refused(self.run(&new).await?)?;
        book.owned = wanted;
        Ok(())
    }

    /// Drops entries that nothing in the cache is old enough for.
    async fn forget(&self, book: &mut Book, now: Moment) -> Result<(), Failed> {
        let old = |set: &Moment| now.since(*set) > self.keep;
        let gone = book.set.iter().filter(|(entry, set)| old(set) && !book.held.contains_key(entry));
        let gone: Vec<_> = gone.map(|(entry, _)| entry.clone()).collect();
        let commands: Vec<_> = gone.iter().map(|(map, key)| self.command("del map", *map, key)).collect();
        self.run(&commands).await?;
        for entry in gone {
            book.set.remove(&entry);
        }
        Ok(())
    }

    /// For a look from outside: sets entries and nothing else.
    pub(super) async fn put_in(&self, book: &mut Book, bumps: &Bumps) -> Result<(), Failed> {
        let value = self.value(book);
        self.put(bumps, &value).await
    }

    /// Sets entries, and adds those that are not there.
    async fn put(&self, bumps: &Bumps, value: &str) -> Result<(), Failed> {
        let command = |verb, (map, key): &(Map, String)| self.command(verb, *map, key) + " " + value;
        let commands: Vec<_> = bumps.iter().map(|bump| command("set map", bump)).collect();
        let answers = self.run(&commands).await?;
        let mut missing = Vec::new();
        for (bump, answer) in bumps.iter().zip(answers) {
            match answer {
                answer if answer.is_empty() => {}
                answer if answer.contains(NOT_FOUND) => missing.push(command("add map", bump)),
                answer => return Err(Failed::Refused(answer)),
            }
        }
        none_refused(self.run(&missing).await?)
    }

    /// Gives what was held the value of something new, as soon as all parents have what was purged.
    pub(super) async fn release(&self) -> Result<(), CacheTrouble> {
        let mut book = self.book.lock().await;
        let free: Bumps =
            book.held.iter().filter(|(_, seq)| self.is_free(**seq)).map(|(e, _)| e.clone()).collect();
        if free.is_empty() {
            return Ok(());
        }
        let value = self.value(&mut book);
        match self.put(&free, &value).await {
            Ok(()) => self.hold(&mut book, &free, &value),
            // It is met, and begins with nothing.
            Err(Failed::Other) => {}
            Err(error) => return Err(self.trouble(&error)),
        }
        Ok(())
    }

    /// Whether a fetch that begins now brings what came after this position.
    fn is_free(&self, seq: Cursor) -> bool {
        self.path.through(self.index.generation()).is_none_or(|through| through >= seq)
    }

    /// For what is set anew now: under a value with a `!` nothing is cached.
    fn value_of(&self, book: &mut Book) -> String {
        let hold = if self.is_free(book.through) { "" } else { "!" };
        format!("{hold}{}", self.value(book))
    }

    fn hold(&self, book: &mut Book, bumps: &Bumps, value: &str) {
        for bump in bumps {
            if value.starts_with('!') {
                book.held.insert(bump.clone(), book.through);
            } else {
                book.held.remove(bump);
            }
        }
    }

    fn value(&self, book: &mut Book) -> String {
        book.bumps += 1;
        format!("{}-{:x}", self.instance, book.bumps)
    }

    /// Waits until no process that a reload has left behind can serve what has just been purged.
    pub(super) async fn outlive(&self, book: &mut Book) -> Result<(), CacheTrouble> {
        let begun = boottime();
        loop {
            let (now, wall) = (boottime(), wall_millis());
            book.old.retain(|old| old.may_serve(now, wall, self.hard_stop));
            let Some(old) = book.old.first() else { return Ok(()) };
            if book.old.iter().any(|old| old.told == Allowance::Open) || now.since(begun) > SLEEP_MAX {
                let pid = old.process.pid;
                return Err(CacheTrouble(format!(
                    "haproxy was reloaded, and its process {pid} from before may still serve what it holds to connections \
                     that it has; purges wait until it ends, which hard-stop-after decides"
                )));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Looks whether the process that answers is the one that is known, and takes over another.
    pub(super) async fn meet(&self) -> Result<(), CacheTrouble> {
        let mut book = self.book.lock().await;
        let lease = self.command("show map", Map::Lease, "");
        match self.run(&[lease]).await.map(|mut answers| answers.pop()) {
            Ok(Some(leases)) if !leases.is_empty() => return Ok(()),
            Ok(_) | Err(Failed::Other) => {}
            Err(error) => return Err(self.trouble(&error)),
        }
        let sites = book.sites.clone();
        self.adopt(&mut book, &sites).await
    }

    /// Takes over the process that answers: under a name of its own, with everything anew, and last with a lease. It has
    /// stored nothing without one; what it held for another daemon is not found any more.
    pub(super) async fn adopt(&self, book: &mut Book, sites: &SiteTable) -> Result<(), CacheTrouble> {
        self.try_adopt(book, sites).await.map_err(|error| self.trouble(&error))
    }

    pub(super) async fn try_adopt(&self, book: &mut Book, sites: &SiteTable) -> Result<(), Failed> {
        let Some(state_dir) = &self.state_dir else { return Err(Failed::Other) };
        let info = self.socket.run(&["show info".to_owned()]).await?.pop().unwrap_or_default();
        let pid = pid(&info).ok_or_else(|| Failed::Refused("show info names no Pid".to_owned()))?;
        let known = LastProcess { name: identity::name(), process: Process::look_at(pid) };
        // Before the process has the name: with a name that nobody remembers everything is set anew again.
        identity::write(state_dir, &known)?;
        let named = [
            self.command("clear map", Map::Process, ""),
            self.command("clear map", Map::Lease, ""),
            self.command("add map", Map::Process, "id") + " " + &known.name,
            "show info".to_owned(),
        ];
        let mut answers = self.socket.run(&named).await?;
        if answers.pop().and_then(|info| self::pid(&info)) != Some(pid) {
            return Err(Failed::Other);
        }
        none_refused(answers)?;

        let everything = Map::EVERY.into_iter().chain(Map::OWNED);
        let clear: Vec<_> = everything.map(|map| self.command("clear map", map, "")).collect();
        none_refused(self.run_as(&known.name, &clear).await?)?;
        let value = self.value_of(book);
        let all = self.command("add map", Map::All, bumps::ALL) + " " + &value;
        let owned = bumps::owned(sites);
        let names = owned.iter().map(|(map, key)| self.command("add map", *map, key) + " 1");
        let filled: Vec<_> = std::iter::once(all).chain(names).collect();
        none_refused(self.run_as(&known.name, &filled).await?)?;
        let lease = self.command("add map", Map::Lease, &known.name) + " 0";
        none_refused(self.run_as(&known.name, &[lease]).await?)?;

        tracing::info!(pid, "a new haproxy process: it begins with nothing");
        book.set = BTreeMap::from([(bumps::everything(), boottime())]);
        book.held.clear();
        self.hold(book, &Bumps::from([bumps::everything()]), &value);
        book.owned = owned;
        let charge = Charge { name: known.name, told: Allowance::NOTHING };
        let before = self.charge.lock().replace(charge);
        if let Some(process) = book.process.replace(known.process.clone()) {
            let told = before.map_or(Allowance::Open, |charge| charge.told);
            book.old.push(Predecessor { process, told, noticed: boottime() });
        }
        book.old.retain(|old| old.process != known.process);
        self.renewed.notify_one();
        Ok(())
    }

    /// Goes on with a process that `known` was remembered of, under another name: a copy of the state directory does not
    /// know it.
    pub(super) async fn resume(&self, book: &mut Book, known: LastProcess) -> Result<(), Failed> {
        let Some(state_dir) = &self.state_dir else { return Err(Failed::Other) };
        for map in Map::EVERY.into_iter().chain(Map::OWNED) {
            let shown = self.run_as(&known.name, &[self.command("show map", map, "")]).await?.pop();
            for (key, value) in entries(shown.unwrap_or_default())? {
                if Map::OWNED.contains(&map) {
                    book.owned.insert((map, key));
                    continue;
                }
                if value.starts_with('!') {
                    book.held.insert((map, key.clone()), book.through);
                }
                book.set.insert((map, key), boottime());
            }
        }
        let renamed = LastProcess { name: identity::name(), process: known.process };
        identity::write(state_dir, &renamed)?;
        let commands = [
            self.command("clear map", Map::Lease, ""),
            self.command("add map", Map::Lease, &renamed.name) + " 0",
            self.command("set map", Map::Process, "id") + " " + &renamed.name,
        ];
        none_refused(self.run_as(&known.name, &commands).await?)?;
        book.process = Some(renamed.process);
        *self.charge.lock() = Some(Charge { name: renamed.name, told: Allowance::Open });
        let sites = book.sites.clone();
        self.own(book, &sites).await
    }

    /// Runs commands in the process that is known.
    async fn run(&self, commands: &[String]) -> Result<Vec<Answer>, Failed> {
        let name = self.charge.lock().as_ref().map(|charge| charge.name.clone());
        self.run_as(&name.ok_or(Failed::Other)?, commands).await
    }

    async fn run_as(&self, name: &str, commands: &[String]) -> Result<Vec<Answer>, Failed> {
        let guard = self.command("show map", Map::Process, "");
        let expected = |answer: &str| id(answer) == Some(name);
        self.socket.run_if(&guard, expected, commands).await?.ok_or(Failed::Other)
    }

    pub(super) fn command(&self, verb: &str, map: Map, key: &str) -> String {
        let path = self.maps.join(map.file());
        if key.is_empty() {
            format!("{verb} {}", path.display())
        } else {
            format!("{verb} {} {}", path.display(), word(key))
        }
    }

    pub(super) fn trouble(&self, error: &dyn std::fmt::Display) -> CacheTrouble {
        CacheTrouble(format!("haproxy at {}: {error}", self.socket.path().display()))
    }
}

fn none_refused(answers: Vec<Answer>) -> Result<(), Failed> {
    match answers.into_iter().find(|answer| !answer.is_empty()) {
        None => Ok(()),
        Some(answer) => Err(Failed::Refused(answer)),
    }
}

/// The name of a process, as the map of processes shows it.
pub(super) fn id(shown: &str) -> Option<&str> {
    shown.lines().find_map(|line| line.split(' ').skip_while(|word| *word != "id").nth(1))
}

/// The number of a process, as it says it of itself.
pub(super) fn pid(info: &str) -> Option<u32> {
    info.lines().find_map(|line| line.strip_prefix("Pid: ")).and_then(|pid| pid.trim().parse().ok())
}

/// The keys of a map as it is shown.
pub(super) fn keys(shown: Answer) -> Result<Vec<String>, Failed> {
    Ok(entries(shown)?.into_iter().map(|(key, _)| key).collect())
}

fn entries(shown: Answer) -> Result<Vec<(String, String)>, Failed> {
    let mut entries = Vec::new();
    for line in shown.lines().filter(|line| !line.is_empty()) {
        // `0x7f6ea403c7a0 www.example.test/a 0f-1`
        let mut words = line.split(' ');
        match (words.next().is_some_and(|word| word.starts_with("0x")), words.next()) {
            (true, Some(key)) => entries.push((key.to_owned(), words.next().unwrap_or_default().to_owned())),
            _ => return Err(Failed::Refused(shown)),
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_says_of_itself_is_read() {
        assert_eq!(pid("Name: HAProxy\nNbproc: 1\nPid: 1234\nUptime: 0d"), Some(1_234));
        assert_eq!(pid("Unknown command"), None);
        assert_eq!(id("0x7f id 00aa"), Some("00aa"));
        assert_eq!(id(""), None);
        assert_eq!(id("Unknown map identifier."), None);
    }
}
