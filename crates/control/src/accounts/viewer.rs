//! Who looks at the console, and what he may do there.

use batoff_types::SiteId;

use super::account::{AccountName, Role};
use super::cookie::SessionId;
use crate::language::Language;

/// What a page or a form needs its viewer to be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Need {
    /// To be signed in.
    SignedIn,
    /// One's own account: password, codes, sessions. Beside being signed in the only thing left while the password must be
    /// changed; whom a proxy has signed in has none here.
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

/// What somebody may do of some sites.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What.
    pub role: Role,
    /// Of which sites, sorted; none for an operator, who is for all.
    pub sites: Vec<SiteId>,
}

/// Somebody who is signed in. What he may do holds for this request; the next one looks anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Viewer {
    /// The account; of whom a proxy has signed in, the name that it said.
    pub name: AccountName,
    /// What he may do. An account has one grant; the groups of whom a proxy has signed in may have several.
    pub grants: Vec<Grant>,
    /// Its language; `None`: the browser's.
    pub language: Option<Language>,
    /// The session; `None`: there is an account no more than a session, a proxy says with each request who asks.
    pub session: Option<SessionId>,
    /// Only [`Need::OwnAccount`] is granted until the password is changed.
    pub must_change_password: bool,
}

impl Viewer {
    /// Whether this viewer may do that: of this site, or, without one, of at least one site.
    pub fn may(&self, need: Need, site: Option<&SiteId>) -> bool {
        match need {
            Need::SignedIn => true,
            Need::OwnAccount => self.session.is_some(),
            _ => !self.must_change_password && self.grants.iter().any(|grant| grant.allows(need, site)),
        }
    }

    /// The sites of which he may see anything; `None` for all of them.
    pub fn sees(&self) -> Option<Vec<SiteId>> {
        if self.may(Need::Operate, None) {
            return None;
        }
        let sites = self.grants.iter().flat_map(|grant| &grant.sites);
        Some(sites.filter(|site| self.may(Need::ReadSite, Some(site))).cloned().collect())
    }

    /// How the audit log calls this viewer.
    pub fn actor(&self) -> String {
        self.name.actor()
    }
}

impl Grant {
    fn allows(&self, need: Need, site: Option<&SiteId>) -> bool {
        let by_role = match (self.role, need) {
            (Role::Operator, _) => return true,
            (_, Need::SignedIn | Need::OwnAccount | Need::ReadSite) => true,
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(role: Role, sites: &[&str]) -> Grant {
        Grant { role, sites: sites.iter().map(|site| site.parse().unwrap()).collect() }
    }

    fn viewer(role: Role, sites: &[&str]) -> Viewer {
        Viewer {
            name: "anna".parse().unwrap(),
            grants: vec![grant(role, sites)],
            language: None,
            session: Some(SessionId::of("x")),
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
    fn what_one_group_may_of_a_site_another_may_not_of_its_own() {
        let grants = vec![grant(Role::Manager, &["shop"]), grant(Role::Viewer, &["blog"])];
        let viewer = Viewer { grants, session: None, ..viewer(Role::Viewer, &[]) };
        let (shop, blog): (SiteId, SiteId) = ("shop".parse().unwrap(), "blog".parse().unwrap());
        assert!(viewer.may(Need::ManageTokens, Some(&shop)) && viewer.may(Need::ManageTokens, None));
        assert!(viewer.may(Need::ReadSite, Some(&blog)) && !viewer.may(Need::Purge, Some(&blog)));
        assert_eq!(viewer.sees(), Some(vec![shop, blog]));
        assert!(
            viewer.may(Need::SignedIn, None) && !viewer.may(Need::OwnAccount, None),
            "it has no account here"
        );
    }

    #[test]
    fn until_a_one_time_password_is_changed_nothing_else_may_be_done() {
        let operator = Viewer { must_change_password: true, ..viewer(Role::Operator, &[]) };
        assert!(operator.may(Need::OwnAccount, None) && operator.may(Need::SignedIn, None));
        assert_eq!(operator.sees(), Some(Vec::new()));
        for need in [Need::ReadSite, Need::Purge, Need::ManageTokens, Need::Operate] {
            assert!(!operator.may(need, None), "{need:?}");
        }
    }
}
