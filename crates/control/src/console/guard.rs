//! May this request get in: does it come from our own pages, is its viewer signed in, and allowed to do this?

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{RawPathParams, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use batoff_types::SiteId;
use http::header::{HOST, ORIGIN};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::frame::PageFrame;
use super::state::Console;
use crate::accounts::Need;
use crate::api::problem::{Code, Problem};

/// Where one signs in.
pub const SIGN_IN: &str = "/sign-in";

/// Where one changes one's password.
pub const ACCOUNT: &str = "/account";

/// What a route asks of its viewer.
#[derive(Clone)]
pub struct RouteNeeds {
    /// Whose sites there are.
    pub console: Arc<Console>,
    /// `None` lets everybody in.
    pub need: Option<Need>,
}

/// Lets a request to a route in whose viewer may do what the route is for; of the site that the path names, if it names one.
/// A site that does not exist is refused like one of somebody else's: existence is not disclosed.
pub async fn admit(
    State(needs): State<RouteNeeds>,
    frame: PageFrame,
    params: RawPathParams,
    request: Request<Body>,
    next: Next,
) -> Response {
    let Some(need) = needs.need else { return next.run(request).await };
    let Some(viewer) = &frame.viewer else { return to_sign_in(&frame, request.method()) };
    if viewer.must_change_password && !viewer.may(need, None) {
        return Redirect::to(ACCOUNT).into_response();
    }
    let named = params.iter().find(|(name, _)| *name == "site").map(|(_, site)| site);
    let allowed = match named {
        None => viewer.may(need, None),
        Some(name) => {
            let site = name.parse::<SiteId>().ok();
            let exists = needs.console.services.catalog.table().hostnames(name).is_some();
            site.is_some_and(|site| viewer.may(need, Some(&site)) && exists)
        }
    };
    if allowed { next.run(request).await } else { not_allowed().into_response() }
}

/// The answer to a viewer who may not do this.
pub fn not_allowed() -> Problem {
    let mut problem = Problem::detailed(
        Code::ScopeDenied,
        "your role does not include this, or the site is not among yours; an operator can change that",
    );
    problem.title = Some(["Your account does not allow this", "Ваша учётная запись не даёт на это права"]);
    problem
}

/// Afterwards, on to the page that was asked for; what a form has sent is not kept.
fn to_sign_in(frame: &PageFrame, method: &Method) -> Response {
    let back = if *method == Method::GET { frame.target.as_str() } else { "/" };
    let path = format!("{SIGN_IN}?next={}", utf8_percent_encode(back, NON_ALPHANUMERIC));
    if !frame.is_fragment {
        return Redirect::to(&path).into_response();
    }
    // A script would put the page into the page.
    let mut response = StatusCode::UNAUTHORIZED.into_response();
    if let Ok(path) = HeaderValue::from_str(SIGN_IN) {
        response.headers_mut().insert("hx-redirect", path);
    }
    response
}

/// Refuses whatever changes something unless one of our own pages sent it: a browser says so in `Sec-Fetch-Site`, and one that
/// does not know that field in `Origin`. A request with neither is refused.
pub async fn own_pages_only(request: Request<Body>, next: Next) -> Response {
    if request.method().is_safe() || is_own(request.headers()) {
        return next.run(request).await;
    }
    let mut problem = Problem::detailed(
        Code::ScopeDenied,
        "the request does not come from a page of this console (by its Sec-Fetch-Site and Origin), so nothing was done: open \
         the page here, and send it again",
    );
    problem.title = Some(["The request comes from elsewhere", "Запрос пришёл с чужой страницы"]);
    problem.into_response()
}

fn is_own(headers: &HeaderMap) -> bool {
    match headers.get("sec-fetch-site") {
        Some(site) => site == "same-origin" || site == "none",
        None => {
            let origin = headers.get(ORIGIN).and_then(|origin| origin.to_str().ok());
            let authority =
                origin.and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
            let host = headers.get(HOST).and_then(|host| host.to_str().ok());
            authority.is_some() && authority == host
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(fields: &[(&'static str, &str)], expected: bool) {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("console.example:8443"));
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        assert_eq!(is_own(&headers), expected, "{fields:?}");
    }

    #[test]
    fn only_our_own_pages_change_anything() {
        check(&[("sec-fetch-site", "same-origin")], true);
        check(&[("sec-fetch-site", "none")], true);
        check(&[("sec-fetch-site", "same-site")], false);
        check(&[("sec-fetch-site", "cross-site"), ("origin", "https://console.example:8443")], false);
        check(&[("origin", "https://console.example:8443")], true);
        check(&[("origin", "https://console.example")], false);
        check(&[("origin", "https://evil.example")], false);
        check(&[("origin", "null")], false);
        check(&[], false);
    }
}
