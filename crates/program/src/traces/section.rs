//! What an operator may set of traces.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::Deserialize;

use crate::config::ConfigError;

/// `[traces]`: to which collector spans of traced purges go. Off unless there is an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TracesSection {
    /// Where the collector takes OTLP over gRPC: `http://host:4317`, or `https://host:4317` with `ca`. Not set: nothing is
    /// traced.
    pub endpoint: Option<String>,
    /// The authorities that may have signed the collector's certificate (PEM).
    pub ca: Option<PathBuf>,
    /// A file with headers that go with each request, one a line as `name: value`, such as a token that the collector wants.
    /// A file that everybody may read is refused, and so is sending what stands in it over a network without TLS.
    pub headers_file: Option<PathBuf>,
    /// What this program is called there (`service.name`). Not set: the program's own name.
    pub service: Option<String>,
    /// What else is said of it, as `key=value`, such as `deployment.environment.name=production`.
    pub attributes: Vec<String>,
}

impl TracesSection {
    /// Checks what can be said without looking at a file.
    ///
    /// # Errors
    /// The key, the rule and the remedy.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let invalid =
            |key: &str, problem: String| Err(ConfigError::invalid(format!("traces.{key}"), problem));
        let Some(endpoint) = &self.endpoint else {
            let idle = [
                ("ca", self.ca.is_some()),
                ("headers_file", self.headers_file.is_some()),
                ("service", self.service.is_some()),
                ("attributes", !self.attributes.is_empty()),
            ];
            return match idle.into_iter().find(|(_, is_set)| *is_set) {
                Some((key, _)) => invalid(key, NO_ENDPOINT.to_owned()),
                None => Ok(()),
            };
        };
        match place_of(endpoint) {
            Some(("https", _)) if self.ca.is_none() => {
                return invalid(
                    "ca",
                    format!(
                        "missing for {endpoint:?}; name the authority's certificate, or the system's bundle, such as \
                         /etc/ssl/certs/ca-certificates.crt"
                    ),
                );
            }
            Some(("http", _)) if self.ca.is_some() => {
                return invalid("ca", format!("says nothing for {endpoint:?}; write https:// or drop it"));
            }
            Some(("http", host)) if self.headers_file.is_some() && !is_this_machine(host) => {
                return invalid(
                    "headers_file",
                    format!(
                        "a token would go to {endpoint:?} for everybody on the way to read; write https:// and name `ca`"
                    ),
                );
            }
            Some(_) => {}
            None => {
                return invalid(
                    "endpoint",
                    format!(
                        "{endpoint:?} is not where a collector listens; write http://host:4317 or https://host:4317"
                    ),
                );
            }
        }
        if self.service.as_deref() == Some("") {
            return invalid("service", "is empty; name the program, or drop it".to_owned());
        }
        self.pairs().map(drop)
    }

    /// The attributes, taken apart.
    ///
    /// # Errors
    /// One of them has no key.
    pub fn pairs(&self) -> Result<Vec<(&str, &str)>, ConfigError> {
        let pair = |text| match str::split_once(text, '=') {
            Some((key, value)) if !key.trim().is_empty() => Ok((key.trim(), value.trim())),
            _ => {
                let problem = format!("{text:?} is no attribute; write key=value");
                Err(ConfigError::invalid("traces.attributes", problem))
            }
        };
        self.attributes.iter().map(String::as_str).map(pair).collect()
    }

    /// For people: where spans go.
    pub fn described(&self) -> String {
        let Some(endpoint) = &self.endpoint else { return "off".to_owned() };
        let files = [&self.ca, &self.headers_file].into_iter().flatten();
        files.fold(endpoint.clone(), |told, file| format!("{told}, with {}", file.display()))
    }
}

/// Why a key beside `endpoint` is refused.
pub const NO_ENDPOINT: &str = "says nothing without traces.endpoint; name the collector, or drop it";

/// Scheme and host of an endpoint that is scheme, host and port.
fn place_of(endpoint: &str) -> Option<(&str, &str)> {
    let (scheme, rest) =
        endpoint.split_once("://").filter(|(scheme, _)| ["http", "https"].contains(scheme))?;
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = authority.rsplit_once(':')?;
    let is_host =
        !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._[]:".contains(&b));
    (is_host && port.parse::<u16>().is_ok_and(|port| port > 0)).then_some((scheme, host))
}

/// Whether what is sent there stays on this machine.
fn is_this_machine(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(text: &str) -> TracesSection {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn nothing_is_traced_unless_there_is_an_endpoint() {
        assert_eq!(section("").validate().map_err(|error| error.to_string()), Ok(()));
        assert_eq!(section("").described(), "off");
        for text in ["ca = \"/ca.pem\"", "headers_file = \"/h\"", "service = \"x\"", "attributes = [\"a=b\"]"]
        {
            assert!(section(text).validate().unwrap_err().to_string().contains("traces.endpoint"), "{text}");
        }
    }

    #[test]
    fn an_endpoint_is_scheme_host_and_port() {
        let of = |endpoint: &str, ca: &str| section(&format!("endpoint = {endpoint:?}\n{ca}")).validate();
        for endpoint in ["http://collector:4317", "http://127.0.0.1:4317/", "http://[::1]:4317"] {
            assert!(of(endpoint, "").is_ok(), "{endpoint}");
        }
        for endpoint in [
            "",
            "collector:4317",
            "grpc://collector:4317",
            "http://collector",
            "http://:4317",
            "http://a b:1",
        ] {
            assert!(of(endpoint, "").is_err(), "{endpoint}");
        }
        assert!(of("https://collector:4317", "").unwrap_err().to_string().contains("traces.ca"));
        assert!(of("https://collector:4317", "ca = \"/ca.pem\"").is_ok());
        assert!(of("http://collector:4317", "ca = \"/ca.pem\"").is_err());
    }

    #[test]
    fn a_token_goes_over_no_network_without_tls() {
        let of = |endpoint: &str| section(&format!("endpoint = {endpoint:?}\nheaders_file = \"/h\""));
        for endpoint in ["http://127.0.0.1:4317", "http://[::1]:4317", "http://localhost:4317/"] {
            assert!(of(endpoint).validate().is_ok(), "{endpoint}");
        }
        for endpoint in ["http://collector:4317", "http://127.0.0.1.example:4317", "http://10.0.0.1:4317"] {
            let error = of(endpoint).validate().unwrap_err().to_string();
            assert!(error.starts_with("traces.headers_file") && error.contains("https://"), "{error}");
        }
        let section =
            section("endpoint = \"https://collector:4317\"\nca = \"/ca.pem\"\nheaders_file = \"/headers\"");
        assert!(section.validate().is_ok());
        assert_eq!(section.described(), "https://collector:4317, with /ca.pem, with /headers");
    }

    #[test]
    fn an_attribute_is_a_key_and_a_value() {
        let of = |text: &str| section(&format!("endpoint = \"http://c:1\"\nattributes = [{text:?}]"));
        assert_eq!(of("a.b = c=d").pairs().unwrap(), [("a.b", "c=d")]);
        assert!(of("a").validate().is_err() && of("=b").validate().is_err());
    }
}
