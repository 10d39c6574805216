//! What the console keeps for itself, beside the [`Services`] that it answers from.

use std::sync::Arc;

use batoff_types::SiteId;

use super::words::Text;
use crate::accounts::{Need, Viewer};
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

/// Shared by all requests.
pub struct Console {
    /// The control plane.
    pub services: Arc<Services>,
    /// Where navigation leads, in its order.
    pub sections: Vec<NavSection>,
    /// Whether browsers reach it over TLS, as the name of the session's cookie says.
    pub is_secure: bool,
}

impl Console {
    /// Of a control plane.
    pub fn new(services: Arc<Services>, sections: Vec<NavSection>, is_secure: bool) -> Self {
        Self { services, sections, is_secure }
    }

    /// The sites that this viewer may do that with, by name.
    pub fn sites_of(&self, viewer: Option<&Viewer>, need: Need) -> Vec<SiteId> {
        let Some(viewer) = viewer else { return Vec::new() };
        let table = self.services.catalog.table();
        table.iter().map(|(site, _)| site).filter(|site| viewer.may(need, Some(site))).cloned().collect()
    }
}
