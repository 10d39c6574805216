//! `/tokens`: who may purge by a program? Issue, look, revoke.

use std::sync::Arc;

use askama::Template;
use axum::Form;
use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use batoff_types::{SiteId, UnixMillis};
use serde::Deserialize;

use crate::accounts::Need;
use crate::admin::changing::ChangeAsker;
use crate::admin::tokens::{self, LABEL_BYTES_MAX};
use crate::api::problem::{Code, ItemError, Problem};
use crate::catalog::{RevokedToken, Scope, Token, TokenId, TokenUse};
use crate::clock::rfc3339;
use crate::console::flash::Flash;
use crate::console::frame::PageFrame;
use crate::console::guard::not_allowed;
use crate::console::once::{new_key, once};
use crate::console::state::Console;
use crate::console::words::{Text, words};

/// Sites whose tokens are shown on one page; of more, one is chosen first.
const SITES_SHOWN_MAX: usize = 20;

words! {
    /// What the page says.
    pub enum TokensText {
        Issue: "Issue a token", "Выпустить токен";
        About: "A token is for one site. It has two halves: the token travels with each request, the secret signs and never travels. Both are shown once.", "Токен действует для одного сайта. В нём две половины: токен идёт с каждым запросом, секрет подписывает и никогда не передаётся. Обе показываются один раз.";
        Site: "Site", "Сайт";
        AllSites: "All sites", "Все сайты";
        ChooseSite: "Choose a site to see its tokens.", "Выберите сайт, чтобы увидеть его токены.";
        Label: "What it is for", "Для чего";
        LabelExample: "deploy pipeline", "конвейер выкладки";
        May: "May", "Права";
        MayPurge: "Purge and read", "Очищать и читать";
        MayRead: "Read only", "Только читать";
        Ends: "Ends", "Действует";
        Never: "Never", "Бессрочно";
        Month: "In 30 days", "30 дней";
        Quarter: "In 90 days", "90 дней";
        Year: "In a year", "Год";
        Do: "Issue", "Выпустить";
        Show: "Show", "Показать";
        Active: "In use", "Действующие";
        Revoked: "Revoked", "Отозванные";
        TokenId: "Token ID", "Номер токена";
        Issued: "Issued", "Выпущен";
        LastUse: "Last use", "Использован";
        NotUsed: "not used yet", "ещё нет";
        NoLabel: "no label", "без пометки";
        Ended: "ended", "истёк";
        Revoke: "Revoke", "Отозвать";
        NoneYet: "There are no tokens yet. Issue the first one above.", "Токенов ещё нет. Выпустите первый выше.";
        NoneToSee: "There are no tokens yet.", "Токенов ещё нет.";
        IssuedTitle: "Token issued", "Токен выпущен";
        Once: "Copy both now. They are shown this once, and nobody can look them up again.", "Скопируйте обе половины сейчас. Они показываются один раз, потом их не узнать никому.";
        TheToken: "Token", "Токен";
        TheSecret: "Signing secret", "Секрет подписи";
        Environment: "For a shell, our command and every example", "Для командной строки, нашей команды и всех примеров";
        ApiUnknown: "The API listens on every address of its machine: put the one that you reach it by in the place of this one. An operator can set it for everybody: api.public_url.", "API слушает все адреса машины: подставьте вместо этого тот, по которому он доступен вам. Оператор может задать его для всех: api.public_url.";
        TryIt: "Then, for example", "Затем, например";
        Examples: "The examples, to copy", "Примеры, чтобы скопировать";
        InRust: "With the SDK in Rust", "С SDK на Rust";
        Back: "I have copied both", "Обе половины скопированы";
        RevokeTitle: "Revoke this token?", "Отозвать этот токен?";
        RevokeAbout: "From then on its requests are refused, on every control plane within a second. It cannot be undone; purges that it has sent go on.", "С этого момента его запросы отклоняются — на каждом сервере в течение секунды. Отменить это нельзя; уже отправленные очистки продолжаются.";
        RevokeDo: "Revoke it now", "Отозвать сейчас";
        Keep: "Keep it", "Оставить";
        IsRefused: "refused since", "отклоняется с";
        Copy: "Copy", "Копировать";
        Copied: "Copied", "Скопировано";
    }
}

/// The filter, as the page's URL has it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokensQuery {
    site: String,
}

/// The form that issues a token.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssueForm {
    #[serde(default)]
    key: String,
    site: String,
    #[serde(default)]
    label: String,
    may: String,
    #[serde(default)]
    ends: String,
}

/// When a token may be told to end.
const ENDS: [(&str, u64, TokensText); 4] = [
    ("", 0, TokensText::Never),
    ("30d", 30, TokensText::Month),
    ("90d", 90, TokensText::Quarter),
    ("365d", 365, TokensText::Year),
];

