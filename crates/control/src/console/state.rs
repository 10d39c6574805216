//! What the console keeps for itself, beside the [`Services`] that it answers from.

use std::net::SocketAddr;
use std::sync::Arc;

use batoff_program::gate::{Gate, Limits};
use batoff_types::SiteId;
use http::HeaderValue;

use super::live::Live;
use super::sign_on::SignOnProxy;
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
    /// How browsers come to it.
    pub door: ConsoleDoor,
    /// The content security policy of every page.
    pub policy: HeaderValue,
    /// The way of a purge into the log, with the quotas that are the sites', whoever asks.
    pub api: Arc<Api>,
    /// What is told as it happens.
    pub live: Arc<Live>,
    /// The open event streams, by account.
    pub streams: Arc<Gate<AccountName>>,
}

/// How browsers come to the console, and programs to the API that its pages tell of.
#[derive(Clone, Debug)]
pub struct ConsoleDoor {
    /// Whether browsers reach it over TLS, ours or a proxy's, as the name of the session's cookie says.
    pub is_secure: bool,
    /// Where the API listens.
    pub api: SocketAddr,
    /// Who signs people in in front of it.
    pub sign_on: Option<SignOnProxy>,
}

impl Console {
    /// Of a control plane.
    pub fn new(api: Arc<Api>, sections: Vec<NavSection>, door: ConsoleDoor) -> Self {
        Self {
            services: Arc::clone(&api.services),
            sections,
            policy: policy(&door),
            door,
            api,
            live: Arc::default(),
            streams: Gate::new("console streams", STREAMS),
        }
    }

    /// Where the purge API is, as somebody who copies a line from a page needs it: at `api.public_url`, or where it listens.
    pub fn api_url(&self) -> String {
        let api = &self.services.config.api;
        let listens = || {
            let scheme = if api.cert.is_some() { "https" } else { "http" };
            format!("{scheme}://{}", self.door.api)
        };
        let base = api.public_url.clone().unwrap_or_else(listens);
        format!("{}{}", base.trim_end_matches('/'), api.public_prefix)
    }

    /// Whether [`Self::api_url`] is an address that nobody reaches as it is: that of a listener on all of a machine's.
    pub fn is_api_url_unknown(&self) -> bool {
        self.services.config.api.public_url.is_none() && self.door.api.ip().is_unspecified()
    }

    /// The sites that this viewer may do that with, by name.
    pub fn sites_of(&self, viewer: Option<&Viewer>, need: Need) -> Vec<SiteId> {
        let Some(viewer) = viewer else { return Vec::new() };
        let table = self.services.catalog.table();
        table.iter().map(|(site, _)| site).filter(|site| viewer.may(need, Some(site))).cloned().collect()
    }
}

/// Nothing but what we serve ourselves, no script and no style in a page, and no page of ours in somebody else's. (A form
/// that signs out may be led on to the proxy.)
fn policy(door: &ConsoleDoor) -> HeaderValue {
    let sign_out = door.sign_on.as_ref().and_then(|proxy| proxy.sign_out_origin()).unwrap_or_default();
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'\
         {}{sign_out}; base-uri 'none'; frame-ancestors 'none'",
        if sign_out.is_empty() { "" } else { " " }
    );
    // The configuration takes no address with other characters; without a policy nothing is allowed.
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}
