//! Sites: their hostnames, which belong to one site at a time, and their quotas.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use batoff_types::{
    HostPattern, SiteChange, SiteId, SiteLimits, SiteTable, TAGS_PER_RESPONSE_LIMIT, UnixMillis,
};
use http::{Request, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::body;
use super::changing::{self, ChangeAsker, ChangeOf};
use super::refusal::{AdminRefusal, Conflict};
use crate::api::RequestId;
use crate::api::problem::{Code, ItemError, Problem, store_error};
use crate::api::reply::{json, no_content};
use crate::audit::{AuditAction, AuditEntry, OPERATOR};
use crate::catalog::Site;
use crate::clock::rfc3339;
use crate::commit::affected;
use crate::service::Services;
use crate::tracker::TagOverflow;

/// Hostnames that one site may own.
const HOSTNAMES_MAX: usize = 1_000;

/// Sites that there may be: all of them are held in memory and told to every node that connects.
const SITES_MAX: usize = 100_000;

/// The largest quota: beyond it a quota means nothing.
const QUOTA_MAX: u32 = 1_000_000_000;

/// All sites.
#[derive(Serialize, ToSchema)]
#[schema(as = SiteList)]
struct SiteListDocument {
    /// By name.
    sites: Vec<SiteDocument>,
}

/// A site.
#[derive(Serialize, ToSchema)]
#[schema(as = Site)]
struct SiteDocument {
    /// Its name.
    site_id: String,
    /// What it owns: names, and wildcards such as `*.img.example.com`.
    hostnames: Vec<String>,
    /// What was set for it; what was not set has the default.
    limits: LimitsDocument,
    /// Objects with more tags than are indexed.
    tag_overflow: OverflowDocument,
}

/// Objects that came to the nodes with more tags than `tags_per_response`, or with malformed ones: every purge of a tag of
/// the site hits them.
#[derive(Default, Serialize, ToSchema)]
#[schema(as = TagOverflow)]
struct OverflowDocument {
    /// How many came, since the nodes started.
    objects: u64,
    /// To how many nodes.
    nodes: u32,
    /// When the last one came.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_at: Option<String>,
}

/// A site's limits. What is left out, or null, has the default.
#[derive(Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = Limits)]
struct LimitsDocument {
    /// URLs and tags a minute; 10,000 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    items_per_minute: Option<u32>,
    /// Prefixes, hosts and *everything* a minute; 60 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    prefixes_per_minute: Option<u32>,
    /// Tags of a response that are indexed, 1 to 1,024; 16 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    tags_per_response: Option<u32>,
}

/// A site that is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewSite {
    /// 1 to 64 of `a-z 0-9 -`.
    #[schema(example = "shop")]
    site_id: String,
    /// 1 to 1,000 names and wildcards. A name belongs to one site only.
    #[schema(example = json!(["www.example.com", "*.img.example.com"]))]
    hostnames: Vec<String>,
    /// The defaults when not given.
    #[serde(default)]
    limits: LimitsDocument,
    /// Takes names that other sites have away from them.
    #[serde(default, rename = "move")]
    takes: bool,
}

/// What is to be changed of a site; what is left out stays as it is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SitePatch {
    /// All of its names from now on. What is cached under those that it gives up is purged.
    hostnames: Option<Vec<String>>,
    /// All of its limits from now on.
    limits: Option<LimitsDocument>,
    /// Takes names that other sites have away from them.
    #[serde(default, rename = "move")]
    takes: bool,
}

/// All sites.
#[utoipa::path(
    get, path = "/admin/v1/sites", tag = "sites", operation_id = "listSites",
    responses((status = 200, description = "The sites", body = SiteListDocument))
)]
pub(super) async fn list(State(services): State<Arc<Services>>) -> Response {
    let overflows = services.tracker.tag_overflows();
    let document = |site: Site| {
        let overflow = overflows.get(&site.id).copied().unwrap_or_default();
        SiteDocument::new(site, overflow)
    };
    let sites: Vec<SiteDocument> = services.catalog.sites().into_iter().map(document).collect();
    json(StatusCode::OK, &SiteListDocument { sites })
}

