//! Who is here by the word of a proxy: remembered so that the audit log has one sign-in for him, and not one a request. Each
//! of several control planes remembers its own: who is sent from one to the other signs in at each.

use std::collections::HashMap;
use std::time::Duration;

use batoff_types::UnixMillis;
use parking_lot::Mutex;

use super::account::AccountName;
use super::session::SessionTimes;
use super::viewer::Grant;

/// Users remembered, some 200 bytes each. Of more, who was away for longest is told in the audit log once more than needed.
const REMEMBERED_MAX: usize = 4_096;

/// Who is here by a proxy's word.
#[derive(Default)]
pub(super) struct ProxiedUsers {
    here: Mutex<HashMap<AccountName, Here>>,
    /// Held while a sign-in is written down, so that two requests at one time are one sign-in.
    pub(super) writing: tokio::sync::Mutex<()>,
}

struct Here {
    grants: Vec<Grant>,
    began_at: UnixMillis,
    seen_at: UnixMillis,
}

impl ProxiedUsers {
    /// Whether the audit log tells already that he is here.
    pub(super) fn is_here(
        &self,
        name: &AccountName,
        grants: &[Grant],
        now: UnixMillis,
        times: SessionTimes,
    ) -> bool {
        let mut here = self.here.lock();
        let Some(known) = here.get_mut(name) else { return false };
        let age = |since: UnixMillis| Duration::from_millis(now.0.saturating_sub(since.0));
        let goes_on =
            known.grants == grants && age(known.seen_at) < times.idle && age(known.began_at) < times.absolute;
        if goes_on {
            known.seen_at = now;
        }
        goes_on
    }

    /// The audit log tells now that he is here.
    pub(super) fn remember(&self, name: AccountName, grants: Vec<Grant>, now: UnixMillis) {
        let mut here = self.here.lock();
        if here.len() >= REMEMBERED_MAX {
            let first = here.iter().min_by_key(|(_, known)| known.seen_at).map(|(name, _)| name.clone());
            first.map(|name| here.remove(&name));
        }
        here.insert(name, Here { grants, began_at: now, seen_at: now });
    }

    /// He has signed out.
    pub(super) fn forget(&self, name: &AccountName) {
        self.here.lock().remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::Role;

    #[test]
    fn one_is_here_until_one_is_idle_the_time_is_over_or_the_groups_are_others() {
        let times = SessionTimes { idle: Duration::from_secs(100), absolute: Duration::from_secs(1_000) };
        let (users, anna) = (ProxiedUsers::default(), "anna".parse::<AccountName>().unwrap());
        let grants = |role| vec![Grant { role, sites: vec!["shop".parse().unwrap()] }];
        let here = |secs: u64, role| users.is_here(&anna, &grants(role), UnixMillis(secs * 1_000), times);
        assert!(!here(0, Role::Member));
        users.remember(anna.clone(), grants(Role::Member), UnixMillis(0));
        assert!(here(0, Role::Member) && !here(0, Role::Manager));
        for secs in (0..1_000).step_by(99) {
            assert!(here(secs, Role::Member), "{secs}");
        }
        assert!(!here(1_000, Role::Member), "its time is over");
        users.remember(anna.clone(), grants(Role::Member), UnixMillis(0));
        assert!(!here(100, Role::Member), "idle");
        users.remember(anna.clone(), grants(Role::Member), UnixMillis(0));
        users.forget(&anna);
        assert!(!here(0, Role::Member));
    }

    #[test]
    fn who_was_away_for_longest_is_forgotten_for_another() {
        let times = SessionTimes { idle: Duration::from_secs(100), absolute: Duration::from_secs(1_000) };
        let users = ProxiedUsers::default();
        for number in 0..=REMEMBERED_MAX {
            let name = format!("user{number}").parse().unwrap();
            users.remember(name, Vec::new(), UnixMillis(number as u64));
        }
        let here = |number: usize| {
            users.is_here(&format!("user{number}").parse().unwrap(), &[], UnixMillis(5_000), times)
        };
        assert!(!here(0) && here(1) && here(REMEMBERED_MAX));
    }
}