const MILLIS_PER_DAY: u64 = 86_400_000;

/// A token in the list.
struct TokenLine {
    id: String,
    site: String,
    label: String,
    scope: TokensText,
    issued: String,
    issued_by: Option<String>,
    ends: Option<String>,
    has_ended: bool,
    last_use: Option<(String, String)>,
    revoked: Option<(String, String)>,
    may_revoke: bool,
}

#[derive(Template)]
#[template(path = "console/tokens.html")]
struct TokensPage<'a> {
    frame: &'a PageFrame,
    query: &'a TokensQuery,
    sites: Vec<String>,
    /// Those for which tokens may be issued.
    own: Vec<String>,
    active: Vec<TokenLine>,
    revoked: Vec<TokenLine>,
    must_choose: bool,
    /// Of the form that issues one.
    key: String,
}

#[derive(Template)]
#[template(path = "console/token_issued.html")]
struct IssuedPage<'a> {
    frame: &'a PageFrame,
    site: &'a str,
    host: String,
    api: String,
    is_api_unknown: bool,
    token: &'a str,
    secret: &'a str,
    label: &'a str,
    id: String,
}

#[derive(Template)]
#[template(path = "console/token_revoke.html")]
struct RevokePage<'a> {
    frame: &'a PageFrame,
    row: &'a TokenLine,
}

/// `GET /tokens`
pub async fn list(
    State(console): State<Arc<Console>>,
    frame: PageFrame,
    query: Result<Query<TokensQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) =
        query.map_err(|rejected| Problem::detailed(Code::InvalidRequest, rejected.body_text()))?;
    let sites = console.sites_of(frame.viewer.as_ref(), Need::ReadSite);
    let shown = match query.site.as_str() {
        "" if sites.len() > SITES_SHOWN_MAX => Vec::new(),
        "" => sites.clone(),
        name => vec![of_viewer(&frame, name, Need::ReadSite)?],
    };
    let must_choose = shown.is_empty() && !sites.is_empty();
    let catalog = &console.services.catalog;
    let now = console.services.clock.wall();
    let mut active = Vec::new();
    let mut revoked = Vec::new();
    for site in &shown {
        let may_revoke = may(&frame, Need::ManageTokens, site);
        let tokens = catalog.tokens(site.as_str());
        active.extend(
            tokens.iter().map(|token| TokenLine {
                may_revoke,
                ..TokenLine::new(token, catalog.last_use(token.id), now)
            }),
        );
        revoked.extend(catalog.revoked(site.as_str()).iter().map(|token| TokenLine::revoked(token, now)));
    }
    // The newest first: their ids rise with time.
    active.sort_by(|a: &TokenLine, b: &TokenLine| b.id.cmp(&a.id));
    revoked.sort_by(|a, b| b.revoked.cmp(&a.revoked));
    let names = |sites: Vec<SiteId>| sites.iter().map(ToString::to_string).collect();
    let own = names(console.sites_of(frame.viewer.as_ref(), Need::ManageTokens));
    let body = TokensPage {
        frame: &frame,
        query: &query,
        sites: names(sites),
        own,
        active,
        revoked,
        must_choose,
        key: new_key(),
    };
    Ok(frame.page(frame.say(Text::Tokens), Some(Text::Tokens), &body))
}

/// `POST /tokens`
pub async fn issue(
    State(console): State<Arc<Console>>,
    frame: PageFrame,
    form: Result<Form<IssueForm>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(form) =
        form.map_err(|rejected| Problem::detailed(Code::InvalidRequest, rejected.body_text()))?;
    let site = of_viewer(&frame, &form.site, Need::ManageTokens)?;
    let key = form.key.clone();
    let wanted = form.wanted(console.services.clock.wall())?;
    let issuing = tokens::issue_audited(Arc::clone(&console.services), asker(&frame)?, site.clone(), wanted);
    let issued = once(&console, &frame, &key, async { Ok(issuing.await?) }).await?;
    let body = IssuedPage {
        frame: &frame,
        site: site.as_str(),
        host: example_host(&console, &site),
        api: console.api_url(),
        is_api_unknown: console.is_api_url_unknown(),
        token: &issued.text,
        secret: &issued.secret,
        label: &issued.token.label,
        id: issued.token.id.to_string(),
    };
    Ok(frame.page(frame.say(TokensText::IssuedTitle), Some(Text::Tokens), &body))
}

