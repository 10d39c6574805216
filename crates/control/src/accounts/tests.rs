//! The rules of signing in, against a real store, with clocks that are set by hand.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use batoff_log::embedded::{EmbeddedConfig, EmbeddedStore};
use batoff_log::{Key, Store};
use batoff_types::{Replica, UnixMillis};
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::*;
use crate::audit::{Audit, AuditEntry, AuditFilter, LISTED_MAX};
use crate::catalog::MasterKey;
use crate::clock::Clock;
use crate::language::Language;

const TIMES: SessionTimes =
    SessionTimes { idle: Duration::from_secs(12 * 60 * 60), absolute: Duration::from_secs(7 * 24 * 60 * 60) };

const START: u64 = 1_776_672_751_000;

struct House {
    accounts: Accounts,
    audit: Arc<Audit>,
    store: Arc<dyn Store>,
    wall: Arc<AtomicU64>,
    _dir: TempDir,
}

impl House {
    async fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let wall = Arc::new(AtomicU64::new(START));
        let read = Arc::clone(&wall);
        let clock = Clock::with_wall(move || UnixMillis(read.load(Ordering::Relaxed)));
        let store: Arc<dyn Store> =
            EmbeddedStore::open(EmbeddedConfig::new(dir.path(), clock.wall_fn())).unwrap();
        let log = store.log().state().await.unwrap();
        let audit = Arc::new(
            Audit::open(Arc::clone(&store), clock.clone(), log.log_id, Replica::ONLY).await.unwrap(),
        );
        let accounts =
            Accounts::new(Arc::clone(&store), clock, Arc::clone(&audit), MasterKey::new([7; 32]), TIMES);
        Self { accounts, audit, store, wall, _dir: dir }
    }

    fn pass(&self, time: Duration) {
        self.wall.fetch_add(time.as_millis() as u64, Ordering::Relaxed);
    }

    async fn add(&self, name: &str, role: Role, sites: &[&str]) -> Zeroizing<String> {
        let new = NewAccount {
            name: name.parse().unwrap(),
            role,
            sites: sites.iter().map(|site| site.parse().unwrap()).collect(),
            language: None,
            created_by: "admin".to_owned(),
        };
        self.accounts.add(new).await.unwrap().password
    }

    async fn viewer(&self, session: &NewSession) -> Option<Viewer> {
        self.accounts.session(&session.cookie_value, home()).await.unwrap()
    }

    /// What the audit log says of users, oldest first: actor, action, object, result, code.
    async fn told(&self) -> Vec<String> {
        self.audit.flush().await.unwrap();
        let page = self.audit.list(&AuditFilter::default(), None, LISTED_MAX).await.unwrap();
        let entries = page.entries.iter().rev().map(|entry| {
            let entry: AuditEntry = serde_json::from_str(entry.as_str()).unwrap();
            let object = entry.object.unwrap_or_default();
            let code = entry.code.unwrap_or_default();
            format!("{} {} {object} {} {code}", entry.actor, entry.action, entry.result).trim_end().to_owned()
        });
        entries.filter(|line| line.contains(" user.")).collect()
    }
}

fn home() -> IpAddr {
    "192.0.2.1".parse().unwrap()
}

fn elsewhere() -> IpAddr {
    "198.51.100.7".parse().unwrap()
}

#[tokio::test]
async fn who_knows_the_password_is_signed_in_and_the_cookie_stands_for_him() {
    let house = House::open().await;
    let password = house.add("anna", Role::Member, &["shop", "blog", "shop"]).await;
    let session = house.accounts.sign_in(" Anna ", &password, None, home()).await.unwrap();
    let viewer = house.viewer(&session).await.unwrap();
    assert_eq!(viewer, session.viewer);
    assert_eq!(
        (viewer.name.as_str(), viewer.grants[0].role, viewer.must_change_password),
        ("anna", Role::Member, true)
    );
    assert_eq!(viewer.grants[0].sites.iter().map(|site| site.as_str()).collect::<Vec<_>>(), ["blog", "shop"]);
    assert!(session.set_cookie(true).starts_with(&format!(
        "__Host-batoff={}; Max-Age=604800; Path=/; Secure; HttpOnly",
        *session.cookie_value
    )));
    let account = house.accounts.find(&viewer.name).await.unwrap().unwrap();
    assert_eq!(account.last_sign_in, Some(SignIn { at: UnixMillis(START), address: home() }));
    for wrong in ["", "x", &"0".repeat(64), session.viewer.session.as_ref().unwrap().as_str()] {
        assert_eq!(house.accounts.session(wrong, home()).await.unwrap(), None, "{wrong}");
    }
    house.store.close().await;
}

