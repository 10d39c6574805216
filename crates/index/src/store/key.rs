//! What a URL is filed under.

use std::hash::{BuildHasher, Hasher};

use memchr::{memchr, memrchr};

use crate::place::host_of;

/// How many parts the store has; each has its lock. A power of two, and as many as four bits tell apart.
pub(crate) const SHARDS: usize = 16;

pub(crate) type HashState = foldhash::quality::RandomState;

/// A key `host[:port]/a/b/c.jpg?x=1`, cut behind the last slash of its path: `host[:port]/a/b/` and `c.jpg?x=1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Split<'a> {
    pub(crate) directory: &'a str,
    pub(crate) name: &'a str,
}

impl<'a> Split<'a> {
    pub(crate) fn of(key: &'a str) -> Self {
        let path_end = memchr(b'?', key.as_bytes()).unwrap_or(key.len());
        let at = memrchr(b'/', &key.as_bytes()[..path_end]).map_or(0, |slash| slash + 1);
        Self { directory: &key[..at], name: &key[at..] }
    }
}

/// A directory's hash; its high bits say in which shard it is, with all that lies in it.
pub(crate) fn directory_hash(state: &HashState, directory: &str) -> u64 {
    let mut hasher = state.build_hasher();
    hasher.write(directory.as_bytes());
    hasher.finish()
}

/// The hash of a name in a directory: of a whole key, without having it in one piece.
pub(crate) fn name_hash(state: &HashState, directory: u64, name: &[u8]) -> u64 {
    let mut hasher = state.build_hasher();
    hasher.write_u64(directory);
    hasher.write(name);
    hasher.finish()
}

pub(crate) const fn shard_of(hash: u64) -> usize {
    (hash >> 60) as usize % SHARDS
}

/// The host in a directory's text, and the rest: `[:port]/a/b/`.
pub(crate) fn host_and_rest(directory: &str) -> (&str, &str) {
    directory.split_at(host_of(directory).len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_cut_behind_the_last_slash_of_its_path() {
        for (key, directory, name) in [
            ("h.test/", "h.test/", ""),
            ("h.test/a", "h.test/", "a"),
            ("h.test/a/b?c=/d/", "h.test/a/", "b?c=/d/"),
            ("[::1]:81/?/", "[::1]:81/", "?/"),
            ("h.test:80//", "h.test:80//", ""),
        ] {
            assert_eq!(Split::of(key), Split { directory, name });
        }
    }
}
