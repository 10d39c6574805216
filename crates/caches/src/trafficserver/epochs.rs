//! Whose the stamps in Traffic Server's cache are, and how far they are believed.
//!
//! Each run of the daemon stamps under an *epoch* of its own. A stamp of an earlier run counts through the position that
//! the state stood at when the next run began: what was stamped beyond that, by a run that this state has never heard of
//! (the state was restored from a backup, or is another node's), or before a reset, is no stamp.

use std::io;
use std::path::{Path, PathBuf};

use batoff_types::{Cursor, Generation};

use super::layout::{EPOCH_DIGITS, EPOCHS_MAX};
use crate::shared::state_file;

/// In the state directory.
const FILE: &str = "trafficserver-stamps";

/// The epochs, with the one of new stamps first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Epochs {
    state: PathBuf,
    generation: Generation,
    own: u64,
    /// Newest first, each with the last position that is believed.
    earlier: Vec<(u64, u64)>,
}

impl Epochs {
    /// Those of a run that begins at `cursor`. Durable when this returns.
    pub(super) fn begin(state: &Path, generation: Generation, cursor: Cursor) -> io::Result<Self> {
        let before = state_file::read(state, FILE)?.and_then(|text| parse(state, &text));
        let mut epochs =
            Self { state: state.to_owned(), generation, own: rand::random(), earlier: Vec::new() };
        // Of another generation: dropped, or restored.
        if let Some(before) = before.filter(|before| before.generation == generation) {
            // What it has stamped since is beyond, and so is what others said of a later position than this.
            let through = cursor.get();
            epochs.earlier.push((before.own, through));
            epochs.earlier.extend(before.earlier.into_iter().map(|(epoch, last)| (epoch, last.min(through))));
            epochs.earlier.truncate(EPOCHS_MAX - 1);
        }
        epochs.write()?;
        Ok(epochs)
    }

    /// Everything that was stamped before is gone. Durable when this returns.
    pub(super) fn forget(&mut self, generation: Generation) -> io::Result<()> {
        let fresh = Self { state: self.state.clone(), generation, own: rand::random(), earlier: Vec::new() };
        fresh.write()?;
        *self = fresh;
        Ok(())
    }

    /// As stamps begin with each, and through which position it is believed; that of new stamps first.
    pub(super) fn shown(&self) -> Vec<(String, Option<u64>)> {
        let earlier = self.earlier.iter().map(|(epoch, last)| (digits(*epoch), Some(*last)));
        std::iter::once((digits(self.own), None)).chain(earlier).collect()
    }

    fn write(&self) -> io::Result<()> {
        let mut text = format!("generation {}\n{}\n", self.generation.0, digits(self.own));
        for (epoch, last) in &self.earlier {
            text.push_str(&format!("{} {last}\n", digits(*epoch)));
        }
        state_file::replace(&self.state, FILE, &text)
    }
}

/// `None` for what was cut short, or written by a release that knew no epochs.
fn parse(state: &Path, text: &str) -> Option<Epochs> {
    let mut lines = text.lines();
    let generation = Generation(lines.next()?.strip_prefix("generation ")?.parse().ok()?);
    let own = u64::from_str_radix(lines.next()?, 16).ok()?;
    let earlier = lines.map(|line| {
        let (epoch, last) = line.split_once(' ')?;
        Some((u64::from_str_radix(epoch, 16).ok()?, last.parse().ok()?))
    });
    Some(Epochs { state: state.to_owned(), generation, own, earlier: earlier.collect::<Option<_>>()? })
}

fn digits(epoch: u64) -> String {
    format!("{epoch:0width$x}", width = EPOCH_DIGITS)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn begin(dir: &Path, generation: u64, cursor: u64) -> Epochs {
        Epochs::begin(dir, Generation(generation), Cursor::new(cursor)).unwrap()
    }

    #[test]
    fn a_stamp_counts_through_the_position_that_the_next_run_began_at() {
        let dir = tempfile::tempdir().unwrap();
        let first = begin(dir.path(), 1, 10).shown();
        assert_eq!(first.len(), 1);
        let second = begin(dir.path(), 1, 40).shown();
        assert_eq!(second[1], (first[0].0.clone(), Some(40)));
        let backup = fs::read(dir.path().join(FILE)).unwrap();
        let lost = begin(dir.path(), 1, 60).shown();
        fs::write(dir.path().join(FILE), backup).unwrap();
        let restored = begin(dir.path(), 1, 45).shown();
        assert_eq!(restored[1..], [(second[0].0.clone(), Some(45)), (first[0].0.clone(), Some(40))]);
        assert!(!restored.iter().any(|(epoch, _)| *epoch == lost[0].0), "stamped in a future that was lost");
        // A state that went back takes back what it said of earlier epochs.
        assert_eq!(begin(dir.path(), 1, 5).shown()[2].1, Some(5));
    }

    #[test]
    fn nothing_counts_after_a_reset_or_of_another_generation() {
        let dir = tempfile::tempdir().unwrap();
        let mut epochs = begin(dir.path(), 1, 10);
        let own = epochs.shown()[0].0.clone();
        epochs.forget(Generation(2)).unwrap();
        assert!(epochs.shown().len() == 1 && epochs.shown()[0].0 != own);
        assert_eq!(begin(dir.path(), 3, 20).shown().len(), 1, "raised while nobody looked");
        fs::write(dir.path().join(FILE), "generation 3\n00").unwrap();
        assert_eq!(begin(dir.path(), 3, 30).shown()[1].0, digits(0));
        fs::write(dir.path().join(FILE), "0123456789abcdef\n").unwrap();
        assert_eq!(begin(dir.path(), 3, 30).shown().len(), 1, "of an older release");
    }

    #[test]
    fn only_so_many_runs_are_remembered() {
        let dir = tempfile::tempdir().unwrap();
        for run in 0..EPOCHS_MAX as u64 + 3 {
            assert!(begin(dir.path(), 1, run).shown().len() <= EPOCHS_MAX);
        }
    }
}