#[tokio::test]
async fn wrong_name_and_wrong_password_are_told_apart_by_nobody() {
    let house = House::open().await;
    let password = house.add("anna", Role::Viewer, &[]).await;
    for (name, tried) in [("anna", "wrong"), ("nobody", "wrong"), ("no name!", &*password), ("", "")] {
        let refused = house.accounts.sign_in(name, tried, None, elsewhere()).await;
        assert_eq!(refused.unwrap_err(), SignInRefused::Wrong, "{name}");
    }
    assert_eq!(
        house.told().await,
        [
            "stranger user.sign_in anna refused wrong_password",
            "stranger user.sign_in  refused wrong_password",
            "stranger user.sign_in  refused wrong_password",
            "stranger user.sign_in  refused wrong_password",
        ]
    );
    house.store.close().await;
}

#[tokio::test]
async fn after_some_failures_the_right_password_waits_too_but_not_where_it_was_right_before() {
    let house = House::open().await;
    let password = house.add("anna", Role::Viewer, &[]).await;
    house.accounts.sign_in("anna", &password, None, home()).await.unwrap();
    // The pause doubles, and is longer than any machine takes for a hash.
    for attempt in 0..12 {
        let refused = house.accounts.sign_in("anna", "wrong", None, elsewhere()).await.unwrap_err();
        assert!(attempt >= 5 || refused == SignInRefused::Wrong, "{refused}");
    }
    let refused = house.accounts.sign_in("anna", &password, None, elsewhere()).await.unwrap_err();
    assert!(matches!(refused, SignInRefused::Throttled { .. }), "{refused}");
    assert!(house.accounts.sign_in("anna", &password, None, home()).await.is_ok());
    house.store.close().await;
}

#[tokio::test]
async fn a_session_ends_when_nobody_uses_it_and_after_its_time_however_it_is_used() {
    let house = House::open().await;
    let password = house.add("anna", Role::Viewer, &[]).await;
    let idle = house.accounts.sign_in("anna", &password, None, home()).await.unwrap();
    let used = house.accounts.sign_in("anna", &password, None, home()).await.unwrap();
    let hours = |n: u64| Duration::from_secs(n * 60 * 60);
    house.pass(hours(11));
    assert!(house.viewer(&used).await.is_some());
    house.pass(hours(11));
    assert!(house.viewer(&used).await.is_some(), "its use was written down");
    assert!(house.viewer(&idle).await.is_none());
    house.wall.store(START + hours(1).as_millis() as u64, Ordering::Relaxed);
    assert!(house.viewer(&idle).await.is_none(), "what is over stays over");
    house.wall.store(START + hours(22).as_millis() as u64, Ordering::Relaxed);
    for _ in 0..13 {
        house.pass(hours(11));
        assert!(house.viewer(&used).await.is_some());
    }
    house.pass(hours(3));
    assert!(house.viewer(&used).await.is_none(), "seven days");
    house.store.close().await;
}

#[tokio::test]
async fn each_sign_in_is_a_session_of_its_own_and_ends_by_itself_or_with_all() {
    let house = House::open().await;
    let password = house.add("anna", Role::Viewer, &[]).await;
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(house.accounts.sign_in("anna", &password, None, home()).await.unwrap());
    }
    assert_ne!(sessions[0].cookie_value, sessions[1].cookie_value);
    assert_eq!(house.accounts.sessions(&sessions[0].viewer).await.unwrap().len(), 3);
    house.accounts.sign_out(&sessions[0].viewer, home()).await.unwrap();
    assert!(house.viewer(&sessions[0]).await.is_none());
    assert!(house.viewer(&sessions[1]).await.is_some());
    house.accounts.sign_out_everywhere(&sessions[1].viewer, home()).await.unwrap();
    assert!(house.viewer(&sessions[1]).await.is_none() && house.viewer(&sessions[2]).await.is_none());
    assert!(house.accounts.sessions(&sessions[2].viewer).await.unwrap().is_empty());
    assert_eq!(
        house.told().await[3..],
        ["user:anna user.sign_out anna done", "user:anna user.sign_out anna done"]
    );
    house.store.close().await;
}

#[tokio::test]
async fn an_account_has_so_many_sessions_and_the_one_unused_for_longest_goes() {
    let house = House::open().await;
    let password = house.add("anna", Role::Viewer, &[]).await;
    let first = house.accounts.sign_in("anna", &password, None, home()).await.unwrap();
    let account = house.accounts.table.get(&first.viewer.name).await.unwrap().unwrap();
    house.pass(Duration::from_secs(1));
    for _ in 0..SESSIONS_PER_ACCOUNT_MAX {
        house.accounts.begin_session(&account, home()).await.unwrap();
    }
    assert!(house.viewer(&first).await.is_none());
    assert_eq!(house.accounts.sessions(&first.viewer).await.unwrap().len(), SESSIONS_PER_ACCOUNT_MAX);
    house.store.close().await;
}

