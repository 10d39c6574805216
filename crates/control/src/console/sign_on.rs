//! Somebody in front who signs people in: a proxy that is known by the client certificate of its connections, and says in
//! headers who asks and in which groups he is.
//!
//! | a connection | its headers |
//! | --- | --- |
//! | with the certificate of that name | are believed: who they name asks, whatever his cookies say |
//! | with another one of the same authority, or none | are as if they were absent; refused if everybody must come through the proxy |
//!
//! What could be read in two ways is refused, for then somebody has slipped in a header of his own: a header that comes
//! twice, or once more with underscores, which programs behind CGI take for the same.

use batoff_types::UnixMillis;
use http::request::Parts;
use http::{HeaderMap, HeaderName};

use crate::accounts::Grant;
use crate::api::problem::{Code, Problem};
use crate::tls::PeerCertificate;

/// Groups of one user that are looked at; a header with more is refused.
const GROUPS_MAX: usize = 1_000;

/// The proxy, and what its users' groups may do.
#[derive(Clone, Debug)]
pub struct SignOnProxy {
    /// In its certificate; a DNS name in small letters.
    pub name: String,
    /// Whether everybody comes through it.
    pub is_required: bool,
    /// Says who asks.
    pub user_header: HeaderName,
    /// Says in which groups he is.
    pub groups_header: HeaderName,
    /// Stands between two groups.
    pub separator: String,
    /// What the members of a group may do; a group may have several.
    pub groups: Vec<(String, Grant)>,
    /// Where one signs out of it.
    pub sign_out: Option<String>,
}

/// Whom the proxy names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NamedUser<'a> {
    /// As the header has it.
    pub name: &'a str,
    /// What his groups may do.
    pub grants: Vec<Grant>,
}

/// Why a request is not looked at any further.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SignOnRefused {
    /// Everybody comes through the proxy, and this did not; whether it pretended to.
    NotTheProxy { is_pretended: bool },
    /// What the proxy has let through could be read in two ways.
    Ambiguous(String),
}

impl SignOnProxy {
    /// Whom the proxy names; nobody, when the request is not from it, or says nothing of anybody.
    pub(super) fn named<'a>(
        &self,
        request: &'a Parts,
        now: UnixMillis,
    ) -> Result<Option<NamedUser<'a>>, SignOnRefused> {
        let certificate = request.extensions.get::<PeerCertificate>();
        if !certificate.is_some_and(|shown| shown.is_of(&self.name, now)) {
            let is_pretended = request.headers.keys().any(|name| self.looks_like_ours(name));
            if self.is_required {
                return Err(SignOnRefused::NotTheProxy { is_pretended });
            }
            if is_pretended {
                tracing::warn!(
                    proxy = self.name,
                    has_certificate = certificate.is_some(),
                    "headers that name a user are ignored: the connection is not the proxy's"
                );
            }
            return Ok(None);
        }
        let headers = &request.headers;
        let other = headers.keys().find(|name| self.looks_like_ours(name) && !self.is_ours(name));
        if let Some(other) = other {
            return Err(SignOnRefused::Ambiguous(format!(
                "{other} is another spelling of a header that names users"
            )));
        }
        let name = single(headers, &self.user_header)?.map(str::trim).filter(|name| !name.is_empty());
        let groups = single(headers, &self.groups_header)?.unwrap_or_default();
        let groups: Vec<&str> =
            groups.split(&self.separator).map(str::trim).filter(|group| !group.is_empty()).collect();
        if groups.len() > GROUPS_MAX {
            return Err(SignOnRefused::Ambiguous(format!(
                "{} names more than {GROUPS_MAX} groups",
                self.groups_header
            )));
        }
        Ok(name.map(|name| NamedUser { name, grants: self.grants(&groups) }))
    }

    fn grants(&self, groups: &[&str]) -> Vec<Grant> {
        let mut grants: Vec<Grant> = Vec::new();
        for (_, grant) in self.groups.iter().filter(|(group, _)| groups.contains(&group.as_str())) {
            match grants.iter_mut().find(|known| known.role == grant.role) {
                Some(known) => known.sites.extend(grant.sites.iter().cloned()),
                None => grants.push(grant.clone()),
            }
        }
        for grant in &mut grants {
            grant.sites.sort_unstable();
            grant.sites.dedup();
        }
        grants
    }

    fn is_ours(&self, name: &HeaderName) -> bool {
        *name == self.user_header || *name == self.groups_header
    }

    fn looks_like_ours(&self, name: &HeaderName) -> bool {
        let plain = name.as_str().replace('_', "-");
        plain == self.user_header.as_str() || plain == self.groups_header.as_str()
    }

    /// Where a form may lead to that signs out: the origin of that address, if it is another one.
    pub(super) fn sign_out_origin(&self) -> Option<&str> {
        let url = self.sign_out.as_deref()?;
        let host = url.strip_prefix("https://")?;
        let end = host.find('/').unwrap_or(host.len());
        url.get(.."https://".len() + end)
    }
}

