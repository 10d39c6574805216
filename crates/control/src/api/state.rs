//! What the API keeps for itself, beside the [`Services`] that it answers from.

use std::sync::Arc;

use batoff_program::gate::{Gate, Limits};
use batoff_types::{SiteId, SiteLimits};

use super::auth_failures::AuthFailures;
use super::dry_runs::DryRuns;
use super::quota::Rates;
use super::refusals::Refusals;
use super::replays::Replays;
use super::site_quotas::SiteQuotas;
use super::traced::Sampler;
use crate::catalog::TokenId;
use crate::service::Services;

/// Shared by all requests. Nothing in here is durable: a start begins with full buckets, and repeats of requests that
/// came before it are recognised by the log.
pub struct Api {
    /// The control plane.
    pub services: Arc<Services>,
    /// The sites' buckets.
    pub quotas: SiteQuotas,
    /// The tokens' buckets for dry runs.
    pub dry_runs: DryRuns,
    /// The addresses' buckets.
    pub auth_failures: AuthFailures,
    /// Submissions that were accepted lately.
    pub replays: Replays,
    /// What the audit log is told of purges that changed nothing.
    pub refusals: Refusals,
    /// Which purges are traced.
    pub sampler: Sampler,
    /// The open event streams, by token.
    pub token_streams: Arc<Gate<TokenId>>,
    /// The open event streams, by site.
    pub site_streams: Arc<Gate<SiteId>>,
}

impl Api {
    /// With full buckets.
    pub fn new(services: Arc<Services>) -> Self {
        let total = services.config.limits.event_streams;
        let of_token = Limits { total, each: (total / 32).max(4) };
        Self {
            quotas: SiteQuotas::new(&services),
            dry_runs: DryRuns::default(),
            auth_failures: AuthFailures::default(),
            replays: Replays::default(),
            refusals: Refusals::default(),
            sampler: Sampler::new(&services),
            token_streams: Gate::new("event streams", of_token),
            site_streams: Gate::new("event streams", Limits::of(total)),
            services,
        }
    }

    /// What a gateway in front takes away from paths: links that we give out begin with it.
    pub fn public_prefix(&self) -> &str {
        &self.services.config.api.public_prefix
    }

    /// The rates that hold for a site now; the configured ones for a site that does not exist.
    pub fn rates(&self, site: &SiteId) -> Rates {
        let limits = &self.services.config.limits;
        let configured = SiteLimits {
            items_per_minute: Some(limits.items_per_minute),
            prefixes_per_minute: Some(limits.prefixes_per_minute),
            tags_per_response: None,
        };
        Rates::of(self.services.catalog.limits(site), configured)
    }
}
