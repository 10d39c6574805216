//! Who signs in on one is signed in on all, and out.

use batoff_types::SiteId;

use super::Several;
use crate::accounts::{AccountChange, AccountError, AccountName, NewAccount, Role, SignInRefused};

fn name(text: &str) -> AccountName {
    text.parse().unwrap()
}

fn new(text: &str, role: Role) -> NewAccount {
    let sites: Vec<SiteId> = if role == Role::Operator { vec![] } else { vec!["shop".parse().unwrap()] };
    NewAccount { name: name(text), role, sites, language: None, created_by: "admin".to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_holds_on_all_and_ends_on_all_at_once() {
    let several = Several::two().await;
    let [one, two] = [0, 1].map(|at| several.services(at).accounts.clone());
    let from = "192.0.2.1".parse().unwrap();
    let anna = one.add(new("anna", Role::Member)).await.unwrap();
    let sign_in = async || one.sign_in("anna", &anna.password, None, from).await.unwrap().cookie_value;
    let is_in = async |cookie: &str| {
        [
            one.session(cookie, from).await.unwrap().is_some(),
            two.session(cookie, from).await.unwrap().is_some(),
        ]
    };
    let [first, second] = [sign_in().await, sign_in().await];
    assert_eq!((is_in(&first).await, is_in(&second).await), ([true, true], [true, true]));
    // Signed out everywhere, on the other one.
    two.end_all_of(&name("anna")).await.unwrap();
    assert_eq!((is_in(&first).await, is_in(&second).await), ([false, false], [false, false]));

    let third = sign_in().await;
    let change = AccountChange { role: Some(Role::Viewer), ..AccountChange::default() };
    two.update(&name("anna"), change).await.unwrap();
    assert_eq!(is_in(&third).await, [false, false], "another role");

    let fourth = sign_in().await;
    let change = AccountChange { is_disabled: Some(true), ..AccountChange::default() };
    two.update(&name("anna"), change).await.unwrap();
    assert_eq!(is_in(&fourth).await, [false, false], "disabled");
    let refused = one.sign_in("anna", &anna.password, None, from).await.unwrap_err();
    assert_eq!(refused, SignInRefused::Wrong);
    several.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_take_away_the_last_operators_one_is_refused() {
    let several = Several::two().await;
    let [one, two] = [0, 1].map(|at| several.services(at).accounts.clone());
    for operator in ["anna", "boris"] {
        one.add(new(operator, Role::Operator)).await.unwrap();
    }
    let less = || AccountChange { role: Some(Role::Viewer), ..AccountChange::default() };
    let (anna, boris) = (name("anna"), name("boris"));
    let (first, second) = tokio::join!(one.update(&anna, less()), two.update(&boris, less()));
    let refused = [first.err(), second.err()].into_iter().flatten().collect::<Vec<_>>();
    assert!(matches!(refused[..], [AccountError::LastOperator(_)]), "{refused:?}");
    assert_eq!(two.list().await.unwrap().iter().filter(|one| one.role == Role::Operator).count(), 1);
    several.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_add_an_account_of_one_name_one_is_told_that_there_is_one() {
    let several = Several::two().await;
    let [one, two] = [0, 1].map(|at| several.services(at).accounts.clone());
    let (first, second) =
        tokio::join!(one.add(new("anna", Role::Member)), two.add(new("anna", Role::Member)));
    let refused = [first.err(), second.err()].into_iter().flatten().collect::<Vec<_>>();
    assert_eq!(refused, [AccountError::Exists(name("anna"))]);
    several.end().await;
}
