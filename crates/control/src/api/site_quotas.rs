//! The sites' quotas, whoever else spends from them.

use std::sync::Arc;

use batoff_types::SiteId;

use super::items::Cost;
use super::quota::{Quotas, Rates, Remaining};
use super::slices::{NotTaken, Slices};
use crate::clock::Clock;
use crate::service::Services;

/// All sites' buckets.
pub struct SiteQuotas {
    clock: Clock,
    of: Spenders,
}

enum Spenders {
    /// Nobody but this control plane: they are in memory, and a start begins with full ones.
    Alone(Quotas),
    /// All that share the store.
    Several(Slices),
}

impl SiteQuotas {
    /// As many spend from them as share the store.
    pub fn new(services: &Services) -> Self {
        let clock = services.clock.clone();
        let of = match services.store.is_shared() {
            true => Spenders::Several(Slices::new(Arc::clone(&services.store), clock.clone())),
            false => Spenders::Alone(Quotas::default()),
        };
        Self { clock, of }
    }

    /// Takes what a request costs from both buckets, or nothing; `None` when the store must be
    /// [asked](SiteQuotas::take_slice).
    pub fn take(&self, site: &SiteId, rates: Rates, cost: Cost) -> Option<Result<(), NotTaken>> {
        match &self.of {
            Spenders::Alone(quotas) => {
                Some(quotas.take(self.clock.now(), site, rates, cost).map_err(NotTaken::Short))
            }
            Spenders::Several(slices) => slices.take_held(site, cost).then_some(Ok(())),
        }
    }

    /// The same, and asks the store.
    ///
    /// # Errors
    /// It does not suffice, or the store does not say.
    pub async fn take_slice(&self, site: &SiteId, rates: Rates, cost: Cost) -> Result<(), NotTaken> {
        match &self.of {
            Spenders::Alone(quotas) => {
                quotas.take(self.clock.now(), site, rates, cost).map_err(NotTaken::Short)
            }
            Spenders::Several(slices) => slices.take(site, rates, cost).await,
        }
    }

    /// Gives back what a request took that was not accepted after all.
    pub fn give_back(&self, site: &SiteId, cost: Cost) {
        match &self.of {
            Spenders::Alone(quotas) => quotas.give_back(site, cost),
            Spenders::Several(slices) => slices.give_back(site, cost),
        }
    }

    /// How the site stands now, as far as it is known here.
    pub fn remaining(&self, site: &SiteId, rates: Rates) -> Remaining {
        match &self.of {
            Spenders::Alone(quotas) => quotas.remaining(self.clock.now(), site, rates),
            Spenders::Several(slices) => slices.remaining(site, rates),
        }
    }
}
