//! What the writer knows of the thread behind it.

use std::sync::Arc;
use std::time::Instant;

use super::super::checkpoint::CheckpointPlace;
use super::super::fault::Fault;
use super::super::keeper::{Errand, KeeperLine};
use super::super::keys::KeyRows;
use super::super::layer::TaskLayer;
use super::super::segments::Spare;

/// What the thread behind the writer is doing for it.
pub(super) struct Upkeep {
    pub(super) keeper: KeeperLine,
    /// The last group that the checkpoint holds.
    pub(super) checkpointed: u64,
    /// What is to be in the next checkpoint.
    pub(super) leaving: Option<Leaving>,
    /// Whether the keeper is writing it now.
    pub(super) is_writing: bool,
    pub(super) spare: SpareState,
    /// The number of the next run of keys: higher than that of any which a failed checkpoint may have left.
    pub(super) next_run: u64,
}

/// What a checkpoint is to take over. Kept until that has succeeded.
pub(super) struct Leaving {
    pub(super) standing: CheckpointPlace,
    pub(super) layer: Arc<TaskLayer>,
    pub(super) keys: Arc<KeyRows>,
}

#[derive(Debug)]
pub(super) enum SpareState {
    None,
    Asked,
    Ready(Spare),
    /// It could not be made, and is needed only later.
    NotBefore(Instant),
}

impl Upkeep {
    pub(super) fn new(keeper: KeeperLine, checkpointed: u64) -> Self {
        Self { keeper, checkpointed, leaving: None, is_writing: false, spare: SpareState::None, next_run: 1 }
    }

    /// Whether a checkpoint of this group may be on the disk.
    pub(super) fn knows_checkpoint(&self, group: u64) -> bool {
        let leaving = self.leaving.as_ref().map(|leaving| leaving.standing.at.group);
        group == self.checkpointed || leaving == Some(group)
    }

    pub(super) fn ask(&self, errand: Errand) -> Result<(), Fault> {
        self.keeper.errands.send(errand).map_err(|_| gone())
    }
}

/// The thread behind has panicked: only another start helps, which the writer's own panic says.
pub(super) fn gone() -> Fault {
    Fault::Io("the keeper of the purge log has stopped unexpectedly".to_owned())
}
