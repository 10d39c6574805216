//! `/purges/new`: purge something, knowing what it will hit.
//!
//! The form is the API's body, and goes the API's way: the same normal form, the same quotas, the same count, the same audit
//! log. What is asked for beside it is that whoever empties a whole host types the site's name.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::Form;
use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::response::Response;
use batoff_log::Dedupe;
use batoff_types::{Selector, SiteId, TaskId, UnixMillis};
use batoff_wire::{Requester, RequesterIdentity};
use http::HeaderMap;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::purge_form::{PurgeForm, empties_a_host};
use super::purge_row::{RowText, kind_words};
use crate::accounts::{Need, Viewer};
use crate::api::problem::{Code, Problem, store_error};
use crate::api::{PurgeAttempt, PurgeRequest, WantedPurge};
use crate::console::flash::Flash;
use crate::console::frame::PageFrame;
use crate::console::guard::not_allowed;
use crate::console::state::Console;
use crate::console::words::{Text, counted, grouped, words};
use crate::language::Language;
use crate::tracker::Counts;

/// A form that was sent is recognised for so long when it is sent again.
const FORM_KEPT: Duration = Duration::from_secs(24 * 3_600);

words! {
    /// What the page says.
    pub enum NewText {
        Site: "Site", "Сайт";
        Urls: "URLs", "URL";
        UrlsNote: "One a line: exactly these, with every variant.", "По одному в строке: ровно они, со всеми вариантами.";
        Prefixes: "Prefixes", "Префиксы";
        PrefixesNote: "One a line: every URL that begins so.", "По одному в строке: все URL с таким началом.";
        Tags: "Tags", "Теги";
        TagsNote: "One a line, as Cache-Tag has them.", "По одному в строке, как в Cache-Tag.";
        Hosts: "Hosts", "Хосты";
        HostsNote: "One a line: all that is cached under them.", "По одному в строке: всё, что под ними в кеше.";
        Everything: "Everything of the site", "Всё содержимое сайта";
        EverythingNote: "Alone, without other items.", "Отдельно, без других элементов.";
        How: "How", "Как";
        Hard: "Remove", "Удалить";
        HardNote: "The next request goes to the origin.", "Следующий запрос уйдёт на источник.";
        Soft: "Mark stale", "Пометить устаревшим";
        SoftNote: "May be served while it is revalidated.", "Может отдаваться, пока обновляется.";
        What: "What it hits", "Что будет затронуто";
        Hint: "Say what to purge; what it would hit is counted here.", "Укажите, что очистить: здесь появится подсчёт.";
        Check: "Count", "Подсчитать";
        Purge: "Purge", "Очистить";
        Nodes: "Nodes:", "Узлы:";
        Total: "In all", "Всего";
        AllAnswered: "All nodes have answered.", "Ответили все узлы.";
        Missing: "Some nodes have not answered, so it may be more, and a limit cannot be kept.",
            "Ответили не все узлы: может быть больше, и предел соблюсти нельзя.";
        Limit: "At most so many objects", "Не больше объектов";
        LimitNote: "The count and a tenth more. If it hits more by then, nothing is purged. Empty: no limit.",
            "Подсчитанное и десятая часть сверху. Если окажется больше, ничего не очистится. Пусто: без предела.";
        Confirm: "Type the site's name to confirm", "Введите имя сайта для подтверждения";
        ConfirmNote: "This empties whole hosts. Until they are cached anew, every request goes to the origin.",
            "Это опустошит хосты целиком. Пока кеш не наполнится, все запросы пойдут на источник.";
        NotConfirmed: "Not purged yet: the site's name is not typed below as it is.",
            "Ещё не очищено: имя сайта ниже не введено в точности.";
        RefusedWord: "Not purged", "Не очищено";
        NoSites: "There is no site that you may purge.", "Нет сайта, который вам можно очищать.";
    }
}

/// What the page's URL has.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NewQuery {
    site: String,
    /// A purge to be done again.
    again: String,
}

/// The page.
#[derive(Template)]
#[template(path = "console/new_purge.html")]
struct NewPage<'a> {
    frame: &'a PageFrame,
    sites: Vec<String>,
    form: PurgeForm,
    preview: Option<Preview>,
    failure: Option<NotPurged>,
}

/// The part of it that says what would be hit.
#[derive(Template)]
#[template(path = "console/preview.html")]
struct PreviewPart<'a> {
    frame: &'a PageFrame,
    form: PurgeForm,
    preview: Option<Preview>,
    failure: Option<NotPurged>,
}