/// One site.
#[utoipa::path(
    get, path = "/admin/v1/sites/{site}", tag = "sites", operation_id = "getSite",
    params(("site" = String, Path, description = "The site's name")),
    responses((status = 200, description = "The site", body = SiteDocument))
)]
pub(super) async fn show(
    State(services): State<Arc<Services>>,
    Path(site): Path<String>,
) -> Result<Response, AdminRefusal> {
    let site = services.catalog.site(&site).ok_or_else(|| AdminRefusal::no_such("site", &site))?;
    let overflow = services.tracker.tag_overflow(&site.id);
    Ok(json(StatusCode::OK, &SiteDocument::new(site, overflow)))
}

/// Create a site.
#[utoipa::path(
    post, path = "/admin/v1/sites", tag = "sites", operation_id = "createSite",
    request_body(content = NewSite, content_type = "application/json"),
    responses((status = 201, description = "The site", body = SiteDocument))
)]
pub(super) async fn create(
    State(services): State<Arc<Services>>,
    request: Request<Body>,
) -> Result<Response, AdminRefusal> {
    let (parts, new) = body::read::<NewSite>(request).await?;
    let site: SiteId = new.site_id.parse().map_err(|error| invalid("/site_id", &new.site_id, &error))?;
    let hostnames = parse(&new.hostnames)?;
    let limits = new.limits.check()?;
    create_site(&services, request_id(&parts), &site, hostnames, limits, new.takes).await?;
    tracing::info!(%site, "site created");
    Ok(json(
        StatusCode::CREATED,
        &SiteDocument {
            site_id: site.to_string(),
            hostnames: new.hostnames,
            limits: new.limits,
            tag_overflow: OverflowDocument::default(),
        },
    ))
}

/// Change a site: its hostnames, its limits.
#[utoipa::path(
    patch, path = "/admin/v1/sites/{site}", tag = "sites", operation_id = "changeSite",
    params(("site" = String, Path, description = "The site's name")),
    request_body(content = SitePatch, content_type = "application/json"),
    responses((status = 200, description = "The site", body = SiteDocument))
)]
pub(super) async fn change(
    State(services): State<Arc<Services>>,
    Path(site): Path<String>,
    request: Request<Body>,
) -> Result<Response, AdminRefusal> {
    let (parts, patch) = body::read::<SitePatch>(request).await?;
    let hostnames = patch.hostnames.as_deref().map(parse).transpose()?;
    let limits = patch.limits.map(|limits| limits.check()).transpose()?;
    change_site(&services, request_id(&parts), &site, hostnames, limits, patch.takes).await?;
    tracing::info!(site, "site changed");
    show(State(services), Path(site)).await
}

/// Remove a site with its tokens. What is cached for it is purged.
#[utoipa::path(
    delete, path = "/admin/v1/sites/{site}", tag = "sites", operation_id = "removeSite",
    params(("site" = String, Path, description = "The site's name")),
    responses((status = 204, description = "It is gone"))
)]
pub(super) async fn remove(
    State(services): State<Arc<Services>>,
    Path(site): Path<String>,
    request: Request<Body>,
) -> Result<Response, AdminRefusal> {
    let (parts, _) = request.into_parts();
    // First the tokens: should the rest fail, nobody can use what is left.
    services.catalog.revoke_all(&site, OPERATOR).await.map_err(store_error)?;
    let name = site.clone();
    services
        .commit
        .change_sites(request_id(&parts), move |table| {
            let (id, names) = name
                .parse::<SiteId>()
                .ok()
                .and_then(|id| Some((id, table.hostnames(&name)?.to_vec())))
                .ok_or_else(|| AdminRefusal::no_such("site", &name))?;
            let limits = SiteLimits::default();
            Ok::<_, AdminRefusal>(vec![SiteChange { site: id, hostnames: None, affected: names, limits }])
        })
        .await?;
    tracing::info!(site, "site removed");
    Ok(no_content())
}

/// What somebody beside this API wants a site to be: all of it.
#[derive(Debug)]
pub(crate) struct WantedSite {
    /// As typed.
    pub hostnames: Vec<String>,
    /// `None`: the default.
    pub items_per_minute: Option<u32>,
    /// `None`: the default.
    pub prefixes_per_minute: Option<u32>,
    /// `None`: the default.
    pub tags_per_response: Option<u32>,
}

impl WantedSite {
    fn limits(&self) -> LimitsDocument {
        let Self { items_per_minute, prefixes_per_minute, tags_per_response, .. } = *self;
        LimitsDocument { items_per_minute, prefixes_per_minute, tags_per_response }
    }

