//! The keys, see the table in `lib.rs`. Numbers have 20 digits, so that the order of the keys is theirs.

use batoff_log::Key;
use bytes::Bytes;

use crate::open_error::EtcdOpenError;
use crate::rpc::{KeyRange, successor};

/// All keys of one log.
#[derive(Clone, Debug)]
pub(crate) struct KeyNames {
    prefix: String,
}

/// Where the parts of large values lie: those of groups together, those of a page by themselves, so that what is left of
/// a page that was never finished is found with the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PartsShelf {
    Groups,
    Page(u64),
}

impl PartsShelf {
    fn name(self) -> String {
        match self {
            Self::Groups => "p/".to_owned(),
            Self::Page(page) => format!("q/{page:020}/"),
        }
    }
}

impl KeyNames {
    pub(crate) fn new(prefix: &str) -> Result<Self, EtcdOpenError> {
        let is_sound = prefix.ends_with('/') && prefix.bytes().all(|byte| byte.is_ascii_graphic());
        if is_sound {
            Ok(Self { prefix: prefix.to_owned() })
        } else {
            Err(EtcdOpenError::Prefix { prefix: prefix.to_owned() })
        }
    }

    pub(crate) fn identity(&self) -> Bytes {
        self.name("m")
    }

    /// That a log is being moved here.
    pub(crate) fn import(&self) -> Bytes {
        self.name("i")
    }

    /// All keys of the log.
    pub(crate) fn everything(&self) -> KeyRange {
        KeyRange::below(self.name(""))
    }

    /// All keys of its pairs.
    pub(crate) fn all_pairs(&self) -> KeyRange {
        KeyRange::below(self.name("k/"))
    }

    /// All that a log consists of, but for what says that it is one.
    pub(crate) fn contents(&self) -> Vec<KeyRange> {
        let below = |kind: &str| KeyRange::below(self.name(kind));
        let kinds = ["l/", "x/", "p/", "q/", "k/", "e/"].map(below);
        kinds.into_iter().chain([self.head(), self.first(), self.room()].map(KeyRange::one)).collect()
    }

    pub(crate) fn head(&self) -> Bytes {
        self.name("h")
    }

    pub(crate) fn first(&self) -> Bytes {
        self.name("f")
    }

    pub(crate) fn room(&self) -> Bytes {
        self.name("r")
    }

    pub(crate) fn group(&self, group: u64) -> Bytes {
        self.name(&format!("l/{group:020}"))
    }

    /// Groups from this one on.
    pub(crate) fn groups_from(&self, group: u64) -> KeyRange {
        KeyRange { begin: self.group(group), end: successor(&self.name("l/")) }
    }

    /// Groups before this one.
    pub(crate) fn groups_before(&self, group: u64) -> KeyRange {
        KeyRange { begin: self.name("l/"), end: self.group(group) }
    }

    /// Which group a key is of.
    pub(crate) fn group_of(&self, key: &[u8]) -> Option<u64> {
        self.number(key, "l/")
    }

    pub(crate) fn page(&self, page: u64) -> Bytes {
        self.name(&format!("x/{page:020}"))
    }

    /// Which page a key is of.
    pub(crate) fn page_of(&self, key: &[u8]) -> Option<u64> {
        self.number(key, "x/")
    }

    pub(crate) fn pages(&self) -> KeyRange {
        KeyRange::below(self.name("x/"))
    }

    /// All parts on a shelf.
    pub(crate) fn shelf(&self, shelf: PartsShelf) -> KeyRange {
        KeyRange::below(self.name(&shelf.name()))
    }

    /// The parts of one value.
    pub(crate) fn parts_of(&self, shelf: PartsShelf, writer: &[u8], number: u64) -> KeyRange {
        KeyRange::below(self.name(&format!("{}{}/{number:020}/", shelf.name(), hex(writer))))
    }

    pub(crate) fn part(&self, shelf: PartsShelf, writer: &[u8], number: u64, part: u32) -> Bytes {
        self.name(&format!("{}{}/{number:020}/{part:05}", shelf.name(), hex(writer)))
    }

