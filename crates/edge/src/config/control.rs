//! How the control plane is reached, and what is asked of it.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use batoff_delivery::PromptFeeds;
use batoff_program::config::ConfigError;
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

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
    /// Of how many control planes the streams bring records at once, when there are several; the others bring what is still
    /// missing after a while. From 1, or `"all"`; 2 when absent.
    #[serde(default)]
    pub feeds: FeedsSetting,
}

/// `feeds`: a number, or `"all"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeedsSetting(pub PromptFeeds);

impl<'de> Deserialize<'de> for FeedsSetting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FeedsVisitor)
    }
}

struct FeedsVisitor;

impl Visitor<'_> for FeedsVisitor {
    type Value = FeedsSetting;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number from 1 to 255, or \"all\"")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<FeedsSetting, E> {
        let count = u8::try_from(number).ok().and_then(PromptFeeds::count);
        let invalid = || E::invalid_value(serde::de::Unexpected::Signed(number), &self);
        count.map(FeedsSetting).ok_or_else(invalid)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<FeedsSetting, E> {
        match i64::try_from(number) {
            Ok(number) => self.visit_i64(number),
            Err(_) => Err(E::invalid_value(serde::de::Unexpected::Unsigned(number), &self)),
        }
    }

    /// Also a number in quotes, as environment variables give it.
    fn visit_str<E: Error>(self, text: &str) -> Result<FeedsSetting, E> {
        let invalid = |_| E::invalid_value(serde::de::Unexpected::Str(text), &self);
        text.parse().map(FeedsSetting).map_err(invalid)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn feeds(line: &str) -> Result<PromptFeeds, String> {
        let text = format!("endpoints = [\"https://a:7443\"]\n{line}");
        let section: Result<ControlSection, _> = toml::from_str(&text);
        section.map(|section| section.feeds.0).map_err(|error| error.to_string())
    }

    #[test]
    fn feeds_are_a_number_or_all() {
        let count = |count| PromptFeeds::count(count).unwrap();
        for (line, expected) in [
            ("", PromptFeeds::default()),
            ("feeds = 2", PromptFeeds::default()),
            ("feeds = 1", count(1)),
            ("feeds = \"3\"", count(3)),
            ("feeds = \"all\"", PromptFeeds::All),
        ] {
            assert_eq!(feeds(line), Ok(expected), "{line}");
        }
        for line in ["feeds = 0", "feeds = -1", "feeds = 256", "feeds = \"some\"", "feeds = true"] {
            let told = feeds(line).unwrap_err();
            assert!(told.contains("a number from 1 to 255, or \"all\""), "{line}: {told}");
        }
    }
}
