//! The rules in a file that the script maps: a hash table that is only ever added to. For more room, and when less is to
//! be remembered, a new file takes the place of the old one, which says so.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::layout::{
    self, APPLIED_AT, BOOT_AT, EPOCH_BYTES, EPOCH_COUNT_AT, EPOCH_DIGITS, EPOCHS_AT, FLOOR_AT, LENGTHS_AT,
    MAGIC, MASK_AT, OPEN_MICROS, SEEDS_AT, SERIAL_AT, SLOT_BYTES, SLOTS_AT, SUPERSEDED_AT, Slot, UNTIL_AT,
    VERSION, VERSION_AT, double, newest_at, read_f64, read_twice, twice,
};
use super::places::RuleEntry;
use super::print::{Fingerprinter, PrintOf};

/// Slots of the smallest table.
const SLOTS_MIN: usize = 4_096;

/// Characters of a `boot_id`.
const BOOT_BYTES: usize = 36;

/// The file in force, shared with whoever writes the lease.
#[derive(Debug)]
pub(super) struct Shown {
    file: Mutex<Option<(Arc<File>, f64)>>,
}

/// The table, and what stands in it.
#[derive(Debug)]
pub(super) struct Table {
    path: PathBuf,
    file: Arc<File>,
    shown: Arc<Shown>,
    printer: Fingerprinter,
    slots: Vec<Slot>,
    used: usize,
    applied: u64,
    newest: [u64; PrintOf::RULES.len()],
    lengths: Vec<bool>,
}

/// There is no room for an entry: a larger table has to be built.
#[derive(Debug)]
pub(super) struct Full;

impl Shown {
    pub(super) fn nothing() -> Arc<Self> {
        Arc::new(Self { file: Mutex::new(None) })
    }

