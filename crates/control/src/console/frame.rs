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
use super::sign_on::SignOnRefused;
use super::state::{Console, NavSection};
use super::words::{Text, Words};
use crate::accounts::{self, ProxiedRefused, Viewer};
use crate::api::problem::{Code, Problem, store_error};
use crate::api::{RequestId, client_address};
use crate::language::Language;
use crate::tracker::NewsPlace;

/// Under it are style and scripts.
const ASSETS: &str = "/assets/";

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
    /// The proxy that has signed the viewer in.
    pub signed_in_by: Option<SignedInBy>,
    /// What the page before has left to say.
    flash: Option<Flash>,
    sections: Arc<[NavSection]>,
    /// Where news stood before anything was looked at: from there on they are brought into the page.
    news: NewsPlace,
}

/// Who has signed a viewer in that has no session here.
#[derive(Clone, Debug)]
pub struct SignedInBy {
    /// As its certificate calls it.
    pub proxy: String,
    /// Where one signs out of it.
    pub sign_out: Option<String>,
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
            signed_in_by: None,
            flash: cookie(headers, FLASH_COOKIE).and_then(Flash::decode),
            sections: console.sections.as_slice().into(),
            news: console.services.tracker.news_place(),
        };
        // Who asks for style and scripts is of no concern: everybody has them, also on a page that says no.
        if request.uri.path().starts_with(ASSETS) {
            return Ok(frame);
        }
        match frame.asks(console, request).await {
            Ok(viewer) => {
                frame.language =
                    chosen.or(viewer.as_ref().and_then(|viewer| viewer.language)).unwrap_or(frame.language);
                frame.viewer = viewer;
                Ok(frame)
            }
            Err(problem) => Err((frame, problem)),
        }
    }

    /// Who asks: whom the proxy names, or else who holds the cookie.
    async fn asks(&mut self, console: &Console, request: &Parts) -> Result<Option<Viewer>, Problem> {
        let accounts = &console.services.accounts;
        if let Some(proxy) = &console.door.sign_on {
            let named = proxy.named(request, console.services.clock.wall()).inspect_err(|refused| {
                tracing::warn!(from = %self.address, ?refused, "a request is refused: who asks is not certain");
                match refused {
                    SignOnRefused::NotTheProxy { is_pretended: false } => {}
                    SignOnRefused::NotTheProxy { is_pretended: true } => {
                        accounts.note_uncertain("not_the_proxy", self.address);
                    }
                    SignOnRefused::Ambiguous(_) => accounts.note_uncertain("not_certain", self.address),
                }
            })?;
            if let Some(user) = named {
                let viewer = accounts.named_by_proxy(user.name, user.grants, &proxy.name, self.address).await;
                let viewer = viewer.map_err(not_let_in)?;
                self.signed_in_by =
                    Some(SignedInBy { proxy: proxy.name.clone(), sign_out: proxy.sign_out.clone() });
                return Ok(Some(viewer));
            }
        }
        session(console, &request.headers, self.address).await.map_err(store_error)
    }

    /// Whether there is anything that this viewer could sign out of.
    fn may_sign_out(&self) -> bool {
        self.signed_in_by.as_ref().is_none_or(|by| by.sign_out.is_some())
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

/// The answer to somebody whom the proxy names, and who is not let in.
fn not_let_in(refused: ProxiedRefused) -> Problem {
    let detail = refused.to_string();
    let title = match refused {
        ProxiedRefused::Store(error) => return store_error(error),
        ProxiedRefused::BadName(_) => {
            ["The console cannot call you by your name", "Имя не подходит для консоли"]
        }
        ProxiedRefused::HasAccount(_) => ["This name is taken by an account", "Имя занято учётной записью"],
        ProxiedRefused::NoGroup(_) => ["You may not use this console", "У вас нет доступа к этой консоли"],
    };
    Problem { title: Some(title), ..Problem::detailed(Code::ScopeDenied, detail) }
}

/// Who holds the cookie that was sent.
pub(super) async fn session(
    console: &Console,
    headers: &HeaderMap,
    from: IpAddr,
) -> Result<Option<Viewer>, StoreError> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    match accounts::cookie_value(lines, console.door.is_secure) {
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
