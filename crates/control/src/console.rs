//! The operators' and customers' console in a browser: are purges fast, is this one gone, who is late and why?
//!
//! | module | answers |
//! | --- | --- |
//! | [`routes`] | Which pages are there, and what must a viewer be allowed to for each? **The one table** |
//! | [`sign_on`] | Whom does the proxy name that signs people in? |
//! | [`guard`] | May this request get in: from our own pages, signed in, allowed? |
//! | [`frame`] | What has every page: viewer, language, colours, navigation, a message of the page before? |
//! | [`finish`] | What is done around every route? Headers, and refusals as pages |
//! | `once` | Which forms may be sent once only? |
//! | [`words`] | How is it called in each of our languages? |
//! | [`failure`] | How does a page say no? |
//! | [`preferences`] | Which language and which colours does the viewer want? |
//! | [`assets`] | Style and scripts, under names that change with their content |
//! | `live`, `stream` | What has just happened, for pages that are open |
//! | `pages` | The pages, each a file here, a template, and a row in the table |
//!
//! A page is made on the server, whole, and works without scripts; a script only brings news into it. So each state of a
//! page is a URL. **Invariants, by what is absent:** no style and no script stands in a page (the content security policy
//! allows none), no page is reachable that is not in the table, and nothing is decided here that the APIs do not decide
//! the same way.
//!
//! A new page: `pages/name.rs` with a handler that takes a [`frame::PageFrame`] and answers [`frame::PageFrame::page`],
//! `templates/console/name.html` with what stands under its heading, its words in [`words`], and a row in [`routes`].

pub mod assets;
pub mod failure;
pub mod finish;
pub mod flash;
pub mod frame;
pub mod guard;
pub(crate) mod live;
mod once;
mod pages;
pub mod preferences;
pub mod routes;
pub mod sign_on;
pub mod state;
mod stream;
pub mod words;

use std::sync::Arc;

use axum::{Router, middleware};
use tower::Layer;
use tower_http::catch_panic::CatchPanicLayer;

use self::routes::ROUTES;
pub use self::sign_on::SignOnProxy;
use self::state::Console;
pub use self::state::ConsoleDoor;
use crate::api::Api;
use crate::api::problem::{Code, Problem};

/// All pages, of the API whose quotas they share. To be served with `ConnectInfo<SocketAddr>`, as the audit log is told where
/// a viewer is, and with the certificate that a connection has shown.
pub fn router(api: Arc<Api>, door: ConsoleDoor) -> Router {
    let console = Arc::new(Console::new(api, routes::navigation(), door));
    let mut router = Router::new();
    for route in ROUTES {
        let needs = guard::RouteNeeds { console: Arc::clone(&console), need: route.need };
        let handler = (route.handler)().layer(middleware::from_fn_with_state(needs, guard::admit));
        router = router.route(route.path, handler);
    }
    let routes = router
        .fallback(async || Problem::detailed(Code::NotFound, "there is no such page"))
        .method_not_allowed_fallback(async || Problem::new(Code::MethodNotAllowed))
        .layer(CatchPanicLayer::custom(|_| failure::after_panic()))
        .layer(middleware::from_fn(guard::own_pages_only))
        .with_state(Arc::clone(&console));
    // Around everything, what the router itself answers included.
    Router::new().fallback_service(middleware::from_fn_with_state(console, finish::finish).layer(routes))
}
