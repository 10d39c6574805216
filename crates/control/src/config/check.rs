use std::path::PathBuf;

use super::{Config, GrpcConfig};

/// The configuration cannot be used. The text names the key and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}; name the file with --config", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML, an unknown key, or a value of the wrong type.
    #[error("{0}")]
    Syntax(String),
    /// A value that cannot be, alone or beside another.
    #[error("{key}: {problem}")]
    Invalid {
        /// Which key, with its section.
        key: &'static str,
        /// What is wrong, and what would be right.
        problem: String,
    },
}

fn invalid(key: &'static str, problem: impl Into<String>) -> ConfigError {
    ConfigError::Invalid { key, problem: problem.into() }
}

impl Config {
    /// Everything that can be said without touching the machine.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.check_api()?;
        self.check_admin()?;
        self.grpc.check()?;
        self.lease.times().validate().map_err(|error| invalid("lease", error.to_string()))?;
        self.check_bounds()
    }

    fn check_api(&self) -> Result<(), ConfigError> {
        let api = &self.api;
        if api.cert.is_some() != api.key.is_some() {
            return Err(invalid("api.cert", "cert and key go together; set both or neither"));
        }
        if api.cert.is_none() && !api.listen.ip().is_loopback() && !api.behind_tls_proxy {
            return Err(invalid(
                "api.listen",
                format!(
                    "{} is not loopback and has no TLS: set api.cert and api.key, or api.behind_tls_proxy = true when \
                     a proxy in front ends TLS",
                    api.listen
                ),
            ));
        }
        let prefix = &api.public_prefix;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~".contains(&b);
        if !prefix.is_empty()
            && (!prefix.starts_with('/') || prefix.ends_with('/') || !prefix.bytes().all(plain))
        {
            return Err(invalid(
                "api.public_prefix",
                format!("{prefix:?} is not the beginning of a path: write it as \"/purge-api\""),
            ));
        }
        within("api.clock_skew_seconds", api.clock_skew_seconds, 1, 3_600)
    }

    fn check_admin(&self) -> Result<(), ConfigError> {
        let admin = &self.admin;
        let parts = [&admin.ca, &admin.cert, &admin.key].into_iter().filter(|part| part.is_some()).count();
        match parts {
            0 if !admin.listen.ip().is_loopback() => Err(invalid(
                "admin.listen",
                format!(
                    "{} is not loopback: set admin.ca, admin.cert and admin.key (mutual TLS)",
                    admin.listen
                ),
            )),
            0 | 3 => Ok(()),
            _ => Err(invalid("admin.cert", "ca, cert and key go together; set all three or none")),
        }
    }

    fn check_bounds(&self) -> Result<(), ConfigError> {
        let limits = &self.limits;
        within("limits.items_per_minute", u64::from(limits.items_per_minute), 1, 100_000_000)?;
        within("limits.prefixes_per_minute", u64::from(limits.prefixes_per_minute), 1, 1_000_000)?;
        within("limits.submissions_in_flight", limits.submissions_in_flight as u64, 1, 1_000_000)?;
        within("limits.live_tasks", limits.live_tasks as u64, 16, 10_000_000)?;
        within("limits.tail_records", limits.tail_records as u64, 16, 10_000_000)?;
        within("limits.tail_bytes", limits.tail_bytes as u64, 4 << 20, 1 << 36)?;
        within("limits.node_connections", limits.node_connections as u64, 1, 1_000_000)?;
        within("limits.event_streams", limits.event_streams as u64, 1, 1_000_000)?;
        within("retention.log_hours", self.retention.log_hours, 1, 24 * 365)?;
        within("retention.log_bytes", self.retention.log_bytes, 1 << 20, 1 << 44)?;
        within("retention.task_days", self.retention.task_days, 1, 3_650)?;
        batoff_program::logs::filter(&self.log.level).map_err(|problem| invalid("log.level", problem))?;
        Ok(())
    }
}

