//! What follows from a group of the log.

use batoff_types::{Cursor, UnixMillis};
use bytes::Bytes;

use super::committed::Committed;
use super::keys::SeenKeys;
use super::layer::TaskLayer;
use super::segments::{FrameKey, GroupHead, LogFrame};
use crate::purge_log::TaskRow;

/// Applies a group that was read: a second time what its writer did when it was durable.
///
/// The error says what is wrong with the group.
pub(super) fn apply(
    head: &GroupHead,
    mut frames: &[u8],
    now: UnixMillis,
    committed: &mut Committed,
    layer: &mut TaskLayer,
    keys: &mut SeenKeys,
) -> Result<(), String> {
    if head.group != committed.group + 1 || head.first_seq != committed.tail.next().get() {
        return Err(format!(
            "group {} begins with record {}, but group {} ends with record {}",
            head.group, head.first_seq, committed.group, committed.tail
        ));
    }
    while !frames.is_empty() {
        let (frame, rest) =
            LogFrame::read(frames).ok_or_else(|| format!("group {} cannot be read", head.group))?;
        frames = rest;
        match frame {
            LogFrame::Record { accepted_at, task, keys: stored, .. } => {
                let seq = committed.tail.next();
                if let Some(task) = task {
                    committed.last_task = committed.last_task.max(task.task);
                    layer.add(TaskRow {
                        site: task.site,
                        task: task.task,
                        seq,
                        accepted_at,
                        meta: Bytes::copy_from_slice(task.meta),
                        completion: None,
                    });
                }
                for FrameKey { key, seen } in stored {
                    if now < seen.expires_at {
                        keys.remember(key, seen);
                    }
                }
                committed.tail = Cursor::after(seq);
                committed.high = committed.high.max(accepted_at);
            }
            LogFrame::First(first) => committed.first = first,
            LogFrame::Completions(rows) => {
                for (seq, completion) in rows {
                    layer.complete(seq, Bytes::copy_from_slice(completion));
                }
            }
            LogFrame::Forgotten(seqs) => seqs.into_iter().for_each(|seq| layer.forget(seq)),
        }
    }
    committed.group = head.group;
    Ok(())
}
