//! `/sites`: which names does a site own, what may it do, and what is cached for it?

use std::sync::Arc;

use askama::Template;
use axum::Form;
use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use batoff_types::{SelectorKind, SiteId, TAGS_PER_RESPONSE_MAX};
use batoff_wire::RequesterIdentity;
use serde::Deserialize;

use super::tokens::asker;
use crate::accounts::{Need, Viewer};
use crate::admin::sites::{self as admin_sites, WantedSite};
use crate::api::problem::{Code, ItemError, Problem};
use crate::api::{Cost, PurgeRequest};
use crate::catalog::Site;
use crate::clock::rfc3339;
use crate::console::flash::Flash;
use crate::console::frame::PageFrame;
use crate::console::guard::not_allowed;
use crate::console::state::Console;
use crate::console::words::{Text, grouped, words};
use crate::tracker::TagOverflow;

/// Tags of a response that are indexed, unless a site sets something else.
const TAGS_PER_RESPONSE: u32 = TAGS_PER_RESPONSE_MAX as u32;

/// Sites on the page; of more, one is looked for by its name or a hostname.
const ROWS_MAX: usize = 200;

words! {
    /// What the pages say.
    pub enum SitesText {
        Find: "Name or hostname", "Имя или хост";
        Show: "Show", "Показать";
        Reset: "Reset", "Сбросить";
        Site: "Site", "Сайт";
        Hostnames: "Hostnames", "Хосты";
        Tokens: "Tokens", "Токены";
        Tags: "Tags of a response", "Тегов в ответе";
        Default: "default", "по умолчанию";
        UrlsAndTags: "URLs and tags a minute", "URL и тегов в минуту";
        Prefixes: "Prefixes and hosts a minute", "Префиксов и хостов в минуту";
        TagHeader: "Tag header", "Заголовок с тегами";
        TagHeaderAbout: "The origin's answers name their tags there, parted by commas.", "В нём ответы вашего сервера называют теги через запятую.";
        Overflow: "More tags than are indexed", "Больше тегов, чем индексируется";
        OverflowNone: "none seen", "не встречалось";
        OverflowAbout: "Every purge of a tag of this site hits them. Raise the limit, or send fewer tags.", "Их затрагивает любая очистка по тегу этого сайта. Поднимите предел или шлите меньше тегов.";
        Cached: "What is cached", "Что в кэше";
        CachedAbout: "Counts what a purge would hit; nothing is purged.", "Считает, что затронула бы очистка; ничего не очищается.";
        Kind: "By", "По";
        Url: "URL", "URL";
        Prefix: "Prefix", "Префикс";
        Tag: "Tag", "Тег";
        Host: "Host", "Хост";
        Everything: "Everything", "Всё";
        Value: "Value", "Значение";
        Count: "Count", "Посчитать";
        Answered: "Nodes that answered", "Ответило узлов";
        NormalForm: "In normal form", "В нормальной форме";
        Objects: "Cached objects, each variant counted", "Объектов в кэше, считая варианты";
        NotAll: "Not every node has answered, or can say what its caches hold: there may be more.", "Ответили не все узлы или не все могут сказать, что у них в кэше: может быть больше.";
        Purges: "Purges", "Очистки";
        Change: "Change", "Изменить";
        HostnamesForm: "Hostnames, one a line; *.example.com for all below it", "Хосты, по одному в строке; *.example.com — все ниже";
        HostnamesWarn: "What is cached under a name that is taken away is purged.", "Кэш под убранным именем очищается.";
        Save: "Save", "Сохранить";
        New: "New site", "Новый сайт";
        Name: "Name: a-z, 0-9, -", "Имя: a-z, 0-9, -";
        Create: "Create", "Создать";
        None: "There is no such site.", "Такого сайта нет.";
        NoneYet: "There are no sites yet.", "Сайтов ещё нет.";
        TooMany: "There are more; look for one by its name or a hostname.", "Есть ещё; найдите нужный по имени или хосту.";
    }
}

/// What the list looks for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SitesQuery {
    find: String,
}

/// What is to be counted.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CountQuery {
    kind: String,
    value: String,
}