/// `GET /sites/{site}/tokens/{token}/revoke`
pub async fn ask_revoke(
    State(console): State<Arc<Console>>,
    frame: PageFrame,
    Path((site, token)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let row = find(&console, &site, &token)?;
    let body = RevokePage { frame: &frame, row: &row };
    Ok(frame.page(frame.say(TokensText::RevokeTitle), Some(Text::Tokens), &body))
}

/// `POST /sites/{site}/tokens/{token}/revoke`
pub async fn revoke(
    State(console): State<Arc<Console>>,
    frame: PageFrame,
    Path((site, token)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let id = find(&console, &site, &token)?.id;
    tokens::revoke_audited(Arc::clone(&console.services), asker(&frame)?, site.clone(), token).await?;
    Ok(Flash::Revoked.lead_to(&format!("/tokens?site={site}#t-{id}")))
}

/// The row of a token that is good.
fn find(console: &Console, site: &str, token: &str) -> Result<TokenLine, Problem> {
    let catalog = &console.services.catalog;
    let id = token.parse::<TokenId>().ok();
    let found = catalog.tokens(site).into_iter().find(|token| Some(token.id) == id);
    let now = console.services.clock.wall();
    let row = found.map(|token| TokenLine::new(&token, catalog.last_use(token.id), now));
    let gone = || Problem::detailed(Code::NotFound, "there is no such token, or it was revoked already");
    row.ok_or_else(gone)
}

/// A hostname for an example, which a wildcard is none for.
fn example_host(console: &Console, site: &SiteId) -> String {
    let table = console.services.catalog.table();
    let names = table.hostnames(site.as_str()).unwrap_or_default();
    let name = names.first().map(ToString::to_string).unwrap_or_else(|| "www.example.com".to_owned());
    name.replace('*', "www")
}

fn may(frame: &PageFrame, need: Need, site: &SiteId) -> bool {
    frame.viewer.as_ref().is_some_and(|viewer| viewer.may(need, Some(site)))
}

/// A site with which the viewer may do that.
fn of_viewer(frame: &PageFrame, name: &str, need: Need) -> Result<SiteId, Problem> {
    name.parse::<SiteId>().ok().filter(|site| may(frame, need, site)).ok_or_else(not_allowed)
}

/// The viewer, as the audit log calls him.
pub(super) fn asker(frame: &PageFrame) -> Result<ChangeAsker, Problem> {
    let viewer = frame.viewer.as_ref().ok_or_else(not_allowed)?;
    Ok(ChangeAsker {
        actor: viewer.actor(),
        address: Some(frame.address),
        request_id: Some(frame.request_id.as_str().to_owned()),
    })
}

impl IssueForm {
    fn wanted(self, now: UnixMillis) -> Result<tokens::WantedToken, Problem> {
        let scopes = match self.may.as_str() {
            "purge" => vec![Scope::Purge],
            "read" => vec![Scope::Read],
            other => return Err(unknown("may", other)),
        };
        let ends = ENDS.into_iter().find(|(name, ..)| *name == self.ends);
        let (_, days, _) = ends.ok_or_else(|| unknown("ends", &self.ends))?;
        let expires_at = (days > 0).then(|| UnixMillis(now.0.saturating_add(days * MILLIS_PER_DAY)));
        Ok(tokens::WantedToken { label: self.label.trim().to_owned(), scopes, expires_at })
    }
}

fn unknown(name: &str, value: &str) -> Problem {
    let error = ItemError::parameter(name, "is not among the choices of the form").with_value(value);
    Problem::of_item(Code::InvalidRequest, error)
}

impl TokenLine {
    fn new(token: &Token, last: Option<TokenUse>, now: UnixMillis) -> Self {
        Self {
            id: token.id.to_string(),
            site: token.site.to_string(),
            label: token.label.to_string(),
            scope: if token.scopes.contains(&Scope::Purge) {
                TokensText::MayPurge
            } else {
                TokensText::MayRead
            },
            issued: rfc3339(token.created_at),
            issued_by: token.created_by.as_ref().map(ToString::to_string),
            ends: token.expires_at.map(rfc3339),
            has_ended: token.expires_at.is_some_and(|end| end <= now),
            last_use: last.map(|last| (rfc3339(last.at), last.address.to_string())),
            revoked: None,
            may_revoke: false,
        }
    }

    fn revoked(revoked: &RevokedToken, now: UnixMillis) -> Self {
        let told = (rfc3339(revoked.revoked_at), revoked.revoked_by.to_string());
        Self { revoked: Some(told), ..Self::new(&revoked.token, revoked.last_use, now) }
    }
}

impl TokensPage<'_> {
    fn may_issue(&self) -> bool {
        !self.own.is_empty()
    }
}

/// `2026-04-20 08:12:31` of `2026-04-20T08:12:31Z`; the page says once that it is UTC.
fn plain(time: &str) -> String {
    time.trim_end_matches('Z').replace('T', " ")
}
