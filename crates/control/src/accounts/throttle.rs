//! How often one may fail to sign in: a few times at once, then after a pause that doubles.
//!
//! | failures of | free | then |
//! | --- | --- | --- |
//! | an account, from addresses that nobody has signed in to it from | 5 | 1 s, 2 s, 4 s … 15 min |
//! | an account, from the address of its last sign-in | 5 | 1 s, 2 s, 4 s … 1 min |
//! | an address (with IPv6 a network of 64 bits), whatever the account | 30 | 1 s, 2 s, 4 s … 15 min |
//!
//! Failures are forgotten an hour after the last. Nobody is locked out for good: who fails on purpose with another's name
//! does so from elsewhere, and does not hold up the one who signs in from where he always does. This is what one process
//! remembers; a start begins anew, and each of several control planes counts what is tried at it: three of them let somebody
//! guess three times as often, which is still some hundred times a day.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use batoff_program::gate::client_of;
use batoff_types::Moment;
use parking_lot::Mutex;

use super::account::AccountName;

/// Accounts and addresses remembered one by one, some 150 bytes each. When so many fail at the same time, further ones
/// share one memory, so a storm from many addresses throttles itself.
const REMEMBERED_MAX: usize = 16_384;

/// After this time without a failure the earlier ones are forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60 * 60);

/// What failures are counted of.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Of {
    Account(AccountName),
    AccountAtHome(AccountName, IpAddr),
    Address(IpAddr),
    Others,
}

#[derive(Clone, Copy)]
struct Failures {
    count: u32,
    last: Moment,
    /// Nothing is tried before.
    pause_ends: Moment,
}

/// Somebody tries to sign in. It counts as a failure until it is known to be none, so that a thousand attempts at one
/// time are not let in before the first of them has failed.
#[must_use]
pub(super) struct Attempt {
    of: Vec<Of>,
}

/// The failures of all accounts and addresses.
#[derive(Default)]
pub(super) struct Throttle(Mutex<HashMap<Of, Failures>>);

impl Of {
    fn pause(&self, count: u32) -> Duration {
        let (free, longest) = match self {
            Self::Account(_) => (5, Duration::from_secs(15 * 60)),
            Self::AccountAtHome(..) => (5, Duration::from_secs(60)),
            Self::Address(_) | Self::Others => (30, Duration::from_secs(15 * 60)),
        };
        match count.checked_sub(free) {
            // Before the last free one there is no pause.
            None => Duration::ZERO,
            Some(beyond) => Duration::from_secs(1u64.checked_shl(beyond).unwrap_or(u64::MAX)).min(longest),
        }
    }
}

impl Throttle {
    /// Lets somebody try, or says how long he must wait. `is_home`: the account's last sign-in was from there.
    pub(super) fn begin(
        &self,
        now: Moment,
        account: Option<&AccountName>,
        from: IpAddr,
        is_home: bool,
    ) -> Result<Attempt, Duration> {
        let client = client_of(from);
        let of_account = account.map(|name| match is_home {
            true => Of::AccountAtHome(name.clone(), client),
            false => Of::Account(name.clone()),
        });
        let mut all = self.0.lock();
        let mut of: Vec<Of> = of_account.into_iter().chain([Of::Address(client)]).collect();
        make_room(&mut all, &mut of, now);
        let waits =
            of.iter().filter_map(|one| all.get(one)).map(|failures| since(now, failures.pause_ends)).max();
        if let Some(wait) = waits.filter(|wait| !wait.is_zero()) {
            return Err(wait);
        }
        for one in &of {
            let failures =
                all.entry(one.clone()).or_insert(Failures { count: 0, last: now, pause_ends: now });
            if since(failures.last, now) > FORGOTTEN_AFTER {
                failures.count = 0;
            }
            failures.count = failures.count.saturating_add(1);
            failures.last = now;
            failures.pause_ends = now + one.pause(failures.count);
        }
        Ok(Attempt { of })
    }

    /// It succeeded: the account's failures are forgotten. Those of the address stay, or who has an account could guess
    /// at others for ever by signing in to his own in between.
    pub(super) fn succeeded(&self, now: Moment, attempt: Attempt) {
        let mut all = self.0.lock();
        for one in attempt.of {
            match one {
                Of::Account(_) | Of::AccountAtHome(..) => drop(all.remove(&one)),
                Of::Address(_) | Of::Others => take_back(&mut all, &one, now),
            }
        }
    }

    /// It came to nothing for a reason that says nothing about who tried.
    pub(super) fn undone(&self, now: Moment, attempt: &Attempt) {
        let mut all = self.0.lock();
        attempt.of.iter().for_each(|one| take_back(&mut all, one, now));
    }

    /// Somebody has given the account another password.
    pub(super) fn forget(&self, account: &AccountName) {
        self.0
            .lock()
            .retain(|of, _| !matches!(of, Of::Account(name) | Of::AccountAtHome(name, _) if name == account));
    }
}