/// What it would hit.
struct Preview {
    items: Vec<(RowText, String, String)>,
    total: String,
    answered: (u32, u32),
    is_complete: bool,
    /// The name to type.
    confirm: Option<String>,
    not_confirmed: bool,
}

/// Why it was not purged, or not counted.
struct NotPurged {
    title: String,
    detail: String,
    errors: Vec<(String, String)>,
}

/// `GET /purges/new`
pub async fn blank(
    State(console): State<Arc<Console>>,
    frame: PageFrame,
    query: Result<Query<NewQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) =
        query.map_err(|rejected| Problem::detailed(Code::InvalidRequest, rejected.body_text()))?;
    let mut form =
        PurgeForm { site: query.site, key: ulid::Ulid::generate().to_string(), ..PurgeForm::default() };
    if !query.again.is_empty() {
        form.fill(&again(&console, &frame, &query.again).await?);
    }
    Ok(page(&console, &frame, form, None, None))
}

/// The purge that is to be done again: site, selectors, whether it was soft.
async fn again(
    console: &Console,
    frame: &PageFrame,
    task: &str,
) -> Result<(SiteId, Arc<[Selector]>, bool), Problem> {
    let id: TaskId = task.parse().map_err(|_| super::purge::no_such_purge())?;
    let row = console.services.store.log().find_task(id).await.map_err(store_error)?;
    let site = row.map(|row| row.site).ok_or_else(super::purge::no_such_purge)?;
    if !frame.viewer.as_ref().is_some_and(|viewer| viewer.may(Need::ReadSite, Some(&site))) {
        return Err(super::purge::no_such_purge());
    }
    let task = console.services.tracker.task(&site, id).await.map_err(store_error)?;
    let task = task.ok_or_else(super::purge::no_such_purge)?;
    Ok((site, Arc::clone(&task.selectors), task.soft))
}

/// `POST /purges/preview`: the count, as one types.
pub async fn preview(
    State(console): State<Arc<Console>>,
    frame: PageFrame,
    form: Result<Form<PurgeForm>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(mut form) =
        form.map_err(|rejected| Problem::detailed(Code::InvalidRequest, rejected.body_text()))?;
    let (site, viewer) = site_of(&frame, &form)?;
    if form.is_empty() {
        return Ok(part(&frame, form, None, None));
    }
    let counted = count(&console, &site, viewer, &mut form, (false, frame.language)).await;
    Ok(match counted {
        Ok(preview) => part(&frame, form, Some(preview), None),
        Err(problem) => part(&frame, form, None, Some(NotPurged::of(&problem, &frame))),
    })
}

/// `POST /purges/new`: purges, or, without a script, counts.
pub async fn submit(
    State(console): State<Arc<Console>>,
    frame: PageFrame,
    form: Result<Form<PurgeForm>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(mut form) =
        form.map_err(|rejected| Problem::detailed(Code::InvalidRequest, rejected.body_text()))?;
    let (site, viewer) = site_of(&frame, &form)?;
    let outcome = match form.request() {
        Ok(request) if form.is_final() => {
            let is_confirmed = form.confirm.trim() == site.as_str();
            if is_confirmed || !empties_a_host(&request) {
                purge(&console, &frame, viewer, &site, &request, &form.key).await
            } else {
                let preview = count(&console, &site, viewer, &mut form, (true, frame.language)).await?;
                return Ok(refused(page(&console, &frame, form, Some(preview), None), Code::InvalidRequest));
            }
        }
        Ok(_) => match count(&console, &site, viewer, &mut form, (false, frame.language)).await {
            Ok(preview) => return Ok(page(&console, &frame, form, Some(preview), None)),
            Err(problem) => Err(problem),
        },
        Err(problem) => Err(problem),
    };
    match outcome {
        Ok(task) => Ok(Flash::Purged.lead_to(&format!("/sites/{site}/purges/{task}"))),
        // With what was typed, which would be lost on a page of its own.
        Err(problem) => {
            let failure = NotPurged::of(&problem, &frame);
            Ok(refused(page(&console, &frame, form, None, Some(failure)), problem.code))
        }
    }
}

