//! A bit flips anywhere in a segment: the start is refused, or the bit was in room that nothing uses.

use std::fs;

use batoff_types::{Seq, UnixMillis};
use bytes::Bytes;
use tempfile::TempDir;

use super::super::aligned::BLOCK;
use super::super::names::segment as name;
use super::super::segments::{GROUP_HEAD, GroupHead};
use super::{copy_files, open};
use crate::conformance::ManualClock;
use crate::embedded::{EmbeddedConfig, EmbeddedStore, OpenError};
use crate::purge_log::{NewRecord, PurgeLog};
use crate::store::Store;

const GROUPS: usize = 20;
const FLIPS: u64 = 400;

#[tokio::test]
async fn a_flipped_bit_stops_the_start_or_was_in_padding() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir, &ManualClock::default());
    for group in 0..GROUPS {
        let body = Bytes::from(vec![b'a' + group as u8; 300 * (group + 1)]);
        let record = NewRecord { body, accepted_at: UnixMillis(1), task: None, dedupe: Vec::new() };
        store.append(vec![record]).await.unwrap();
    }
    // As a crash leaves it: nothing but the log says what was accepted.
    let crashed = TempDir::new().unwrap();
    copy_files(dir.path(), crashed.path());
    store.close().await;
    let content = fs::read(crashed.path().join(name(1))).unwrap();
    // The segment's head.
    let mut used: Vec<_> = std::iter::once(0..BLOCK).collect();
    let mut at = BLOCK;
    while let Some(head) = GroupHead::claim(&content[at..]) {
        used.push(at..at + GROUP_HEAD + head.bytes as usize);
        at += head.span();
    }
    assert_eq!(used.len(), GROUPS + 1);
    let (mut refused, mut whole) = (0, 0);
    for flip in 0..FLIPS {
        // Scattered over the groups and a little room behind the last.
        let bit = (flip.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 11) as usize % ((at + 2 * BLOCK) * 8);
        let copy = TempDir::new().unwrap();
        copy_files(crashed.path(), copy.path());
        let mut spoilt = content.clone();
        spoilt[bit / 8] ^= 1 << (bit % 8);
        let path = copy.path().join(name(1));
        fs::write(&path, spoilt).unwrap();
        match EmbeddedStore::open(EmbeddedConfig::new(copy.path(), ManualClock::default().clock())) {
            Err(error) => {
                let OpenError::Corrupt { path: named, .. } = &error else { panic!("{error}") };
                assert_eq!(*named, path);
                refused += 1;
            }
            Ok(store) => {
                assert!(used.iter().all(|range| !range.contains(&(bit / 8))), "bit {bit} counts");
                assert_eq!(store.read(Seq::FIRST, 100, usize::MAX).await.unwrap().len(), GROUPS);
                store.close().await;
                whole += 1;
            }
        }
    }
    assert!(refused > 100 && whole > 10, "{refused} refused, {whole} in padding");
}
