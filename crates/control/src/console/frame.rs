//! What has every page: who looks at it, in which language and colours, under which navigation, with which headers.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use askama::Template;
use askama_web::WebTemplate;
use axum::extract::FromRequestParts;
use axum::response::{Html, IntoResponse, Response};
use batoff_log::StoreError;
use http::header::{ACCEPT_LANGUAGE, COOKIE, SET_COOKIE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::assets::{AssetNames, NAMES};
use super::flash::{FLASH_COOKIE, Flash};
use super::preferences::{COLOURS_COOKIE, Colours, LANGUAGE_COOKIE, cookie};
use super::state::{Console, NavSection};
use super::words::{Text, Words};
use crate::accounts::{self, Viewer};
use crate::api::problem::{Problem, store_error};
use crate::api::{RequestId, client_address};
use crate::language::Language;
use crate::tracker::NewsPlace;

/// What a handler knows of its request and answers with.
#[derive(Clone)]
pub struct PageFrame {
    /// Who is signed in.
    pub viewer: Option<Viewer>,
    /// The language to answer in.
    pub language: Language,
    /// The colours that were chosen.
    pub colours: Colours,
    /// Stands in every log line about it.
    pub request_id: RequestId,
    /// The viewer's address.
    pub address: IpAddr,
    /// Path and query, as asked for.
    pub target: String,
    /// Whether a script asks, for a part of a page.
    pub is_fragment: bool,
    /// What the page before has left to say.
    flash: Option<Flash>,
    sections: Arc<[NavSection]>,
    /// Where news stood before anything was looked at: from there on they are brought into the page.
    news: NewsPlace,
}

/// A whole page.
#[derive(Template, WebTemplate)]
#[template(path = "console/layout.html")]
struct Layout<'a> {
    frame: &'a PageFrame,
    assets: &'a AssetNames,
    title: &'a str,
    section: Option<Text>,
    flash: Option<String>,
    body: &'a str,
}

impl Layout<'_> {
    fn is_here(&self, section: &NavSection) -> bool {
        self.section == Some(section.words)
    }
}

impl PageFrame {
    pub(super) async fn of(console: &Console, request: &Parts) -> Result<Self, (Self, Problem)> {
        let headers = &request.headers;
        let lines = headers.get_all(ACCEPT_LANGUAGE).iter().filter_map(|line| line.to_str().ok());
        let chosen = cookie(headers, LANGUAGE_COOKIE).and_then(Language::from_tag);
        let trusted = &console.services.config.api.trusted_proxies;
        let mut frame = Self {
            viewer: None,
            language: chosen.unwrap_or_else(|| Language::negotiate(lines)),
            colours: cookie(headers, COLOURS_COOKIE).and_then(Colours::from_name).unwrap_or_default(),
            request_id: RequestId::of(headers),
            address: client_address::of(headers, &request.extensions, trusted),
            target: request.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned(),
            is_fragment: headers.contains_key("hx-request"),
            flash: cookie(headers, FLASH_COOKIE).and_then(Flash::decode),
            sections: console.sections.as_slice().into(),
            news: console.services.tracker.news_place(),
        };
        match session(console, headers, frame.address).await {
            Ok(viewer) => {
                frame.language =
                    chosen.or(viewer.as_ref().and_then(|viewer| viewer.language)).unwrap_or(frame.language);
                frame.viewer = viewer;
                Ok(frame)
            }
            Err(error) => Err((frame, store_error(error))),
        }
    }

    /// The languages with their names, short and long, each in itself.
    const fn languages() -> &'static [(Language, &'static str, &'static str)] {
        &[(Language::English, "EN", "English"), (Language::Russian, "РУ", "Русский")]
    }

    const fn all_colours() -> &'static [(Colours, Text)] {
        &[(Colours::Auto, Text::Auto), (Colours::Light, Text::Light), (Colours::Dark, Text::Dark)]
    }

    /// In the viewer's language.
    pub fn say(&self, words: impl Words) -> &'static str {
        words.of(self.language)
    }

    /// Whether this viewer may be told of purges: nobody is, before he has a password of his own.
    fn has_news(&self) -> bool {
        self.viewer.as_ref().is_some_and(|viewer| !viewer.must_change_password)
    }

    /// Where navigation leads this viewer.
    pub fn sections(&self) -> impl Iterator<Item = &NavSection> {
        let may = |section: &&NavSection| match (section.need, &self.viewer) {
            (None, _) => true,
            (Some(need), Some(viewer)) => viewer.may(need, None),
            (Some(_), None) => false,
        };
        self.sections.iter().filter(may)
    }

    /// A whole page: `body` stands under the heading `title`.
    pub fn page(&self, title: &str, section: Option<Text>, body: &impl Template) -> Response {
        let body = match body.render() {
            Ok(body) => body,
            Err(error) => return unrendered(&error),
        };
        let flash = self.flash.as_ref().map(|flash| flash.text(self.language));
        let said = flash.is_some();
        let layout = Layout { frame: self, assets: &NAMES, title, section, flash, body: &body };
        let mut response = layout.into_response();
        if said && let Ok(gone) = HeaderValue::from_str(&Flash::gone()) {
            response.headers_mut().append(SET_COOKIE, gone);
        }
        response
    }

    /// A part of a page, for a script that puts it in its place.
    pub fn fragment(&self, part: &impl Template) -> Response {
        match part.render() {
            Ok(part) => Html(part).into_response(),
            Err(error) => unrendered(&error),
        }
    }
}

/// Who holds the cookie that was sent.
pub(super) async fn session(
    console: &Console,
    headers: &HeaderMap,
    from: IpAddr,
) -> Result<Option<Viewer>, StoreError> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    match accounts::cookie_value(lines, console.is_secure) {
        Some(value) => console.services.accounts.session(value, from).await,
        None => Ok(None),
    }
}

impl<S: Sync> FromRequestParts<S> for PageFrame {
    type Rejection = Infallible;

    #[expect(clippy::expect_used, reason = "`finish` is around every route")]
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().expect("`finish` is around every route").clone())
    }
}

/// A template that cannot be rendered.
fn unrendered(error: &askama::Error) -> Response {
    tracing::error!(%error, "a page cannot be rendered");
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}