/// What a header says that may come once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, SignOnRefused> {
    let mut lines = headers.get_all(name).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err(SignOnRefused::Ambiguous(format!("{name} comes more than once")));
    }
    let text = std::str::from_utf8(line.as_bytes());
    text.map(Some).map_err(|_| SignOnRefused::Ambiguous(format!("{name} is not UTF-8")))
}

impl From<SignOnRefused> for Problem {
    fn from(refused: SignOnRefused) -> Self {
        let (title, detail) = match refused {
            SignOnRefused::NotTheProxy { .. } => (
                ["This console is behind a sign-on", "Вход в эту консоль — через сервер авторизации"],
                "everybody comes through the proxy that signs people in, and this connection does not have its \
                 certificate: open the console by the proxy's address"
                    .to_owned(),
            ),
            SignOnRefused::Ambiguous(what) => (
                ["It is not certain who asks", "Неясно, кто обращается"],
                format!(
                    "{what}, so it is not certain who asks: the proxy must take out of each request what clients send \
                     under these names"
                ),
            ),
        };
        Self { title: Some(title), ..Self::detailed(Code::ScopeDenied, detail) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::Role;

    fn proxy() -> SignOnProxy {
        let grant = |role, sites: &[&str]| Grant {
            role,
            sites: sites.iter().map(|site| site.parse().unwrap()).collect(),
        };
        SignOnProxy {
            name: "sso.example.net".to_owned(),
            is_required: false,
            user_header: HeaderName::from_static("x-forwarded-user"),
            groups_header: HeaderName::from_static("x-forwarded-groups"),
            separator: ",".to_owned(),
            groups: vec![
                ("ops".to_owned(), grant(Role::Operator, &[])),
                ("web".to_owned(), grant(Role::Manager, &["shop"])),
                ("press".to_owned(), grant(Role::Manager, &["news", "shop"])),
                ("guests".to_owned(), grant(Role::Viewer, &["blog"])),
            ],
            sign_out: None,
        }
    }

    #[test]
    fn groups_of_one_role_have_their_sites_together_and_others_stay_apart() {
        let told = |groups: &[&str]| {
            let one =
                |grant: &Grant| (grant.role, grant.sites.iter().map(ToString::to_string).collect::<Vec<_>>());
            proxy().grants(groups).iter().map(one).collect::<Vec<_>>()
        };
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(told(&["press", "other", "web"]), [(Role::Manager, names(&["news", "shop"]))]);
        assert_eq!(
            told(&["guests", "web"]),
            [(Role::Manager, names(&["shop"])), (Role::Viewer, names(&["blog"]))]
        );
        assert_eq!(told(&["ops"]), [(Role::Operator, Vec::new())]);
        assert_eq!(told(&["OPS", "op", "ops "]), [], "a name is the whole name");
    }

    #[test]
    fn a_form_may_lead_to_where_one_signs_out() {
        let origin = |url: &str| {
            let proxy = SignOnProxy { sign_out: Some(url.to_owned()), ..proxy() };
            proxy.sign_out_origin().map(str::to_owned)
        };
        assert_eq!(origin("/oauth2/sign_out"), None);
        assert_eq!(
            origin("https://sso.example.net:8443/out?a=b/c").as_deref(),
            Some("https://sso.example.net:8443")
        );
        assert_eq!(origin("https://sso.example.net").as_deref(), Some("https://sso.example.net"));
    }
}