/// The forms of a new site and of a change. What is empty has the default.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteForm {
    #[serde(default)]
    site: String,
    hostnames: String,
    #[serde(default)]
    items_per_minute: String,
    #[serde(default)]
    prefixes_per_minute: String,
    #[serde(default)]
    tags_per_response: String,
}

struct SiteRow {
    site: Site,
    overflow: TagOverflow,
    tokens: usize,
}

/// What a count has found.
struct CountFound {
    value: String,
    objects: u64,
    answered: u32,
    nodes: u32,
    is_whole: bool,
}

#[derive(Template)]
#[template(path = "console/sites.html")]
struct SitesPage<'a> {
    frame: &'a PageFrame,
    query: &'a SitesQuery,
    rows: Vec<SiteRow>,
    are_more: bool,
    may_operate: bool,
}

#[derive(Template)]
#[template(path = "console/site.html")]
struct SitePage<'a> {
    frame: &'a PageFrame,
    query: &'a CountQuery,
    row: &'a SiteRow,
    /// What holds for it, be it its own or the default.
    rates: Cost,
    found: Option<CountFound>,
    may_operate: bool,
}

/// `GET /sites`
pub async fn list(
    State(console): State<Arc<Console>>,
    frame: PageFrame,
    query: Result<Query<SitesQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) =
        query.map_err(|rejected| Problem::detailed(Code::InvalidRequest, rejected.body_text()))?;
    let services = &console.services;
    let own = console.sites_of(frame.viewer.as_ref(), Need::ReadSite);
    let wanted = query.find.trim().to_lowercase();
    let fits = |site: &Site| {
        wanted.is_empty()
            || site.id.as_str().contains(&wanted)
            || site.hostnames.iter().any(|name| name.to_string().contains(&wanted))
    };
    let mut sites = own.iter().filter_map(|id| services.catalog.site(id.as_str())).filter(fits);
    let rows: Vec<SiteRow> = sites.by_ref().take(ROWS_MAX).map(|site| SiteRow::new(&console, site)).collect();
    let are_more = sites.next().is_some();
    let may_operate = may_operate(&frame);
    let body = SitesPage { frame: &frame, query: &query, rows, are_more, may_operate };
    Ok(frame.page(frame.say(Text::Sites), Some(Text::Sites), &body))
}

/// `GET /sites/{site}`
pub async fn show(
    State(console): State<Arc<Console>>,
    frame: PageFrame,
    Path(site): Path<String>,
    query: Result<Query<CountQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) =
        query.map_err(|rejected| Problem::detailed(Code::InvalidRequest, rejected.body_text()))?;
    let site = console.services.catalog.site(&site).ok_or_else(gone)?;
    let found = match query.kind.as_str() {
        "" => None,
        kind => {
            let viewer = frame.viewer.as_ref().ok_or_else(not_allowed)?;
            Some(count(&console, viewer, &site.id, kind, query.value.trim()).await?)
        }
    };
    let rates = console.api.rates(&site.id).burst();
    let row = SiteRow::new(&console, site);
    let may_operate = may_operate(&frame);
    let body = SitePage { frame: &frame, query: &query, row: &row, rates, found, may_operate };
    Ok(frame.page(row.site.id.as_str(), Some(Text::Sites), &body))
}

/// `POST /sites`
pub async fn create(
    State(console): State<Arc<Console>>,
    frame: PageFrame,
    form: Result<Form<SiteForm>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(form) =
        form.map_err(|rejected| Problem::detailed(Code::InvalidRequest, rejected.body_text()))?;
    let site = form.site.trim().to_owned();
    let wanted = form.wanted()?;
    admin_sites::create_audited(Arc::clone(&console.services), asker(&frame)?, site.clone(), wanted).await?;
    Ok(Flash::Saved.lead_to(&format!("/sites/{site}")))
}

/// `POST /sites/{site}`
pub async fn change(
    State(console): State<Arc<Console>>,
    frame: PageFrame,
    Path(site): Path<String>,
    form: Result<Form<SiteForm>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(form) =
        form.map_err(|rejected| Problem::detailed(Code::InvalidRequest, rejected.body_text()))?;
    let wanted = form.wanted()?;
    admin_sites::change_audited(Arc::clone(&console.services), asker(&frame)?, site.clone(), wanted).await?;
    Ok(Flash::Saved.lead_to(&format!("/sites/{site}")))
}

