//! What the console keeps for itself, beside the [`Services`] that it answers from.

use std::sync::Arc;

use batoff_program::gate::{Gate, Limits};
use batoff_types::SiteId;

use super::live::Live;
use super::words::Text;
use crate::accounts::{AccountName, Need, Viewer};
use crate::api::Api;
use crate::service::Services;

/// A part of the console that navigation leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NavSection {
    /// What it is called.
    pub words: Text,
    /// Where it begins.
    pub path: &'static str,
    /// What a viewer must be allowed to for it to be shown to him; `None` for everybody.
    pub need: Option<Need>,
}

/// Event streams at one time, and of one account: a browser has one.
const STREAMS: Limits = Limits { total: 1_024, each: 16 };

/// Shared by all requests.
pub struct Console {
    /// The control plane.
    pub services: Arc<Services>,
    /// Where navigation leads, in its order.
    pub sections: Vec<NavSection>,
    /// Whether browsers reach it over TLS, as the name of the session's cookie says.
    pub is_secure: bool,
    /// The way of a purge into the log, with the quotas that are the sites', whoever asks.
    pub api: Arc<Api>,
    /// What is told as it happens.
    pub live: Arc<Live>,
    /// The open event streams, by account.
    pub streams: Arc<Gate<AccountName>>,
}

impl Console {
    /// Of a control plane.
    pub fn new(api: Arc<Api>, sections: Vec<NavSection>, is_secure: bool) -> Self {
        Self {
            services: Arc::clone(&api.services),
            sections,
            is_secure,
            api,
            live: Arc::default(),
            streams: Gate::new("console streams", STREAMS),
        }
    }

    /// Where the purge API is, as somebody who copies a line from a page needs it: where it listens, unless it listens
    /// everywhere.
    pub fn api_url(&self) -> String {
        let api = &self.services.config.api;
        let address = api.listen;
        let scheme = if api.cert.is_some() { "https" } else { "http" };
        match address.ip().is_unspecified() || address.port() == 0 {
            true => format!("https://purge.example.net{}", api.public_prefix),
            false => format!("{scheme}://{address}{}", api.public_prefix),
        }
    }

    /// The sites that this viewer may do that with, by name.
    pub fn sites_of(&self, viewer: Option<&Viewer>, need: Need) -> Vec<SiteId> {
        let Some(viewer) = viewer else { return Vec::new() };
        let table = self.services.catalog.table();
        table.iter().map(|(site, _)| site).filter(|site| viewer.may(need, Some(site))).cloned().collect()
    }
}