fn take_back(all: &mut HashMap<Of, Failures>, of: &Of, now: Moment) {
    let Some(failures) = all.get_mut(of) else { return };
    failures.count = failures.count.saturating_sub(1);
    failures.pause_ends = now;
    if failures.count == 0 {
        all.remove(of);
    }
}

/// How much later `later` is.
fn since(earlier: Moment, later: Moment) -> Duration {
    Duration::from_micros(later.as_micros().saturating_sub(earlier.as_micros()))
}

/// Puts what there is no room for together with the others.
fn make_room(all: &mut HashMap<Of, Failures>, of: &mut [Of], now: Moment) {
    if all.len() + of.len() <= REMEMBERED_MAX {
        return;
    }
    all.retain(|_, failures| since(failures.last, now) <= FORGOTTEN_AFTER);
    if all.len() + of.len() <= REMEMBERED_MAX {
        return;
    }
    for one in of.iter_mut().filter(|one| !all.contains_key(one)) {
        *one = Of::Others;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Moment {
        Moment::from_micros(secs * 1_000_000)
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    /// How often one may fail at one time.
    fn failures_at(
        throttle: &Throttle,
        now: Moment,
        account: Option<&AccountName>,
        from: IpAddr,
        home: bool,
    ) -> usize {
        (0..1_000).take_while(|_| throttle.begin(now, account, from, home).is_ok()).count()
    }

    #[test]
    fn the_pause_doubles_up_to_its_longest_and_ends() {
        let (throttle, anna) = (Throttle::default(), "anna".parse().unwrap());
        let begin = |now, from| throttle.begin(now, Some(&anna), from, false).map(drop);
        assert_eq!(failures_at(&throttle, at(0), Some(&anna), address(1), false), 5);
        assert_eq!(begin(at(0), address(2)), Err(Duration::from_secs(1)), "whoever tries it");
        let (mut now, mut pause) = (0, 1);
        for _ in 0..20 {
            now += pause;
            // From ever other addresses, so that only the account is what counts.
            assert_eq!(begin(at(now), address((now % 250) as u8)), Ok(()));
            pause = (pause * 2).min(15 * 60);
            assert_eq!(begin(at(now), address(1)), Err(Duration::from_secs(pause)));
        }
        assert_eq!(
            failures_at(&throttle, at(now + 3_601), Some(&anna), address(1), false),
            5,
            "forgotten after an hour"
        );
    }

    #[test]
    fn who_guesses_from_elsewhere_does_not_lock_the_owner_out() {
        let (throttle, anna) = (Throttle::default(), "anna".parse().unwrap());
        for n in 0..100 {
            let _ = throttle.begin(at(n), Some(&anna), address(66), false);
        }
        assert!(throttle.begin(at(100), Some(&anna), address(77), false).is_err());
        assert!(throttle.begin(at(100), Some(&anna), address(1), true).is_ok());
        throttle.forget(&anna);
        assert!(throttle.begin(at(100), Some(&anna), address(77), false).is_ok());
    }

    #[test]
    fn an_address_that_tries_many_names_is_held_up_and_no_sign_in_of_its_own_frees_it() {
        let (throttle, own) = (Throttle::default(), "own".parse().unwrap());
        for n in 0..29 {
            let name: AccountName = format!("name{n}").parse().unwrap();
            assert!(throttle.begin(at(0), Some(&name), address(1), false).is_ok());
        }
        let attempt = throttle.begin(at(0), Some(&own), address(1), true).unwrap();
        throttle.succeeded(at(0), attempt);
        assert_eq!(failures_at(&throttle, at(0), None, address(1), false), 1);
        assert!(throttle.begin(at(0), Some(&own), address(2), true).is_ok());
    }

    #[test]
    fn success_and_what_is_undone_leave_nothing_behind() {
        let (throttle, anna) = (Throttle::default(), "anna".parse().unwrap());
        for n in 0..100 {
            let attempt = throttle.begin(at(0), Some(&anna), address(1), false).unwrap();
            if n % 2 == 0 { throttle.succeeded(at(0), attempt) } else { throttle.undone(at(0), &attempt) }
        }
        assert!(throttle.0.lock().is_empty());
    }

    #[test]
    fn memory_is_bounded_and_those_beyond_it_share() {
        let throttle = Throttle::default();
        for n in 0..REMEMBERED_MAX as u32 {
            assert!(throttle.begin(at(0), None, IpAddr::V4(n.into()), false).is_ok());
        }
        let beyond = |n: u32| IpAddr::V4((REMEMBERED_MAX as u32 + n).into());
        for n in 0..30 {
            assert!(throttle.begin(at(0), None, beyond(n), false).is_ok());
        }
        assert!(throttle.begin(at(0), None, beyond(99), false).is_err());
        assert_eq!(throttle.0.lock().len(), REMEMBERED_MAX + 1);
        assert!(throttle.begin(at(3_602), None, beyond(99), false).is_ok(), "those before are forgotten");
        assert_eq!(throttle.0.lock().len(), 1);
    }
}