    /// Says until when may be served, from when it returns.
    pub(super) fn serve_until(&self, micros: f64) -> io::Result<()> {
        match &mut *self.file.lock() {
            Some((file, until)) if *until != micros => {
                write_twice(file, UNTIL_AT, micros)?;
                *until = micros;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Table {
    /// Goes on with what a predecessor has left in the file, if it can be: it holds all rules that were acknowledged,
    /// which the state of this run may not. `None` when there is none of this boot. Stamps are of `epochs` from now on,
    /// and of `applied`.
    pub(super) fn take_over(
        path: &Path,
        shown: &Arc<Shown>,
        epochs: &[(String, Option<u64>)],
        applied: u64,
    ) -> io::Result<Option<(Self, u64)>> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(known) = Recorded::read(&bytes) else { return Ok(None) };
        // After a reboot a disk may hold less than what was acknowledged.
        if known.boot != boot_id()? {
            return Ok(None);
        }
        // What stands there as the end of the lease is believed until the first renewal changes it.
        let until = read_twice(&bytes, UNTIL_AT).unwrap_or(0.0);
        let used = known.slots.iter().filter(|slot| !slot.is_free()).count();
        let mut table = Self {
            path: path.to_owned(),
            file: draft(path)?,
            shown: Arc::clone(shown),
            printer: known.printer,
            slots: known.slots,
            used,
            applied,
            newest: known.newest,
            lengths: known.lengths,
        };
        table.put_in_place(epochs, known.floor, Some(until))?;
        Ok(Some((table, known.applied)))
    }

    /// Puts a new file in the place of the old one. Readers find nothing in between, and serve nothing.
    pub(super) fn build(
        path: &Path,
        shown: &Arc<Shown>,
        epochs: &[(String, Option<u64>)],
        printer: Fingerprinter,
        applied: u64,
        contents: &(Vec<RuleEntry>, u64),
    ) -> io::Result<Self> {
        let (entries, floor) = contents;
        let room = (entries.len() * 3).next_power_of_two().max(SLOTS_MIN);
        let mut table = Self {
            path: path.to_owned(),
            file: draft(path)?,
            shown: Arc::clone(shown),
            printer,
            slots: vec![Slot::default(); room],
            used: 0,
            applied,
            newest: [0; PrintOf::RULES.len()],
            lengths: vec![false; SLOTS_AT - LENGTHS_AT],
        };
        for entry in entries {
            let at = table.find(entry);
            table.keep(at, entry);
        }
        table.put_in_place(epochs, *floor, None)?;
        Ok(table)
    }

    /// `until`: the end of the lease, if it is not what was written last.
    ///
    /// Not `durable::replace`: the file goes on being written when it stands in its place, others have it mapped, and of
    /// what it says nothing has to survive a power cut, for it names the boot that it is good for. What matters is another
    /// order: the old one says that it is superseded before the new one has its name.
    fn put_in_place(
        &mut self,
        epochs: &[(String, Option<u64>)],
        floor: u64,
        until: Option<f64>,
    ) -> io::Result<()> {
        self.file.write_all_at(&self.encode(epochs, floor, &boot_id()?), 0)?;
        // Traffic Server runs as another user.
        self.file.set_permissions(Permissions::from_mode(0o644))?;
        let mut in_force = self.shown.file.lock();
        supersede(&self.path)?;
        let until = until.unwrap_or_else(|| in_force.as_ref().map_or(0.0, |(_, until)| *until));
        write_twice(&self.file, UNTIL_AT, until)?;
        fs::rename(draft_of(&self.path), &self.path)?;
        *in_force = Some((Arc::clone(&self.file), until));
        Ok(())
    }

    pub(super) const fn printer(&self) -> Fingerprinter {
        self.printer
    }

    /// Makes it unusable for those who have it mapped, wherever it is.
    pub(super) fn retire(&self) -> io::Result<()> {
        write_twice(&self.file, SUPERSEDED_AT, 1.0)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) const fn shown(&self) -> &Arc<Shown> {
        &self.shown
    }

    /// Whether the file is still the one of its name: somebody may have cleaned up.
    pub(super) fn is_in_place(&self) -> io::Result<bool> {
        use std::os::unix::fs::MetadataExt;
        let own = self.file.metadata()?;
        match fs::metadata(&self.path) {
            Ok(there) => Ok((own.dev(), own.ino()) == (there.dev(), there.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Puts an entry in force, from when it returns. What is there is never weakened.
    pub(super) fn put(&mut self, entry: &RuleEntry) -> io::Result<Result<(), Full>> {
        let at = self.find(entry);
        let (old, offset) = (self.slots[at], (SLOTS_AT + at * SLOT_BYTES) as u64);
        if old.is_free() && self.used * 2 >= self.slots.len() {
            return Ok(Err(Full));
        }
        if entry.class == PrintOf::Prefix && !self.lengths[entry.prefix_bytes] {
            self.file.write_all_at(&[1], (LENGTHS_AT + entry.prefix_bytes) as u64)?;
        }
        let newest = entry.hard.max(entry.soft);
        if self.newest_of(entry.class).is_some_and(|known| newest > known) {
            write_twice(&self.file, newest_at(entry.class), double(newest))?;
        }
        let mut new = old;
        new.raise(entry);
        let bytes = new.encode();
        if old.is_free() {
            self.file.write_all_at(&bytes[8..], offset + 8)?;
            self.file.write_all_at(&bytes[..8], offset)?;
        } else if old != new {
            self.file.write_all_at(&bytes[8..24], offset + 8)?;
            self.file.write_all_at(&bytes[24..], offset + 24)?;
        }
        self.keep(at, entry);
        Ok(Ok(()))
    }

    /// Fetches that begin from here on are stamped with this.
    pub(super) fn set_applied(&mut self, applied: u64) -> io::Result<()> {
        if applied != self.applied {
            write_twice(&self.file, APPLIED_AT, double(applied))?;
            self.applied = applied;
        }
        Ok(())
    }

    fn newest_of(&self, class: PrintOf) -> Option<u64> {
        self.newest.get(class as usize - 1).copied()
    }

    /// The slot of an entry, or the free one where it belongs. There is always a free one: half of them are.
    fn find(&self, entry: &RuleEntry) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = entry.print.0 as usize & mask;
        while !self.slots[at].is_free() && !self.slots[at].is_of(entry.print) {
            at = (at + 1) & mask;
        }
        at
    }

    /// Remembers what the file says.
    fn keep(&mut self, at: usize, entry: &RuleEntry) {
        let slot = &mut self.slots[at];
        self.used += usize::from(slot.is_free());
        slot.raise(entry);
        if entry.class == PrintOf::Prefix {
            self.lengths[entry.prefix_bytes] = true;
        }
        if let Some(newest) = self.newest.get_mut(entry.class as usize - 1) {
            *newest = entry.hard.max(entry.soft).max(*newest);
        }
    }

    fn encode(&self, epochs: &[(String, Option<u64>)], floor: u64, boot: &str) -> Vec<u8> {
        let mut bytes = vec![0; SLOTS_AT + self.slots.len() * SLOT_BYTES];
        let mut put = |at: usize, text: &[u8]| bytes[at..at + text.len()].copy_from_slice(text);
        put(0, MAGIC);
        put(VERSION_AT, &f64::from(VERSION).to_le_bytes());
        put(MASK_AT, &double(self.slots.len() as u64 - 1).to_le_bytes());
        put(SEEDS_AT[0], &f64::from(self.printer.seeds.0).to_le_bytes());
        put(SEEDS_AT[1], &f64::from(self.printer.seeds.1).to_le_bytes());
        put(FLOOR_AT, &double(floor).to_le_bytes());
        // Two tables may have the same seeds; this tells readers that there is another one.
        put(SERIAL_AT, &f64::from(rand::random::<u32>()).to_le_bytes());
        put(EPOCH_COUNT_AT, &[u8::try_from(epochs.len()).unwrap_or(0)]);
        for (n, (epoch, last)) in epochs.iter().enumerate() {
            put(EPOCHS_AT + n * EPOCH_BYTES, epoch.as_bytes());
            let last = last.map_or(OPEN_MICROS, double);
            put(EPOCHS_AT + n * EPOCH_BYTES + EPOCH_DIGITS, &last.to_le_bytes());
        }
        put(BOOT_AT, boot.as_bytes());
        put(APPLIED_AT, twice(double(self.applied)).as_flattened());
        for (class, newest) in PrintOf::RULES.into_iter().zip(self.newest) {
            put(newest_at(class), twice(double(newest)).as_flattened());
        }
        for (length, _) in self.lengths.iter().enumerate().filter(|(_, there)| **there) {
            put(LENGTHS_AT + length, &[1]);
        }
        for (at, slot) in self.slots.iter().enumerate().filter(|(_, slot)| !slot.is_free()) {
            put(SLOTS_AT + at * SLOT_BYTES, &slot.encode());
        }
        bytes
    }
}

impl Slot {
    fn raise(&mut self, entry: &RuleEntry) {
        self.print = [entry.print.0, entry.print.1];
        match entry.class {
            // A number, not a seq.
            PrintOf::Owned | PrintOf::OwnedUnder => self.hard = double(entry.hard),
            _ => {
                self.hard = self.hard.max(double(entry.hard));
                self.soft = self.soft.max(double(entry.soft));
            }
        }
    }
}

/// What a file says.
struct Recorded {
    floor: u64,
    boot: String,
    printer: Fingerprinter,
    slots: Vec<Slot>,
    applied: u64,
    newest: [u64; PrintOf::RULES.len()],
    lengths: Vec<bool>,
}

impl Recorded {
    /// `None` when it is not of this layout, has a successor, or was left in the middle of a write.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "seqs and seeds, written by us"
    )]
    fn read(bytes: &[u8]) -> Option<Self> {
        let number = |at| read_f64(bytes, at);
        if !bytes.starts_with(MAGIC)
            || number(VERSION_AT)? != f64::from(VERSION)
            || read_twice(bytes, SUPERSEDED_AT)? != 0.0
        {
            return None;
        }
        let slots = number(MASK_AT)? as usize + 1;
        if !slots.is_power_of_two() || bytes.len() != SLOTS_AT + slots * SLOT_BYTES {
            return None;
        }
        let mut newest = [0; PrintOf::RULES.len()];
        for (class, newest) in PrintOf::RULES.into_iter().zip(&mut newest) {
            *newest = read_twice(bytes, newest_at(class))? as u64;
        }
        let (slots, _) = bytes[SLOTS_AT..].as_chunks::<SLOT_BYTES>();
        Some(Self {
            floor: number(FLOOR_AT)? as u64,
            boot: std::str::from_utf8(bytes.get(BOOT_AT..BOOT_AT + BOOT_BYTES)?).ok()?.to_owned(),
            printer: Fingerprinter { seeds: (number(SEEDS_AT[0])? as u32, number(SEEDS_AT[1])? as u32) },
            slots: slots.iter().map(Slot::decode).collect::<Option<_>>()?,
            applied: read_twice(bytes, APPLIED_AT)? as u64,
            newest,
            lengths: bytes[LENGTHS_AT..SLOTS_AT].iter().map(|&byte| byte != 0).collect(),
        })
    }
}

/// The file that is to take the place of the one in use.
fn draft(path: &Path) -> io::Result<Arc<File>> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true).open(draft_of(path)).map(Arc::new)
}

fn draft_of(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// Which boot this is.
fn boot_id() -> io::Result<String> {
    let mut id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    id.truncate(BOOT_BYTES);
    Ok(id)
}

/// Makes what stands there unusable for those who have mapped it: before its successor is there, so that a daemon that
/// ends in between leaves nobody with a file that no one writes any more.
fn supersede(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).open(path) {
        Ok(file) if file.metadata()?.len() >= SLOTS_AT as u64 => write_twice(&file, SUPERSEDED_AT, 1.0),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// The first, then the second: see [`layout`].
pub(super) fn write_twice(file: &File, at: usize, number: f64) -> io::Result<()> {
    let [first, second] = layout::twice(number);
    file.write_all_at(&first, at as u64)?;
    file.write_all_at(&second, at as u64 + 8)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

    use super::*;

    const PRINTER: Fingerprinter = Fingerprinter { seeds: (7, 11) };

    fn url(text: &str, hard: u64) -> RuleEntry {
        RuleEntry {
            class: PrintOf::Url,
            print: PRINTER.of(PrintOf::Url, text),
            prefix_bytes: 0,
            hard,
            soft: 0,
        }
    }

    fn build(dir: &Path, entries: Vec<RuleEntry>) -> Table {
        Table::build(&dir.join("rules"), &Shown::nothing(), &epochs(), PRINTER, 4, &(entries, 0)).unwrap()
    }

    fn take_over(dir: &Path) -> Option<(Table, u64)> {
        Table::take_over(&dir.join("rules"), &Shown::nothing(), &epochs(), 7).unwrap()
    }

    fn epochs() -> [(String, Option<u64>); 2] {
        [("0123456789abcdef".to_owned(), None), ("fedcba9876543210".to_owned(), Some(3))]
    }

    #[test]
    fn a_successor_goes_on_with_what_was_in_force() {
        let dir = tempfile::tempdir().unwrap();
        let mut table = build(dir.path(), vec![url("a/1", 3)]);
        table.put(&url("a/2", 9)).unwrap().unwrap();
        table.put(&url("a/2", 5)).unwrap().unwrap();
        let prefix = RuleEntry {
            class: PrintOf::Prefix,
            print: PRINTER.of(PrintOf::Prefix, "a/"),
            prefix_bytes: 2,
            hard: 0,
            soft: 10,
        };
        table.put(&prefix).unwrap().unwrap();
        table.set_applied(10).unwrap();
        let (after, through) = take_over(dir.path()).unwrap();
        assert_eq!((&after.slots, after.used), (&table.slots, 3));
        assert_eq!((through, after.newest, &after.lengths), (10, table.newest, &table.lengths));
        assert_eq!(after.applied, 7, "what this run knows of, not what another did");
        assert_eq!(after.slots[after.find(&url("a/2", 0))].hard, 9.0, "an older purge weakens nothing");
        assert!(!table.is_in_place().unwrap() && after.is_in_place().unwrap());
    }

    #[test]
    fn a_file_with_a_successor_or_a_torn_one_is_not_gone_on_with() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rules");
        let table = build(dir.path(), vec![url("a/1", 3)]);
        let old = Arc::clone(&table.file);
        let second = build(dir.path(), Vec::new());
        let mut bytes = [0; 8];
        old.read_exact_at(&mut bytes, SUPERSEDED_AT as u64 + 8).unwrap();
        assert_eq!(f64::from_le_bytes(bytes), 1.0);
        assert!(!table.is_in_place().unwrap() && second.is_in_place().unwrap());
        second.file.write_all_at(&9.0_f64.to_le_bytes(), APPLIED_AT as u64).unwrap();
        assert!(take_over(dir.path()).is_none(), "half written");
        drop(build(dir.path(), Vec::new()));
        let (third, _) = take_over(dir.path()).unwrap();
        third.file.write_all_at(b"x", BOOT_AT as u64).unwrap();
        assert!(take_over(dir.path()).is_none(), "another boot's");
        fs::write(&path, b"BATOFFTS").unwrap();
        assert!(take_over(dir.path()).is_none(), "cut short");
    }

    #[test]
    fn a_full_table_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let mut table = build(dir.path(), Vec::new());
        for n in 0..SLOTS_MIN as u64 / 2 {
            table.put(&url(&format!("a/{n}"), n + 1)).unwrap().unwrap();
        }
        assert!(table.put(&url("a/one-more", 9_999)).unwrap().is_err());
        table.put(&url("a/1", 10_000)).unwrap().unwrap();
    }
}
