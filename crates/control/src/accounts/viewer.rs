//! Who looks at the console, and what he may do there.

use batoff_types::{SiteId, UnixMillis};

use super::account::{AccountName, Role};
use super::cookie::SessionId;
use crate::language::Language;

/// What a page or a form needs its viewer to be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Need {
    /// One's own account: password, codes, sessions, language. The only thing left while the password must be changed.
    OwnAccount,
    /// To read what is of a site: purges, tokens without their secrets, hostnames, figures.
    ReadSite,
    /// To purge.
    Purge,
    /// To issue and revoke tokens.
    ManageTokens,
    /// What is the operator's: nodes, sites, users, the audit log, everything that is of no single site.
    Operate,
}

/// Somebody who is signed in. What he may do holds for this request; the next one looks anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Viewer {
    /// The account.
    pub name: AccountName,
    /// Its role.
    pub role: Role,
    /// Its sites, sorted; empty for an operator, who sees all.
    pub sites: Vec<SiteId>,
    /// Its language; `None`: the browser's.
    pub language: Option<Language>,
    /// The session.
    pub session: SessionId,
    /// When the session ends whatever happens.
    pub session_ends_at: UnixMillis,
    /// Only [`Need::OwnAccount`] is granted until the password is changed.
    pub must_change_password: bool,
}

impl Viewer {
    /// Whether this viewer may do that: of this site, or, without one, of at least one site.
    pub fn may(&self, need: Need, site: Option<&SiteId>) -> bool {
        if need == Need::OwnAccount {
            return true;
        }
        if self.must_change_password {
            return false;
        }
        let by_role = match (self.role, need) {
            (Role::Operator, _) => return true,
            (_, Need::OwnAccount | Need::ReadSite) => true,
            (Role::Manager, Need::Purge | Need::ManageTokens) | (Role::Member, Need::Purge) => true,
            (Role::Member | Role::Viewer, Need::ManageTokens)
            | (Role::Viewer, Need::Purge)
            | (_, Need::Operate) => false,
        };
        let of_site = match site {
            Some(site) => self.sites.contains(site),
            None => !self.sites.is_empty(),
        };
        by_role && of_site
    }

    /// How the audit log calls this viewer.
    pub fn actor(&self) -> String {
        self.name.actor()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn viewer(role: Role, sites: &[&str]) -> Viewer {
        Viewer {
            name: "anna".parse().unwrap(),
            role,
            sites: sites.iter().map(|site| site.parse().unwrap()).collect(),
            language: None,
            session: SessionId::of("x"),
            session_ends_at: UnixMillis(0),
            must_change_password: false,
        }
    }

    #[test]
    fn each_role_may_what_it_is_for_and_only_of_its_sites() {
        let (shop, blog): (SiteId, SiteId) = ("shop".parse().unwrap(), "blog".parse().unwrap());
        let needs = [Need::ReadSite, Need::Purge, Need::ManageTokens, Need::Operate];
        for (role, granted) in [
            (Role::Manager, [true, true, true, false]),
            (Role::Member, [true, true, false, false]),
            (Role::Viewer, [true, false, false, false]),
        ] {
            let viewer = viewer(role, &["shop"]);
            for (need, granted) in needs.into_iter().zip(granted) {
                assert_eq!(viewer.may(need, Some(&shop)), granted, "{role:?} {need:?}");
                assert_eq!(viewer.may(need, None), granted, "{role:?} {need:?}");
                assert!(!viewer.may(need, Some(&blog)), "{role:?} {need:?}");
            }
        }
        let operator = viewer(Role::Operator, &[]);
        assert!(needs.into_iter().all(|need| operator.may(need, None) && operator.may(need, Some(&blog))));
        assert!(!viewer(Role::Manager, &[]).may(Need::ReadSite, None), "no site, nothing to read");
    }

    #[test]
    fn until_a_one_time_password_is_changed_nothing_else_may_be_done() {
        let operator = Viewer { must_change_password: true, ..viewer(Role::Operator, &[]) };
        assert!(operator.may(Need::OwnAccount, None));
        for need in [Need::ReadSite, Need::Purge, Need::ManageTokens, Need::Operate] {
            assert!(!operator.may(need, None), "{need:?}");
        }
    }
}