    fn about(&self, action: AuditAction, site: &str) -> ChangeOf {
        let change = serde_json::json!({ "hostnames": self.hostnames, "limits": self.limits() });
        // As of the routes: the log keeps the body of a change up to a size, and of a larger one its hash.
        let change = AuditEntry::new(UnixMillis(0), OPERATOR, action)
            .with_change(change.to_string().as_bytes())
            .change;
        ChangeOf { action, site: Some(site.to_owned()), object: None, change }
    }
}

/// Creates a site for somebody beside this API, with its entry in the audit log.
pub(crate) async fn create_audited(
    services: Arc<Services>,
    asker: ChangeAsker,
    site: String,
    wanted: WantedSite,
) -> Result<(), AdminRefusal> {
    let about = wanted.about(AuditAction::SiteCreate, &site);
    let (request, own) = (asker.request_id.clone(), Arc::clone(&services));
    changing::audited(services, asker, about, async move {
        let site: SiteId = site.parse().map_err(|error| invalid("/site_id", &site, &error))?;
        let (hostnames, limits) = (parse(&wanted.hostnames)?, wanted.limits().check()?);
        create_site(&own, request.as_deref().unwrap_or("console"), &site, hostnames, limits, false).await?;
        Ok(((), None))
    })
    .await
}

/// Changes a site for somebody beside this API, with its entry in the audit log.
pub(crate) async fn change_audited(
    services: Arc<Services>,
    asker: ChangeAsker,
    site: String,
    wanted: WantedSite,
) -> Result<(), AdminRefusal> {
    let about = wanted.about(AuditAction::SiteChange, &site);
    let (request, own) = (asker.request_id.clone(), Arc::clone(&services));
    changing::audited(services, asker, about, async move {
        let (hostnames, limits) = (Some(parse(&wanted.hostnames)?), Some(wanted.limits().check()?));
        change_site(&own, request.as_deref().unwrap_or("console"), &site, hostnames, limits, false).await?;
        Ok(((), None))
    })
    .await
}

async fn create_site(
    services: &Services,
    request_id: &str,
    site: &SiteId,
    hostnames: Vec<HostPattern>,
    limits: SiteLimits,
    takes: bool,
) -> Result<(), AdminRefusal> {
    let (name, catalog) = (site.clone(), &services.catalog);
    services
        .commit
        .change_sites(request_id, move |table| {
            if table.hostnames(name.as_str()).is_some() {
                return Err(AdminRefusal::conflict(format!(
                    "the site {name} exists already; PATCH it to change it"
                )));
            }
            if table.iter().count() >= SITES_MAX {
                return Err(AdminRefusal::conflict(format!(
                    "there are {SITES_MAX} sites, which is the limit"
                )));
            }
            changes(table, catalog, name, hostnames, limits, takes)
        })
        .await?;
    Ok(())
}

async fn change_site(
    services: &Services,
    request_id: &str,
    site: &str,
    hostnames: Option<Vec<HostPattern>>,
    limits: Option<SiteLimits>,
    takes: bool,
) -> Result<(), AdminRefusal> {
    let catalog = &services.catalog;
    services
        .commit
        .change_sites(request_id, |table| {
            let now = catalog.site(site).ok_or_else(|| AdminRefusal::no_such("site", site))?;
            let (hostnames, limits) = (hostnames.unwrap_or(now.hostnames), limits.unwrap_or(now.limits));
            changes(table, catalog, now.id, hostnames, limits, takes)
        })
        .await?;
    Ok(())
}