    /// What all parts of the value begin with that a part belongs to.
    pub(crate) fn value_of_part(&self, part: &Bytes) -> Bytes {
        part.slice(..part.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1))
    }

    pub(crate) fn pair(&self, key: &Key) -> Bytes {
        self.bytes("k/", key.as_bytes())
    }

    /// Pairs whose key begins with `prefix`.
    pub(crate) fn pairs(&self, prefix: &Key) -> KeyRange {
        KeyRange::below(self.pair(prefix))
    }

    /// Which pair a key is of.
    pub(crate) fn pair_of(&self, key: &Bytes) -> Option<Key> {
        let length = key.strip_prefix(self.prefix.as_bytes())?.strip_prefix(b"k/")?.len();
        Some(Key::new(key.slice(key.len() - length..)))
    }

    /// That a pair expires.
    pub(crate) fn expiry(&self, at_ms: u64, key: &Key) -> Bytes {
        self.bytes(&format!("e/{at_ms:020}/"), key.as_bytes())
    }

    /// All expiries.
    pub(crate) fn expiries(&self) -> KeyRange {
        KeyRange::below(self.name("e/"))
    }

    /// Expiries before this time or at it.
    pub(crate) fn expiries_through(&self, at_ms: u64) -> KeyRange {
        KeyRange { begin: self.name("e/"), end: self.name(&format!("e/{:020}/", at_ms.saturating_add(1))) }
    }

    /// Which pair an expiry is of.
    pub(crate) fn expiring_pair(&self, key: &[u8]) -> Option<Key> {
        let rest = key.strip_prefix(self.prefix.as_bytes())?.strip_prefix(b"e/")?;
        Some(Key::new(rest.get(21..)?.to_vec()))
    }

    pub(crate) fn replica(&self, replica: &str) -> Bytes {
        self.name(&format!("a/{replica}"))
    }

    pub(crate) fn shard(&self, replica: &str, shard: u16) -> Bytes {
        self.name(&format!("a/{replica}/{shard:05}"))
    }

    pub(crate) fn replicas(&self) -> KeyRange {
        KeyRange::below(self.name("a/"))
    }

    /// Which replica a key is of, and which of its shards, if it is of one.
    pub(crate) fn replica_of<'k>(&self, key: &'k [u8]) -> Option<(&'k str, Option<u16>)> {
        let rest = key.strip_prefix(self.prefix.as_bytes())?.strip_prefix(b"a/")?;
        let text = std::str::from_utf8(rest).ok()?;
        match text.split_once('/') {
            None => Some((text, None)),
            Some((replica, shard)) => Some((replica, Some(shard.parse().ok()?))),
        }
    }

    fn name(&self, rest: &str) -> Bytes {
        self.bytes(rest, &[])
    }

    fn bytes(&self, kind: &str, rest: &[u8]) -> Bytes {
        [self.prefix.as_bytes(), kind.as_bytes(), rest].concat().into()
    }

    fn number(&self, key: &[u8], kind: &str) -> Option<u64> {
        let digits = key.strip_prefix(self.prefix.as_bytes())?.strip_prefix(kind.as_bytes())?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_is_recognised() {
        let names = KeyNames::new("batoff/").unwrap();
        assert_eq!(names.group_of(&names.group(77)), Some(77));
        assert_eq!(names.group_of(&names.head()), None);
        let key = Key::from("tokens/a/b");
        assert_eq!(names.pair_of(&names.pair(&key)), Some(key.clone()));
        assert_eq!(names.expiring_pair(&names.expiry(123, &key)), Some(key));
        assert_eq!(names.replica_of(&names.replica("01A")), Some(("01A", None)));
        assert_eq!(names.replica_of(&names.shard("01A", 7)), Some(("01A", Some(7))));
        for wrong in ["", "batoff", "bat off/", "b\n/"] {
            assert!(KeyNames::new(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn ranges_hold_what_they_are_named_for() {
        let names = KeyNames::new("batoff/").unwrap();
        let holds = |range: KeyRange, key: Bytes| range.begin <= key && key < range.end;
        assert!(holds(names.groups_from(5), names.group(5)) && !holds(names.groups_from(5), names.group(4)));
        assert!(
            holds(names.groups_before(5), names.group(4)) && !holds(names.groups_before(5), names.group(5))
        );
        let end = Key::new(vec![0xFF; 3]);
        assert!(holds(names.pairs(&Key::from("")), names.pair(&end)));
        assert!(holds(names.pairs(&end), names.pair(&end)));
        let (soon, late) = (names.expiry(9, &end), names.expiry(10, &Key::from("a")));
        assert!(holds(names.expiries_through(9), soon) && !holds(names.expiries_through(9), late));
    }
}
