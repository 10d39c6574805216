//! What an account is: a name, a role, and for which sites.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use batoff_types::{SiteId, UnixMillis};

use crate::language::Language;

/// Bytes of an account's name at most.
pub const NAME_BYTES_MAX: usize = 64;

/// Sites that one account may be for.
pub const SITES_MAX: usize = 256;

/// The name of an account, as it is typed to sign in and as the audit log tells who did something: 1 to
/// [`NAME_BYTES_MAX`] of `a-z`, `0-9`, `.`, `_`, `@` and `-`, a letter or digit first. Capital letters are taken for
/// small ones, so that no two people have names that differ only in them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountName(Arc<str>);

/// A text that is no account's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be 1 to {NAME_BYTES_MAX} characters of a-z, 0-9, '.', '_', '@' and '-', the first a letter or a digit"
)]
pub struct BadAccountName;

impl AccountName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How the audit log calls it: `user:` and the name, so that no account can pass for the operator's token.
    pub fn actor(&self) -> String {
        format!("user:{self}")
    }
}

impl FromStr for AccountName {
    type Err = BadAccountName;

    fn from_str(text: &str) -> Result<Self, BadAccountName> {
        let name = text.trim().to_ascii_lowercase();
        let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let is_first = name.bytes().next().is_some_and(is_plain);
        let is_name = name.bytes().all(|b| is_plain(b) || b"._@-".contains(&b));
        if is_first && is_name && name.len() <= NAME_BYTES_MAX {
            Ok(Self(name.into()))
        } else {
            Err(BadAccountName)
        }
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// What an account may do, from most to least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Everything, of every site.
    Operator,
    /// Of its sites: tokens, purges, and all that can be read.
    Manager,
    /// Of its sites: purges, and all that can be read.
    Member,
    /// Of its sites: all that can be read.
    Viewer,
}

impl Role {
    /// All of them, from most to least.
    pub const ALL: [Self; 4] = [Self::Operator, Self::Manager, Self::Member, Self::Viewer];

    /// As rows, the API and the command line write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Manager => "manager",
            Self::Member => "member",
            Self::Viewer => "viewer",
        }
    }

    /// The role of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }
}

/// An account, as it may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// What it signs in with.
    pub name: AccountName,
    /// What it may do.
    pub role: Role,
    /// For which sites, sorted; an operator's account names none, for it is for all.
    pub sites: Vec<SiteId>,
    /// In which language it is answered; `None`: in the one that its browser prefers.
    pub language: Option<Language>,
    /// Its password is a one-time one: until it is changed, nothing else may be done.
    pub must_change_password: bool,
    /// Until when a one-time password is good.
    pub password_ends_at: Option<UnixMillis>,
    /// Whether a sign-in takes a code (TOTP), too, and how many recovery codes are left then.
    pub recovery_codes: Option<usize>,
    /// It cannot sign in.
    pub is_disabled: bool,
    /// When it was added.
    pub created_at: UnixMillis,
    /// By whom, as the audit log calls them.
    pub created_by: Arc<str>,
    /// When somebody signed in to it last, and from where.
    pub last_sign_in: Option<SignIn>,
}

/// Somebody signed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignIn {
    /// When.
    pub at: UnixMillis,
    /// The client's address.
    pub address: IpAddr,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_can_be_typed_and_told_apart() {
        for name in ["anna", "a", "7", "anna.k@example.com", "ci-bot_2", &"a".repeat(NAME_BYTES_MAX)] {
            assert_eq!(name.parse::<AccountName>().unwrap().as_str(), name);
        }
        assert_eq!(" Anna ".parse::<AccountName>().unwrap().as_str(), "anna");
        for name in ["", " ", "-a", ".a", "@a", "a b", "a/b", "a:b", "анна", &"a".repeat(NAME_BYTES_MAX + 1)]
        {
            assert_eq!(name.parse::<AccountName>(), Err(BadAccountName), "{name:?}");
        }
    }

    #[test]
    fn each_role_has_its_name() {
        for role in Role::ALL {
            assert_eq!(Role::from_name(role.as_str()), Some(role));
        }
        assert_eq!(Role::from_name("root"), None);
    }
}