/// The change of a site, after a change of each site that gives names up to it.
fn changes(
    table: &SiteTable,
    catalog: &crate::catalog::Catalog,
    site: SiteId,
    hostnames: Vec<HostPattern>,
    limits: SiteLimits,
    takes: bool,
) -> Result<Vec<SiteChange>, AdminRefusal> {
    let claimed = |name: &HostPattern| table.claimant(name).filter(|owner| **owner != site);
    let mut others: Vec<&SiteId> = hostnames.iter().filter_map(claimed).collect();
    others.sort_unstable();
    others.dedup();
    if !others.is_empty() && !takes {
        let errors = hostnames.iter().enumerate().filter_map(|(index, name)| {
            let owner = claimed(name)?;
            let detail = format!("belongs to site {owner}; \"move\": true takes it from there");
            Some(ItemError::at(format!("/hostnames/{index}"), detail).with_value(name.to_string()))
        });
        let detail = "a hostname belongs to one site only".to_owned();
        return Err(AdminRefusal::Conflict(Conflict { detail, errors: errors.collect() }));
    }
    let giving_up = others.into_iter().filter_map(|other| {
        let rest: Vec<HostPattern> = table
            .hostnames(other.as_str())?
            .iter()
            .filter(|name| !hostnames.contains(name))
            .cloned()
            .collect();
        let limits = catalog.site(other.as_str()).map(|site| site.limits).unwrap_or_default();
        let affected = affected(table, other.as_str(), &rest);
        Some(SiteChange { site: other.clone(), hostnames: Some(rest), affected, limits })
    });
    let mut changes: Vec<SiteChange> = giving_up.collect();
    let affected = affected(table, site.as_str(), &hostnames);
    changes.push(SiteChange { site, hostnames: Some(hostnames), affected, limits });
    Ok(changes)
}

fn parse(names: &[String]) -> Result<Vec<HostPattern>, Problem> {
    if names.is_empty() || names.len() > HOSTNAMES_MAX {
        let detail = format!("a site owns 1 to {HOSTNAMES_MAX} hostnames");
        return Err(Problem::of_item(Code::InvalidRequest, ItemError::at("/hostnames", detail)));
    }
    let (mut parsed, mut errors) = (Vec::with_capacity(names.len()), Vec::new());
    for (index, name) in names.iter().enumerate() {
        let pointer = format!("/hostnames/{index}");
        match name.parse::<HostPattern>() {
            Ok(pattern) if parsed.contains(&pattern) => {
                errors.push(ItemError::at(pointer, "given more than once").with_value(name));
            }
            Ok(pattern) => parsed.push(pattern),
            Err(error) => errors.push(ItemError::at(pointer, error.rule).with_value(name)),
        }
    }
    if errors.is_empty() { Ok(parsed) } else { Err(Problem::of_items(Code::InvalidRequest, errors)) }
}

fn invalid(pointer: &str, value: &str, error: &batoff_types::InvalidName) -> Problem {
    Problem::of_item(Code::InvalidRequest, ItemError::at(pointer, error.rule).with_value(value))
}

fn request_id(parts: &http::request::Parts) -> &str {
    parts.extensions.get::<RequestId>().map_or("admin", RequestId::as_str)
}

impl LimitsDocument {
    fn check(self) -> Result<SiteLimits, Problem> {
        for (pointer, quota) in [
            ("/limits/items_per_minute", self.items_per_minute),
            ("/limits/prefixes_per_minute", self.prefixes_per_minute),
        ] {
            if quota.is_some_and(|quota| !(1..=QUOTA_MAX).contains(&quota)) {
                let error = ItemError::at(pointer, format!("must be 1 to {QUOTA_MAX}"));
                return Err(Problem::of_item(Code::InvalidRequest, error));
            }
        }
        const TAGS: std::ops::RangeInclusive<u32> = 1..=TAGS_PER_RESPONSE_LIMIT as u32;
        if self.tags_per_response.is_some_and(|most| !TAGS.contains(&most)) {
            let error =
                ItemError::at("/limits/tags_per_response", format!("must be 1 to {TAGS_PER_RESPONSE_LIMIT}"));
            return Err(Problem::of_item(Code::InvalidRequest, error));
        }
        let Self { items_per_minute, prefixes_per_minute, tags_per_response } = self;
        Ok(SiteLimits { items_per_minute, prefixes_per_minute, tags_per_response })
    }
}

impl SiteDocument {
    fn new(site: Site, overflow: TagOverflow) -> Self {
        let SiteLimits { items_per_minute, prefixes_per_minute, tags_per_response } = site.limits;
        Self {
            site_id: site.id.to_string(),
            hostnames: site.hostnames.iter().map(ToString::to_string).collect(),
            limits: LimitsDocument { items_per_minute, prefixes_per_minute, tags_per_response },
            tag_overflow: OverflowDocument {
                objects: overflow.objects,
                nodes: overflow.nodes,
                last_at: overflow.last_at.map(rfc3339),
            },
        }
    }
}
