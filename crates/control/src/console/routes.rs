//! **The one table** of the console: each page and each form, what its viewer must be allowed to, and who answers it. Router,
//! navigation and the test of privileges are made from it.

use std::sync::Arc;

use axum::routing::{MethodRouter, get, post};
use http::Method;

use super::state::{Console, NavSection};
use super::words::Text;
use super::{assets, pages, stream};
use crate::accounts::Need;

/// A row.
pub struct Route {
    /// `GET` answers `HEAD` too.
    pub method: Method,
    /// As axum writes paths. What is called `{site}` must be a site that the viewer may do this with.
    pub path: &'static str,
    /// What the viewer must be allowed to; `None`: nothing, not even to be signed in.
    pub need: Option<Need>,
    /// What navigation calls it, if it leads here.
    pub section: Option<Text>,
    /// Who answers.
    pub handler: fn() -> MethodRouter<Arc<Console>>,
}

/// All rows. Navigation has the order of this table.
pub const ROUTES: &[Route] = &[
    page("/", Need::ReadSite, || get(pages::beginning)),
    page("/now", Need::Operate, || get(pages::now::show)).called(Text::Now),
    page("/purges", Need::ReadSite, || get(pages::purges::list)).called(Text::Purges),
    page("/sites/{site}/purges/{task}", Need::ReadSite, || get(pages::purge::show)),
    page("/purges/new", Need::Purge, || get(pages::new_purge::blank)).called(Text::NewPurge),
    form("/purges/new", Need::Purge, || post(pages::new_purge::submit)),
    form("/purges/preview", Need::Purge, || post(pages::new_purge::preview)),
    page("/live", Need::ReadSite, || get(stream::live)),
    page("/sites", Need::ReadSite, || get(pages::sites::list)).called(Text::Sites),
    form("/sites", Need::Operate, || post(pages::sites::create)),
    page("/sites/{site}", Need::ReadSite, || get(pages::sites::show)),
    form("/sites/{site}", Need::Operate, || post(pages::sites::change)),
    page("/tokens", Need::ReadSite, || get(pages::tokens::list)).called(Text::Tokens),
    form("/tokens", Need::ManageTokens, || post(pages::tokens::issue)),
    page("/sites/{site}/tokens/{token}/revoke", Need::ManageTokens, || get(pages::tokens::ask_revoke)),
    form("/sites/{site}/tokens/{token}/revoke", Need::ManageTokens, || post(pages::tokens::revoke)),
    page("/nodes", Need::Operate, || get(pages::nodes::list)).called(Text::Nodes),
    page("/nodes/{pop}/{node}", Need::Operate, || get(pages::nodes::show)),
    form("/nodes/{pop}/{node}", Need::Operate, || post(pages::nodes::decommission)),
    form("/nodes/{pop}/{node}/admit", Need::Operate, || post(pages::nodes::admit)),
    page("/users", Need::Operate, || get(pages::users::list)).called(Text::Users),
    form("/users", Need::Operate, || post(pages::users::add)),
    page("/users/{user}", Need::Operate, || get(pages::users::show)),
    form("/users/{user}", Need::Operate, || post(pages::users::change)),
    form("/users/{user}/reset", Need::Operate, || post(pages::users::reset)),
    form("/users/{user}/drop-codes", Need::Operate, || post(pages::users::drop_codes)),
    form("/users/{user}/sign-out", Need::Operate, || post(pages::users::sign_out)),
    page("/users/{user}/remove", Need::Operate, || get(pages::users::ask_remove)),
    form("/users/{user}/remove", Need::Operate, || post(pages::users::remove)),
    page("/sla", Need::ReadSite, || get(pages::sla::show)).called(Text::Sla),
    page("/sla/export", Need::ReadSite, || get(pages::sla::export)),
    page("/audit", Need::Operate, || get(pages::audit::list)).called(Text::Audit),
    page("/audit/export", Need::Operate, || get(pages::audit::export)),
    page("/audit/chain", Need::Operate, || get(pages::audit::chain)),
    open(Method::GET, "/docs", || get(pages::docs::customers)).called(Text::Docs),
    page("/docs/operators", Need::Operate, || get(pages::docs::operators)),
    page("/account", Need::SignedIn, || get(pages::account::show)),
    form("/account/password", Need::OwnAccount, || post(pages::account::password)),
    form("/account/authenticator", Need::OwnAccount, || post(pages::account::offer)),
    form("/account/authenticator/confirm", Need::OwnAccount, || post(pages::account::confirm)),
    form("/account/authenticator/remove", Need::OwnAccount, || post(pages::account::remove)),
    form("/account/language", Need::OwnAccount, || post(pages::account::language)),
    form("/account/sessions/end", Need::OwnAccount, || post(pages::account::end_session)),
    // What every page has.
    open(Method::GET, "/assets/{name}", || get(assets::serve)),
    open(Method::POST, "/language", || post(pages::choices::language)),
    open(Method::POST, "/colours", || post(pages::choices::colours)),
    open(Method::GET, "/sign-in", || get(pages::sign_in::show)),
    open(Method::POST, "/sign-in", || post(pages::sign_in::submit)),
    // Last, for nothing can be done afterwards.
    form("/account/sessions/end-all", Need::OwnAccount, || post(pages::account::end_all)),
    form("/sign-out", Need::SignedIn, || post(pages::sign_in::sign_out)),
];

const fn page(path: &'static str, need: Need, handler: fn() -> MethodRouter<Arc<Console>>) -> Route {
    Route { method: Method::GET, path, need: Some(need), section: None, handler }
}

const fn form(path: &'static str, need: Need, handler: fn() -> MethodRouter<Arc<Console>>) -> Route {
    Route { method: Method::POST, path, need: Some(need), section: None, handler }
}

const fn open(method: Method, path: &'static str, handler: fn() -> MethodRouter<Arc<Console>>) -> Route {
    Route { method, path, need: None, section: None, handler }
}

impl Route {
    const fn called(mut self, words: Text) -> Self {
        self.section = Some(words);
        self
    }
}

/// Where navigation leads.
pub fn navigation() -> Vec<NavSection> {
    let section =
        |route: &Route| Some(NavSection { words: route.section?, path: route.path, need: route.need });
    ROUTES.iter().filter_map(section).collect()
}