#[tokio::test]
async fn accounts_are_added_once_and_a_one_time_password_is_good_for_a_week() {
    let house = House::open().await;
    let password = house.add("anna", Role::Operator, &[]).await;
    let new = |name: &str, role, sites: &[&str]| NewAccount {
        name: name.parse().unwrap(),
        role,
        sites: sites.iter().map(|site| site.parse().unwrap()).collect(),
        language: Some(Language::Russian),
        created_by: "user:anna".to_owned(),
    };
    let anna: AccountName = "anna".parse().unwrap();
    let again = house.accounts.add(new("ANNA", Role::Viewer, &[])).await.map(drop);
    assert_eq!(again, Err(AccountError::Exists(anna)));
    let sites = house.accounts.add(new("boris", Role::Operator, &["shop"])).await.map(drop);
    assert_eq!(sites, Err(AccountError::SitesOfOperator));
    house.accounts.add(new("boris", Role::Viewer, &["shop"])).await.unwrap();
    let all = house.accounts.list().await.unwrap();
    assert_eq!(all.iter().map(|account| account.name.as_str()).collect::<Vec<_>>(), ["anna", "boris"]);
    assert_eq!((all[1].language, &*all[1].created_by), (Some(Language::Russian), "user:anna"));

    house.pass(Duration::from_secs(7 * 24 * 60 * 60));
    let late = house.accounts.sign_in("anna", &password, None, home()).await;
    assert_eq!(late.unwrap_err(), SignInRefused::Wrong);
    house.store.close().await;
}

#[tokio::test]
async fn the_store_holds_no_password_and_no_secret_of_a_session() {
    let house = House::open().await;
    let password = house.add("anna", Role::Viewer, &[]).await;
    let session = house.accounts.sign_in("anna", &password, None, home()).await.unwrap();
    house.audit.flush().await.unwrap();
    let rows = house.store.kv().scan(&Key::from(""), None, 1_000).await.unwrap();
    assert!(rows.len() > 3);
    for (key, row) in rows {
        let text = format!("{key:?} {}", String::from_utf8_lossy(&row.value));
        assert!(!text.contains(&**password) && !text.contains(&**session.cookie_value), "{text}");
    }
    house.store.close().await;
}

#[tokio::test]
async fn a_changed_password_ends_every_session_and_begins_one_with_another_secret() {
    let house = House::open().await;
    let password = house.add("anna", Role::Operator, &[]).await;
    let other = house.accounts.sign_in("anna", &password, None, elsewhere()).await.unwrap();
    let session = house.accounts.sign_in("anna", &password, None, home()).await.unwrap();
    let change = async |present: &str, new: &str| {
        house.accounts.change_password(&session.viewer, present, new, home()).await
    };
    assert_eq!(change("wrong", "three green parrots").await.unwrap_err(), OwnAccountRefused::Wrong);
    assert_eq!(change(&password, "short").await.unwrap_err(), OwnAccountRefused::Weak(WeakPassword::Short));
    assert_eq!(change(&password, &password).await.unwrap_err(), OwnAccountRefused::Same);
    assert!(house.viewer(&session).await.unwrap().must_change_password);
    let changed = change(&password, "three green parrots").await.unwrap();
    assert_ne!(changed.cookie_value, session.cookie_value);
    assert!(!house.viewer(&changed).await.unwrap().must_change_password);
    for ended in [&session, &other] {
        assert!(house.viewer(ended).await.is_none());
    }
    let old = house.accounts.sign_in("anna", &password, None, home()).await;
    assert_eq!(old.unwrap_err(), SignInRefused::Wrong);
    house.accounts.sign_in("anna", "three green parrots", None, home()).await.unwrap();
    assert_eq!(house.told().await[2], "user:anna user.password anna done");
    house.store.close().await;
}