impl GrpcConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let parts = [&self.ca, &self.cert, &self.key].into_iter().filter(|part| part.is_some()).count();
        match (self.plaintext, parts) {
            (true, 0) if !self.listen.ip().is_loopback() => Err(invalid(
                "grpc.plaintext",
                format!(
                    "allowed on loopback only, and {} is not: set grpc.ca, grpc.cert and grpc.key",
                    self.listen
                ),
            )),
            (true, 0) | (false, 3) => Ok(()),
            (true, _) => {
                Err(invalid("grpc.plaintext", "stands beside certificates; remove one or the other"))
            }
            (false, _) => Err(invalid(
                "grpc.cert",
                "nodes connect with mutual TLS: set grpc.ca, grpc.cert and grpc.key (on loopback grpc.plaintext = \
                 true would do)",
            )),
        }?;
        within("grpc.hello_timeout_ms", self.hello_timeout_ms, 100, 60_000)?;
        within("grpc.keepalive_interval_ms", self.keepalive_interval_ms, 100, 600_000)?;
        within("grpc.keepalive_timeout_ms", self.keepalive_timeout_ms, 100, 600_000)?;
        within("grpc.gather_ms", self.gather_ms, 0, 50)?;
        within("grpc.reconnect_min_ms", self.reconnect_min_ms, 1, 60_000)?;
        within("grpc.reconnect_max_ms", self.reconnect_max_ms, self.reconnect_min_ms, 600_000)
    }
}

fn within(key: &'static str, value: u64, min: u64, max: u64) -> Result<(), ConfigError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(invalid(key, format!("{value} is outside {min} to {max}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, std::iter::empty())
    }

    #[test]
    fn plain_text_is_for_loopback_only() {
        for (text, key) in [
            ("[data]\ndir='d'\n[grpc]\nplaintext=true\nlisten='0.0.0.0:1'", "grpc.plaintext"),
            ("[data]\ndir='d'\n[grpc]\nplaintext=true\n[api]\nlisten='0.0.0.0:1'", "api.listen"),
            ("[data]\ndir='d'\n[grpc]\nplaintext=true\n[admin]\nlisten='0.0.0.0:1'", "admin.listen"),
            ("[data]\ndir='d'", "grpc.cert"),
            ("[data]\ndir='d'\n[grpc]\nplaintext=true\nca='a'", "grpc.plaintext"),
            ("[data]\ndir='d'\n[grpc]\nplaintext=true\n[api]\ncert='a'", "api.cert"),
        ] {
            let error = check(text).unwrap_err().to_string();
            assert!(error.starts_with(key), "{text}: {error}");
        }
        check("[data]\ndir='d'\n[grpc]\nplaintext=true\n[api]\nlisten='0.0.0.0:1'\nbehind_tls_proxy=true")
            .unwrap();
        check("[data]\ndir='d'\n[grpc]\nca='a'\ncert='b'\nkey='c'\nlisten='[::]:7443'").unwrap();
    }

    #[test]
    fn a_public_prefix_is_the_beginning_of_a_path() {
        let with = |prefix: &str| {
            check(&format!("[data]\ndir='d'\n[grpc]\nplaintext=true\n[api]\npublic_prefix='{prefix}'"))
        };
        for prefix in ["", "/purge-api", "/a/b.c"] {
            assert!(with(prefix).is_ok(), "{prefix}");
        }
        for prefix in ["purge-api", "/", "/a/", "/a b", "/a?b", "https://x/a"] {
            let error = with(prefix).unwrap_err().to_string();
            assert!(error.starts_with("api.public_prefix") && error.contains("/purge-api"), "{error}");
        }
    }

    #[test]
    fn lease_times_that_break_the_two_seconds_are_refused() {
        let error = check("[data]\ndir='d'\n[grpc]\nplaintext=true\n[lease]\nlease_ms=5000").unwrap_err();
        assert!(error.to_string().starts_with("lease"), "{error}");
    }

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        let with =
            |level: &str| check(&format!("[data]\ndir='d'\n[grpc]\nplaintext=true\n[log]\nlevel='{level}'"));
        for level in ["info", "INFO", "warn,batoff_control=debug", "off", "batoff_control[purge]=trace,info"]
        {
            assert!(with(level).is_ok(), "{level}");
        }
        for level in ["", "loud", "verbose", "info,batoff_control", "batoff_control=loud", "4x"] {
            let error = with(level).unwrap_err().to_string();
            assert!(error.starts_with("log.level"), "{level}: {error}");
        }
    }

    #[test]
    fn values_out_of_bounds_are_named_with_their_bounds() {
        let error = check("[data]\ndir='d'\n[grpc]\nplaintext=true\ngather_ms=51").unwrap_err();
        assert_eq!(error.to_string(), "grpc.gather_ms: 51 is outside 0 to 50");
    }
}