/// The way of every purge into the log, in the name of the account.
async fn purge(
    console: &Console,
    frame: &PageFrame,
    viewer: &Viewer,
    site: &SiteId,
    request: &PurgeRequest,
    key: &str,
) -> Result<TaskId, Problem> {
    let api = &console.api;
    let requester = Requester {
        identity: RequesterIdentity::Account(viewer.name.as_str().to_owned()),
        address: frame.address,
    };
    let mut trace = api.sampler.sample(api.sampler.begin(), &HeaderMap::new());
    let asked = WantedPurge {
        site,
        request,
        request_id: frame.request_id.shared(),
        requester: requester.clone(),
        dedupe: vec![sent_before(viewer, request, key, console.services.clock.wall())],
        trace: trace.as_mut(),
    };
    let outcome = api.purge(asked, api.rates(site)).await;
    if let (Err(problem), Some(trace)) = (&outcome, &mut trace) {
        trace.refused(problem);
    }
    if let Err(problem) = &outcome {
        let attempt = PurgeAttempt { requester, site, request_id: &frame.request_id, path: "/purges/new" };
        api.refusals.refused(&console.services, &attempt, problem);
    }
    outcome.map(|accepted| accepted.task)
}

/// A button that is pressed twice purges once. What was changed in between is another purge.
fn sent_before(viewer: &Viewer, request: &PurgeRequest, key: &str, now: UnixMillis) -> Dedupe {
    let body = serde_json::to_vec(request).unwrap_or_default();
    let body_hash: [u8; 32] = Sha256::digest(&body).into();
    let mut hash = Sha256::new();
    for part in [b"console".as_slice(), viewer.name.as_str().as_bytes(), key.as_bytes(), &body_hash] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    Dedupe {
        key: hash.finalize().into(),
        body_hash,
        fresh_for_ms: 0,
        expires_at: UnixMillis(now.0.saturating_add(FORM_KEPT.as_millis() as u64)),
    }
}

async fn count(
    console: &Console,
    site: &SiteId,
    viewer: &Viewer,
    form: &mut PurgeForm,
    (not_confirmed, language): (bool, Language),
) -> Result<Preview, Problem> {
    let request = form.request()?;
    let asker = RequesterIdentity::Account(viewer.name.as_str().to_owned());
    let (selectors, counts) = console.api.count(site, &request, &asker).await?;
    form.set_limit(counts.total(), counts.missing.is_empty());
    let confirm = empties_a_host(&request).then(|| site.to_string());
    Ok(Preview::new(&selectors, &counts, confirm, not_confirmed, language))
}

/// The site that is to be purged, which the viewer may.
fn site_of<'a>(frame: &'a PageFrame, form: &PurgeForm) -> Result<(SiteId, &'a Viewer), Problem> {
    let site = form.site.parse::<SiteId>().map_err(|_| {
        Problem::detailed(Code::InvalidRequest, "choose a site: the form names none that there is")
    })?;
    let viewer = frame.viewer.as_ref().filter(|viewer| viewer.may(Need::Purge, Some(&site)));
    viewer.map(|viewer| (site, viewer)).ok_or_else(not_allowed)
}

fn page(
    console: &Console,
    frame: &PageFrame,
    form: PurgeForm,
    preview: Option<Preview>,
    failure: Option<NotPurged>,
) -> Response {
    let sites = console.sites_of(frame.viewer.as_ref(), Need::Purge);
    let sites = sites.iter().map(ToString::to_string).collect();
    let body = NewPage { frame, sites, form, preview, failure };
    frame.page(frame.say(Text::NewPurge), Some(Text::NewPurge), &body)
}

fn part(
    frame: &PageFrame,
    form: PurgeForm,
    preview: Option<Preview>,
    failure: Option<NotPurged>,
) -> Response {
    frame.fragment(&PreviewPart { frame, form, preview, failure })
}

fn refused(mut page: Response, code: Code) -> Response {
    *page.status_mut() = code.status();
    page
}

impl Preview {
    fn new(
        selectors: &[Selector],
        counts: &Counts,
        confirm: Option<String>,
        not_confirmed: bool,
        language: Language,
    ) -> Self {
        let item = |(place, selector): (usize, &Selector)| {
            let objects = counts.objects.get(place).copied().unwrap_or(0);
            (kind_words(selector.kind()), selector.value().to_owned(), grouped(objects))
        };
        Self {
            items: selectors.iter().enumerate().map(item).collect(),
            total: counted(
                language,
                counts.total(),
                ["object", "objects"],
                ["объект", "объекта", "объектов"],
            ),
            answered: (counts.nodes_answered, counts.nodes_total),
            is_complete: counts.missing.is_empty(),
            confirm,
            not_confirmed,
        }
    }
}

impl NotPurged {
    fn of(problem: &Problem, frame: &PageFrame) -> Self {
        let document = problem.document(frame.language, frame.request_id.as_str());
        let named = |error: &crate::api::problem::ItemError| {
            (error.value.clone().unwrap_or_default(), error.detail.clone())
        };
        Self {
            title: document.title,
            detail: document.detail.unwrap_or_default(),
            errors: document.errors.iter().map(named).collect(),
        }
    }
}
