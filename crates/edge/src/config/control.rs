use std::net::IpAddr;
use std::path::PathBuf;

use batoff_program::config::ConfigError;
use serde::Deserialize;

/// `[control]`: how the control plane is reached.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControlSection {
    /// `https://host:port`, where to begin: one control plane is enough, since each names the others. Those are stored, and the
    /// node comes back to these when none of them answers.
    pub endpoints: Vec<String>,
    /// The authority that signed the control plane's certificate (PEM).
    pub ca: Option<PathBuf>,
    /// This node's certificate chain (PEM).
    pub cert: Option<PathBuf>,
    /// Its private key (PEM).
    pub key: Option<PathBuf>,
    /// The name that the control plane's certificate must carry; the endpoint's host when absent.
    pub server_name: Option<String>,
    /// Speak without TLS. Loopback only.
    #[serde(default)]
    pub plaintext: bool,
}

/// An endpoint that passed the rules of its section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(http::Uri);

impl Endpoint {
    /// The endpoint as a URI with scheme and authority.
    pub const fn uri(&self) -> &http::Uri {
        &self.0
    }

    #[cfg(test)]
    pub(crate) fn unchecked(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }
}

impl ControlSection {
    /// The endpoints, checked; at least one.
    pub fn endpoints(&self) -> Result<Vec<Endpoint>, ConfigError> {
        if self.endpoints.is_empty() {
            return Err(ConfigError::invalid("control.endpoints", "name at least one endpoint"));
        }
        self.endpoints.iter().map(|text| self.endpoint(text)).collect()
    }

    /// Checks one endpoint against the rules of this section: TLS, or plaintext on loopback when that was asked for.
    pub fn endpoint(&self, text: &str) -> Result<Endpoint, ConfigError> {
        let invalid = |rule: &str| ConfigError::invalid("control.endpoints", format!("{text:?} {rule}"));
        let uri: http::Uri = text.parse().map_err(|_| invalid("is not a URI"))?;
        let host = uri.host().ok_or_else(|| invalid("has no host"))?;
        match (uri.scheme_str(), self.plaintext) {
            (Some("https"), false) => {}
            (Some("http"), true) if is_loopback(host) => {}
            (Some("http"), true) => {
                return Err(invalid(
                    "is not on loopback; plaintext is allowed there only, use https and certificates",
                ));
            }
            (Some("https"), true) => {
                return Err(invalid("is https, but `plaintext = true`; drop one of the two"));
            }
            _ => return Err(invalid("must begin with https:// (or, with `plaintext = true`, http://)")),
        }
        Ok(Endpoint(uri))
    }

    /// Checks what types cannot say: endpoints, and certificates unless plaintext was asked for.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.endpoints()?;
        if self.plaintext {
            return Ok(());
        }
        for (key, file) in
            [("control.ca", &self.ca), ("control.cert", &self.cert), ("control.key", &self.key)]
        {
            if file.is_none() {
                return Err(ConfigError::invalid(key, "missing; nodes authenticate with certificates"));
            }
        }
        Ok(())
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