#[tokio::test]
async fn another_role_a_disabled_account_and_a_removed_one_end_sessions_at_once() {
    let house = House::open().await;
    let (root, anna): (AccountName, AccountName) = ("root".parse().unwrap(), "anna".parse().unwrap());
    house.add("root", Role::Operator, &[]).await;
    let password = house.add("anna", Role::Operator, &[]).await;
    let sign_in = async || house.accounts.sign_in("anna", &password, None, home()).await;
    let update = async |name: &AccountName, change| house.accounts.update(name, change).await;

    let session = sign_in().await.unwrap();
    let member = AccountChange {
        role: Some(Role::Member),
        sites: Some(vec!["shop".parse().unwrap()]),
        ..AccountChange::default()
    };
    update(&anna, member).await.unwrap();
    assert!(house.viewer(&session).await.is_none(), "another role");

    let session = sign_in().await.unwrap();
    let sites = AccountChange { sites: Some(Vec::new()), ..AccountChange::default() };
    update(&anna, sites).await.unwrap();
    assert!(
        house.viewer(&session).await.unwrap().grants[0].sites.is_empty(),
        "the next request knows its sites"
    );

    let disabled = |is_disabled| AccountChange { is_disabled: Some(is_disabled), ..AccountChange::default() };
    update(&anna, disabled(true)).await.unwrap();
    assert!(house.viewer(&session).await.is_none());
    assert_eq!(sign_in().await.unwrap_err(), SignInRefused::Wrong);
    update(&anna, disabled(false)).await.unwrap();
    assert!(house.viewer(&session).await.is_none(), "what has ended does not come back");

    let session = sign_in().await.unwrap();
    house.accounts.remove(&anna).await.unwrap();
    assert!(house.viewer(&session).await.is_none());
    house.add("anna", Role::Operator, &[]).await;
    assert!(house.viewer(&session).await.is_none(), "not with another account of that name either");

    house.accounts.remove(&root).await.unwrap();
    for refused in [
        house.accounts.remove(&anna).await.map(drop),
        update(&anna, disabled(true)).await.map(drop),
        update(&anna, AccountChange { role: Some(Role::Viewer), ..AccountChange::default() }).await.map(drop),
    ] {
        assert_eq!(refused, Err(AccountError::LastOperator(anna.clone())));
    }
    assert_eq!(house.accounts.remove(&root).await, Err(AccountError::NoSuchAccount(root)));
    house.store.close().await;
}

#[tokio::test]
async fn of_two_operators_that_remove_each_other_one_stays() {
    let house = House::open().await;
    for round in 0..8 {
        let names =
            [format!("a{round}"), format!("b{round}")].map(|name| name.parse::<AccountName>().unwrap());
        for name in &names {
            house.add(name.as_str(), Role::Operator, &[]).await;
        }
        if let Some(before) =
            house.accounts.list().await.unwrap().iter().find(|one| !names.contains(&one.name))
        {
            house.accounts.remove(&before.name).await.unwrap();
        }
        let (one, other) = tokio::join!(house.accounts.remove(&names[0]), house.accounts.remove(&names[1]));
        assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
        assert_eq!(house.accounts.list().await.unwrap().len(), 1);
    }
    house.store.close().await;
}

#[tokio::test]
async fn a_reset_account_has_another_one_time_password_and_no_session() {
    let house = House::open().await;
    let password = house.add("anna", Role::Operator, &[]).await;
    let session = house.accounts.sign_in("anna", &password, None, home()).await.unwrap();
    let session = house
        .accounts
        .change_password(&session.viewer, &password, "three green parrots", home())
        .await
        .unwrap();
    for _ in 0..5 {
        let _ = house.accounts.sign_in("anna", "wrong", None, elsewhere()).await;
    }
    let reset = house.accounts.reset(&session.viewer.name, false).await.unwrap();
    assert!(house.viewer(&session).await.is_none());
    let again = house.accounts.sign_in("anna", &reset.password, None, elsewhere()).await.unwrap();
    assert!(again.viewer.must_change_password, "and it may be tried at once");
    house.store.close().await;
}

