//! Which refused sign-ins the audit log lists.

use batoff_types::UnixMillis;
use parking_lot::Mutex;

/// Refused sign-ins that the audit log lists in a minute; further ones are counted.
const REFUSED_PER_MINUTE: u32 = 30;

/// Which refused sign-ins the audit log lists: strangers must not push what others did out of its share of the disk.
#[derive(Default)]
pub(super) struct RefusedSignIns(Mutex<ListedRefusals>);

#[derive(Default)]
struct ListedRefusals {
    minute: u64,
    listed: u32,
    unlisted: u64,
}

impl RefusedSignIns {
    /// `None`: this one is not listed. Else how many before it were not.
    pub(super) fn listed(&self, now: UnixMillis) -> Option<u64> {
        let mut refusals = self.0.lock();
        let minute = now.0 / 60_000;
        if refusals.minute != minute {
            (refusals.minute, refusals.listed) = (minute, 0);
        }
        if refusals.listed >= REFUSED_PER_MINUTE {
            refusals.unlisted += 1;
            return None;
        }
        refusals.listed += 1;
        Some(std::mem::take(&mut refusals.unlisted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_of_refused_sign_ins_is_counted_and_not_listed() {
        let (refused, now) = (RefusedSignIns::default(), UnixMillis(1_776_672_751_999));
        let listed = (0..1_000).filter(|_| refused.listed(now) == Some(0)).count();
        assert_eq!(listed, 30);
        assert_eq!(refused.listed(UnixMillis(now.0 + 60_000)), Some(970));
        assert_eq!(refused.listed(UnixMillis(now.0 + 60_000)), Some(0));
    }
}
