//! Which purges are traced, and where that is told.

use std::path::PathBuf;

use batoff_program::config::ConfigError;
use batoff_program::traces::{Exporter, NO_ENDPOINT, Traces, TracesSection};
use batoff_types::Replica;
use serde::Deserialize;

/// The share of purges that are traced where the operator says nothing.
const RATIO: f64 = 0.01;

/// The most purges a minute that callers can have traced.
const CALLERS_PER_MINUTE_MAX: u64 = 6_000;

/// `[traces]`: off unless there is an endpoint. What is traced is decided here, for all nodes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TracesConfig {
    /// Where the collector takes OTLP over gRPC: `http://host:4317`, or `https://host:4317` with `ca`. Not set: nothing is
    /// traced.
    pub endpoint: Option<String>,
    /// The authorities that may have signed the collector's certificate (PEM).
    pub ca: Option<PathBuf>,
    /// A file with headers that go with each request, one a line as `name: value`, such as a token that the collector wants.
    /// A file that everybody may read is refused, and so is sending what stands in it over a network without TLS.
    pub headers_file: Option<PathBuf>,
    /// What this program is called there (`service.name`). Not set: `batoff-control`.
    pub service: Option<String>,
    /// What else is said of it, as `key=value`, such as `deployment.environment.name=production`.
    pub attributes: Vec<String>,
    /// The share of purges that are traced, 0 to 1, drawn by lot. Not set: 0.01.
    pub ratio: Option<f64>,
    /// Besides, purges whose caller says in `traceparent` that it records the trace: so many a minute at most, of all callers
    /// together. Not set: 0, then callers have no say in it.
    pub callers_per_minute: Option<u32>,
}

impl TracesConfig {
    /// The share of purges that are traced, 0 to 1.
    pub fn ratio(&self) -> f64 {
        self.ratio.unwrap_or(RATIO)
    }

    /// How many purges a minute callers can have traced.
    pub fn callers_per_minute(&self) -> u32 {
        self.callers_per_minute.unwrap_or(0)
    }

    /// Where that is told.
    pub fn section(&self) -> TracesSection {
        TracesSection {
            endpoint: self.endpoint.clone(),
            ca: self.ca.clone(),
            headers_file: self.headers_file.clone(),
            service: self.service.clone(),
            attributes: self.attributes.clone(),
        }
    }

    /// What tells the collector, for this replica.
    ///
    /// # Errors
    /// It is not configured well, or a file that it names cannot be used.
    pub fn exporter(&self, replica: Replica) -> Result<(Traces, Exporter), ConfigError> {
        let (program, version) = ("batoff-control", env!("CARGO_PKG_VERSION"));
        Exporter::prepare(&self.section(), program, version, &format!("replica-{}", replica.0))
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.section().validate()?;
        let idle =
            [("ratio", self.ratio.is_some()), ("callers_per_minute", self.callers_per_minute.is_some())];
        if let (None, Some((key, _))) = (&self.endpoint, idle.into_iter().find(|(_, is_set)| *is_set)) {
            return Err(ConfigError::invalid(format!("traces.{key}"), NO_ENDPOINT));
        }
        if !(0.0..=1.0).contains(&self.ratio()) {
            let problem = format!("{} is no share; write a number from 0 to 1", self.ratio());
            return Err(ConfigError::invalid("traces.ratio", problem));
        }
        let callers = u64::from(self.callers_per_minute());
        ConfigError::within("traces.callers_per_minute", callers, 0, CALLERS_PER_MINUTE_MAX)
    }

    /// For people.
    pub fn described(&self) -> String {
        let to = self.section().described();
        match (&self.endpoint, self.callers_per_minute()) {
            (None, _) => to,
            (Some(_), 0) => format!("{} of all purges, to {to}", self.ratio()),
            (Some(_), callers) => {
                format!("{} of all purges, and {callers} a minute of callers' choice, to {to}", self.ratio())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn check(text: &str) -> Result<(), String> {
        let text = format!("[data]\ndir = \"data\"\n[grpc]\nplaintext = true\n[traces]\n{text}");
        Config::parse(&text, []).map(drop).map_err(|error| error.to_string())
    }

    #[test]
    fn what_would_be_ignored_or_is_no_share_is_refused() {
        assert_eq!(check(""), Ok(()));
        let on = "endpoint = \"http://collector:4317\"\n";
        for rest in ["", "ratio = 0.0", "ratio = 1.0", "callers_per_minute = 60"] {
            assert_eq!(check(&format!("{on}{rest}")), Ok(()), "{rest}");
        }
        for (text, key) in [
            ("ratio = 0.5".to_owned(), "traces.ratio"),
            ("callers_per_minute = 1".to_owned(), "traces.callers_per_minute"),
            (format!("{on}ratio = 1.5"), "traces.ratio"),
            (format!("{on}ratio = -0.1"), "traces.ratio"),
            (format!("{on}ratio = nan"), "traces.ratio"),
            (format!("{on}callers_per_minute = 6001"), "traces.callers_per_minute"),
        ] {
            assert!(check(&text).unwrap_err().starts_with(key), "{text}");
        }
    }
}