#[tokio::test]
async fn a_sign_in_with_an_authenticator_takes_a_code_once_or_a_recovery_code() {
    let house = House::open().await;
    let password = house.add("anna", Role::Operator, &[]).await;
    let session = house.accounts.sign_in("anna", &password, None, home()).await.unwrap();
    let viewer = &session.viewer;
    assert_eq!(
        house.accounts.totp_begin(viewer, "wrong", home()).await.map(drop),
        Err(OwnAccountRefused::Wrong)
    );
    assert!(house.accounts.totp_offer(viewer).await.unwrap().is_none());
    house.accounts.totp_begin(viewer, &password, home()).await.unwrap();
    let offer = house.accounts.totp_offer(viewer).await.unwrap().unwrap();
    let authenticator = totp_rs::Builder::new()
        .with_secret(totp_rs::Secret::try_from_base32(&*offer.secret).unwrap())
        .build()
        .unwrap();
    let code = || authenticator.generate(house.wall.load(Ordering::Relaxed) / 1_000).to_string();
    let refused = house.accounts.totp_confirm(viewer, "000", home()).await.map(drop);
    assert_eq!(refused, Err(OwnAccountRefused::WrongCode));
    let recovery = house.accounts.totp_confirm(viewer, &code(), home()).await.unwrap();
    assert!(house.accounts.totp_offer(viewer).await.unwrap().is_none(), "shown no more");
    assert_eq!(
        house.accounts.totp_begin(viewer, &password, home()).await.map(drop),
        Err(OwnAccountRefused::AlreadySetUp)
    );

    let sign_in =
        async |code: Option<&str>| house.accounts.sign_in("anna", &password, code, home()).await.map(drop);
    assert_eq!(sign_in(None).await, Err(SignInRefused::CodeNeeded));
    assert_eq!(sign_in(Some(&code())).await, Err(SignInRefused::WrongCode), "it has confirmed already");
    house.pass(Duration::from_secs(30));
    assert_eq!(sign_in(Some(&code())).await, Ok(()));
    assert_eq!(sign_in(Some(&code())).await, Err(SignInRefused::WrongCode), "twice");
    assert_eq!(sign_in(Some(&recovery[0])).await, Ok(()));
    assert_eq!(sign_in(Some(&recovery[0])).await, Err(SignInRefused::WrongCode), "twice");
    let wrong = house.accounts.sign_in("anna", "wrong", Some(&code()), home()).await;
    assert_eq!(wrong.unwrap_err(), SignInRefused::Wrong, "a code alone tells nothing");
    let account = house.accounts.find(&viewer.name).await.unwrap().unwrap();
    assert_eq!(account.recovery_codes, Some(RECOVERY_CODES - 1));

    house.accounts.totp_remove(viewer, &password, home()).await.unwrap();
    assert_eq!(sign_in(None).await, Ok(()));
    let told = house.told().await;
    for line in [
        "user:anna user.codes_on anna done",
        "stranger user.sign_in anna refused wrong_code",
        "user:anna user.codes_off anna done",
    ] {
        assert!(told.iter().any(|one| one == line), "{line}: {told:#?}");
    }
    house.store.close().await;
}

#[tokio::test]
async fn codes_are_taken_away_by_a_reset_that_says_so() {
    let house = House::open().await;
    let password = house.add("anna", Role::Operator, &[]).await;
    let session = house.accounts.sign_in("anna", &password, None, home()).await.unwrap();
    let (viewer, name) = (&session.viewer, &session.viewer.name);
    let offer = house.accounts.totp_begin(viewer, &password, home()).await.unwrap();
    let secret = totp_rs::Secret::try_from_base32(&*offer.secret).unwrap();
    let code =
        totp_rs::Builder::new().with_secret(secret).build().unwrap().generate(START / 1_000).to_string();
    house.accounts.totp_confirm(viewer, &code, home()).await.unwrap();
    let reset = house.accounts.reset(name, false).await.unwrap();
    let refused = house.accounts.sign_in("anna", &reset.password, None, home()).await;
    assert_eq!(refused.unwrap_err(), SignInRefused::CodeNeeded);
    let reset = house.accounts.reset(name, true).await.unwrap();
    house.accounts.sign_in("anna", &reset.password, None, home()).await.unwrap();
    house.store.close().await;
}

#[tokio::test]
async fn the_codes_of_one_account_are_guessed_no_faster_than_its_password() {
    let house = House::open().await;
    let password = house.add("anna", Role::Operator, &[]).await;
    let session = house.accounts.sign_in("anna", &password, None, home()).await.unwrap();
    let offer = house.accounts.totp_begin(&session.viewer, &password, home()).await.unwrap();
    let secret = totp_rs::Secret::try_from_base32(&*offer.secret).unwrap();
    let code =
        totp_rs::Builder::new().with_secret(secret).build().unwrap().generate(START / 1_000).to_string();
    house.accounts.totp_confirm(&session.viewer, &code, home()).await.unwrap();
    let guess = async |code| house.accounts.sign_in("anna", &password, code, elsewhere()).await.unwrap_err();
    for _ in 0..4 {
        assert_eq!(guess(None).await, SignInRefused::CodeNeeded, "the first half is no failure");
        assert_eq!(guess(Some("not-a-recovery-code")).await, SignInRefused::WrongCode);
    }
    // The pause doubles, and is longer than any machine takes for a hash.
    let mut last = SignInRefused::WrongCode;
    for _ in 0..12 {
        last = guess(Some("not-a-recovery-code")).await;
    }
    assert!(matches!(last, SignInRefused::Throttled { .. }), "{last:?}");
    house.store.close().await;
}