/// By the rules of the API, in the viewer's name: a count is one of his dry runs.
async fn count(
    console: &Console,
    viewer: &Viewer,
    site: &SiteId,
    kind: &str,
    value: &str,
) -> Result<CountFound, Problem> {
    let one = || vec![value.to_owned()];
    let mut request = PurgeRequest::default();
    match SelectorKind::from_name(kind) {
        Some(SelectorKind::Url) => request.urls = one(),
        Some(SelectorKind::Prefix) => request.prefixes = one(),
        Some(SelectorKind::Tag) => request.tags = one(),
        Some(SelectorKind::Host) => request.hosts = one(),
        Some(SelectorKind::Everything) => request.everything = true,
        None => {
            let error = ItemError::parameter("kind", "is not among the choices of the form").with_value(kind);
            return Err(Problem::of_item(Code::InvalidRequest, error));
        }
    }
    let asker = RequesterIdentity::Account(viewer.name.as_str().to_owned());
    let (selectors, counts) = console.api.count(site, &request, &asker).await?;
    Ok(CountFound {
        value: selectors.first().map(|selector| selector.value().to_string()).unwrap_or_default(),
        objects: counts.objects.first().copied().unwrap_or_default(),
        answered: counts.nodes_answered,
        nodes: counts.nodes_total,
        is_whole: counts.missing.is_empty() && counts.uncounted.is_empty(),
    })
}

fn may_operate(frame: &PageFrame) -> bool {
    frame.viewer.as_ref().is_some_and(|viewer| viewer.may(Need::Operate, None))
}

fn gone() -> Problem {
    Problem::detailed(Code::NotFound, "there is no such site")
}

impl SiteForm {
    fn wanted(&self) -> Result<WantedSite, Problem> {
        Ok(WantedSite {
            hostnames: self
                .hostnames
                .lines()
                .map(str::trim)
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect(),
            items_per_minute: number("items_per_minute", &self.items_per_minute)?,
            prefixes_per_minute: number("prefixes_per_minute", &self.prefixes_per_minute)?,
            tags_per_response: number("tags_per_response", &self.tags_per_response)?,
        })
    }
}

fn number(name: &str, text: &str) -> Result<Option<u32>, Problem> {
    let text = text.trim();
    let refused = |_| {
        let error =
            ItemError::parameter(name, "must be a whole number, or empty for the default").with_value(text);
        Problem::of_item(Code::InvalidRequest, error)
    };
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(refused) }
}

impl SiteRow {
    fn new(console: &Console, site: Site) -> Self {
        let overflow = console.services.tracker.tag_overflow(&site.id);
        let tokens = console.services.catalog.tokens(site.id.as_str()).len();
        Self { site, overflow, tokens }
    }

    fn lines(&self) -> String {
        self.site.hostnames.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }
}

impl SitePage<'_> {
    /// The choices of the select: value, words, whether it is chosen.
    fn kinds(&self) -> [(&'static str, SitesText, bool); 5] {
        [
            ("prefix", SitesText::Prefix),
            ("tag", SitesText::Tag),
            ("url", SitesText::Url),
            ("host", SitesText::Host),
            ("everything", SitesText::Everything),
        ]
        .map(|(value, words)| (value, words, value == self.query.kind))
    }

    /// The limits: words, what holds, whether it is the default.
    fn limits(&self) -> [(SitesText, u32, bool); 3] {
        let limits = self.row.site.limits;
        let of = |words, own: Option<u32>, default| (words, own.unwrap_or(default), own.is_none());
        [
            of(SitesText::UrlsAndTags, limits.items_per_minute, self.rates.items),
            of(SitesText::Prefixes, limits.prefixes_per_minute, self.rates.prefixes),
            of(SitesText::Tags, limits.tags_per_response, TAGS_PER_RESPONSE),
        ]
    }
}

/// A number of a form; empty when it is the default.
fn typed(number: &Option<u32>) -> String {
    number.map(|number| number.to_string()).unwrap_or_default()
}
