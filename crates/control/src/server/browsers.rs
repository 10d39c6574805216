//! What the configuration of the console means for those who sign in.

use std::time::Duration;

use crate::accounts::{Grant, Role, SessionTimes};
use crate::config::{ConsoleConfig, ConsoleGroup, GroupRole};
use crate::console::SignOnProxy;

impl ConsoleConfig {
    /// Who signs people in in front of it.
    pub(super) fn sign_on(&self) -> Option<SignOnProxy> {
        let proxy = self.proxy.as_ref()?;
        let grant = |group: &ConsoleGroup| {
            let role = match group.role {
                GroupRole::Operator => Role::Operator,
                GroupRole::Manager => Role::Manager,
                GroupRole::Member => Role::Member,
                GroupRole::Viewer => Role::Viewer,
            };
            (group.group.clone(), Grant { role, sites: group.sites.clone() })
        };
        Some(SignOnProxy {
            name: if proxy.name.contains("://") {
                proxy.name.clone()
            } else {
                proxy.name.to_ascii_lowercase()
            },
            is_required: proxy.required,
            user_header: proxy.user_header.clone(),
            groups_header: proxy.groups_header.clone(),
            separator: proxy.groups_separator.clone(),
            groups: proxy.groups.iter().map(grant).collect(),
            sign_out: proxy.sign_out_url.clone(),
        })
    }

    /// Whether browsers reach it over TLS, ours or a proxy's.
    pub(super) fn is_secure(&self) -> bool {
        self.cert.is_some() || self.behind_tls_proxy
    }

    /// How long a session lasts.
    pub(super) fn times(&self) -> SessionTimes {
        SessionTimes {
            idle: Duration::from_secs(self.session_idle_minutes * 60),
            absolute: Duration::from_secs(self.session_hours * 60 * 60),
        }
    }
}
