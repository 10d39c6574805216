//! What cannot be, alone or beside another key, and what would be right.

use batoff_program::config::{ConfigError, ConfigFile};

use batoff_types::NodeName;

use super::url::{is_base, is_https, is_own_path};
use super::{Config, ConsoleGroup, ConsoleProxyConfig, GroupRole, GrpcConfig, PopPlace};

/// Variables of the `batoff` command that look like ours. Whoever has exported them must still be able to start a control
/// plane from the same shell.
const COMMAND_VARIABLES: [&str; 2] = ["BATOFF_ADMIN_TOKEN", "BATOFF_ADMIN_TOKEN_FILE"];

impl ConfigFile for Config {
    const FOREIGN: &'static [&'static str] = &COMMAND_VARIABLES;

    /// Everything that can be said without touching the machine.
    fn validate(&self) -> Result<(), ConfigError> {
        self.check_api()?;
        self.check_admin()?;
        self.check_console()?;
        self.listeners.validate()?;
        self.store.check()?;
        self.replica.check(self.store.engine)?;
        self.grpc.check()?;
        self.traces.check()?;
        self.lease.times().validate().map_err(|error| invalid("lease", error.to_string()))?;
        self.check_bounds()
    }
}

fn invalid(key: &'static str, problem: impl Into<String>) -> ConfigError {
    ConfigError::invalid(key, problem)
}

impl Config {
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
        if let Some(url) = &api.public_url
            && !is_base(url, &["http", "https"])
        {
            return Err(invalid(
                "api.public_url",
                format!(
                    "{url:?} is not scheme, host and port: write it as \"https://purge.example.net\" (what a gateway takes \
                     away from paths stands in api.public_prefix)"
                ),
            ));
        }
        ConfigError::within("api.clock_skew_seconds", api.clock_skew_seconds, 1, 3_600)
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

    fn check_console(&self) -> Result<(), ConfigError> {
        let console = &self.console;
        if console.cert.is_some() != console.key.is_some() {
            return Err(invalid("console.cert", "cert and key go together; set both or neither"));
        }
        if console.cert.is_none() && !console.listen.ip().is_loopback() && !console.behind_tls_proxy {
            return Err(invalid(
                "console.listen",
                format!(
                    "{} is not loopback and has no TLS: set console.cert and console.key, or console.behind_tls_proxy = \
                     true when a proxy in front ends TLS",
                    console.listen
                ),
            ));
        }
        for (number, place) in console.pops.iter().enumerate() {
            let PopPlace { name, latitude, longitude } = place;
            let wrong = |problem| Err(invalid("console.pops", problem));
            if NodeName::new(name, "edge-1").is_err() {
                return wrong(format!("{name:?} is not the name of a PoP, such as \"fra1\""));
            }
            if console.pops[..number].iter().any(|other| other.name == *name) {
                return wrong(format!("{name} is named twice"));
            }
            if !(-90.0..=90.0).contains(latitude) || !(-180.0..=180.0).contains(longitude) {
                return wrong(format!(
                    "{name} at {latitude}, {longitude} is nowhere: latitude is -90 to 90 degrees north, longitude -180 to \
                     180 degrees east"
                ));
            }
        }
        if let Some(proxy) = &console.proxy {
            if console.cert.is_none() {
                return Err(invalid(
                    "console.proxy",
                    "the proxy is known by its client certificate, so the console speaks TLS itself: set console.cert and \
                     console.key",
                ));
            }
            proxy.check()?;
        }
        ConfigError::within("console.session_idle_minutes", console.session_idle_minutes, 5, 10_080)?;
        ConfigError::within("console.session_hours", console.session_hours, 1, 720)
    }

    fn check_bounds(&self) -> Result<(), ConfigError> {
        let limits = &self.limits;
        ConfigError::within("limits.items_per_minute", u64::from(limits.items_per_minute), 1, 100_000_000)?;
        ConfigError::within(
            "limits.prefixes_per_minute",
            u64::from(limits.prefixes_per_minute),
            1,
            1_000_000,
        )?;
        ConfigError::within(
            "limits.submissions_in_flight",
            limits.submissions_in_flight as u64,
            1,
            1_000_000,
        )?;
        ConfigError::within("limits.live_tasks", limits.live_tasks as u64, 16, 10_000_000)?;
        ConfigError::within("limits.tail_records", limits.tail_records as u64, 16, 10_000_000)?;
        ConfigError::within("limits.tail_bytes", limits.tail_bytes as u64, 4 << 20, 1 << 36)?;
        ConfigError::within("limits.node_connections", limits.node_connections as u64, 1, 1_000_000)?;
        ConfigError::within("limits.event_streams", limits.event_streams as u64, 1, 1_000_000)?;
        ConfigError::within("retention.log_hours", self.retention.log_hours, 1, 24 * 365)?;
        ConfigError::within("retention.log_bytes", self.retention.log_bytes, 1 << 20, 1 << 44)?;
        ConfigError::within("retention.task_days", self.retention.task_days, 1, 3_650)?;
        ConfigError::within("retention.audit_days", self.retention.audit_days, 1, 36_500)?;
        ConfigError::within("retention.audit_bytes", self.retention.audit_bytes, 1 << 20, 1 << 44)?;
        self.log.filter().map(drop)
    }
}

impl ConsoleProxyConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let name = &self.name;
        let is_name = !name.is_empty() && name.len() <= 253 && name.bytes().all(|b| b.is_ascii_graphic());
        if !is_name || name.contains('*') {
            return Err(invalid(
                "console.proxy.name",
                format!(
                    "{name:?} is not one name in a certificate: a DNS name, or a URI such as spiffe://example/proxy"
                ),
            ));
        }
        for (key, header) in [
            ("console.proxy.user_header", &self.user_header),
            ("console.proxy.groups_header", &self.groups_header),
        ] {
            if header.as_str().contains('_') {
                return Err(invalid(
                    key,
                    format!(
                        "{header} has an underscore, which many programs take for a hyphen: name it with hyphens"
                    ),
                ));
            }
            if matches!(header.as_str(), "cookie" | "host" | "origin" | "sec-fetch-site" | "x-forwarded-for")
            {
                return Err(invalid(key, format!("{header} means something else already: take another")));
            }
        }
        if self.user_header == self.groups_header {
            return Err(invalid("console.proxy.groups_header", "is the user's header, too: take two"));
        }
        if self.groups_separator.trim() != self.groups_separator || self.groups_separator.is_empty() {
            return Err(invalid(
                "console.proxy.groups_separator",
                "must be what stands between two groups, without white space around it: \",\", \"|\", \";\"",
            ));
        }
        if let Some(url) = &self.sign_out_url
            && !is_own_path(url)
            && !is_https(url)
        {
            return Err(invalid(
                "console.proxy.sign_out_url",
                format!(
                    "{url:?} is neither a path such as \"/oauth2/sign_out\" nor an address that begins with https://"
                ),
            ));
        }
        if self.groups.is_empty() {
            return Err(invalid(
                "console.proxy.groups",
                "nobody could do anything: name at least one [[console.proxy.groups]] with group and role",
            ));
        }
        self.groups.iter().try_for_each(|group| group.check(&self.groups_separator))
    }
}

impl ConsoleGroup {
    fn check(&self, separator: &str) -> Result<(), ConfigError> {
        let Self { group, role, sites } = self;
        let wrong = |problem| Err(invalid("console.proxy.groups", problem));
        if group.trim() != group || group.is_empty() || group.contains(separator) {
            return wrong(format!(
                "{group:?} is no name of a group: it must be there, without white space around it or {separator:?} in it"
            ));
        }
        match (role, sites.is_empty()) {
            (GroupRole::Operator, false) => {
                wrong(format!("operators are for all sites: name none for group {group:?}"))
            }
            (GroupRole::Operator, true) | (_, false) => Ok(()),
            (_, true) => wrong(format!("name the sites of group {group:?}: sites = [\"shop\"]")),
        }
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
        ConfigError::within("grpc.hello_timeout_ms", self.hello_timeout_ms, 100, 60_000)?;
        ConfigError::within("grpc.keepalive_interval_ms", self.keepalive_interval_ms, 100, 600_000)?;
        ConfigError::within("grpc.keepalive_timeout_ms", self.keepalive_timeout_ms, 100, 600_000)?;
        if self.gather_ms.is_some() {
            return Err(invalid(
                "grpc.gather_ms",
                "there is no such pause any more, records are gathered as the load asks for; remove the key",
            ));
        }
        ConfigError::within("grpc.reconnect_min_ms", self.reconnect_min_ms, 1, 60_000)?;
        ConfigError::within("grpc.reconnect_max_ms", self.reconnect_max_ms, self.reconnect_min_ms, 600_000)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn check(text: &str) -> Result<Config, ConfigError> {
        parse(text, &[])
    }

    const LEAST: &str = "[data]\ndir = \"/tmp/x\"\n[grpc]\nplaintext = true\n";

    fn parse(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::parse(text, environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
    }

    #[test]
    fn the_commands_own_variables_are_left_alone() {
        assert!(
            parse(LEAST, &[("BATOFF_ADMIN_TOKEN", "bto_admin_x"), ("BATOFF_ADMIN_TOKEN_FILE", "/x")]).is_ok()
        );
        assert!(parse(LEAST, &[("BATOFF_ADMIN_TOKENS", "x")]).is_err());
    }

    #[test]
    fn a_variable_overrides_the_file_with_its_type() {
        let config = parse(
            LEAST,
            &[
                ("BATOFF_GRPC_RECONNECT_MIN_MS", "7"),
                ("BATOFF_API_LISTEN", "127.0.0.1:0"),
                ("BATOFF_API_TRUSTED_PROXIES", "10.0.0.1,::1"),
                ("BATOFF_LOG_LEVEL", "debug"),
                ("BATOFF_DATA_DIR", "/srv/batoff"),
                ("BATOFF_LEASE_DRIFT", "0.02"),
            ],
        )
        .unwrap();
        assert_eq!(config.grpc.reconnect_min_ms, 7);
        assert_eq!(config.api.listen.port(), 0);
        assert_eq!(config.api.trusted_proxies.len(), 2);
        assert_eq!(config.log.level, "debug");
        assert_eq!(config.data.dir, Path::new("/srv/batoff"));
        assert!((config.lease.drift - 0.02).abs() < f64::EPSILON);
        assert_eq!(parse(LEAST, &[("BATOFF_DATA_DIR", "2026")]).unwrap().data.dir, Path::new("2026"));
    }

    #[test]
    fn an_unknown_key_is_refused_by_its_name_wherever_it_comes_from() {
        for (text, environment) in [
            (format!("{LEAST}[api]\nlisten_on = \"127.0.0.1:1\"\n"), vec![]),
            (LEAST.to_owned(), vec![("BATOFF_API_LISTEN_ON", "127.0.0.1:1")]),
        ] {
            let error = parse(&text, &environment).unwrap_err().to_string();
            assert!(error.contains("listen_on"), "{error}");
        }
        assert!(parse(&format!("{LEAST}[apy]\n"), &[]).unwrap_err().to_string().contains("apy"));
    }

    #[test]
    fn variables_of_other_programs_are_left_alone() {
        parse(
            LEAST,
            &[("BATOFF_NODE_POP", "fra1"), ("BATOFF_TOKEN", "x"), ("BATOFF_CONTROL_PORT", "tcp://1")],
        )
        .unwrap();
    }

    #[test]
    fn plain_text_is_for_loopback_only() {
        for (text, key) in [
            ("[data]\ndir='d'\n[grpc]\nplaintext=true\nlisten='0.0.0.0:1'", "grpc.plaintext"),
            ("[data]\ndir='d'\n[grpc]\nplaintext=true\n[api]\nlisten='0.0.0.0:1'", "api.listen"),
            ("[data]\ndir='d'\n[grpc]\nplaintext=true\n[admin]\nlisten='0.0.0.0:1'", "admin.listen"),
            ("[data]\ndir='d'\n[grpc]\nplaintext=true\n[console]\nlisten='0.0.0.0:1'", "console.listen"),
            ("[data]\ndir='d'\n[grpc]\nplaintext=true\n[console]\ncert='a'", "console.cert"),
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
    fn a_public_url_is_scheme_host_and_port() {
        let with =
            |url: &str| check(&format!("[data]\ndir='d'\n[grpc]\nplaintext=true\n[api]\npublic_url='{url}'"));
        for url in ["https://purge.example.net", "http://[::1]:8080", "https://purge.example.net:8443/"] {
            assert!(with(url).is_ok(), "{url}");
        }
        for url in [
            "",
            "purge.example.net",
            "ftp://a",
            "https://",
            "https://a/b",
            "https://u@a",
            "https://a?b",
            "//a",
        ] {
            let error = with(url).unwrap_err().to_string();
            assert!(
                error.starts_with("api.public_url") && error.contains("api.public_prefix"),
                "{url}: {error}"
            );
        }
    }

    #[test]
    fn a_pop_is_somewhere_on_earth_and_in_one_place() {
        let with =
            |pops: &str| check(&format!("[data]\ndir='d'\n[grpc]\nplaintext=true\n[console]\npops=[{pops}]"));
        let fra1 = "{name='fra1', latitude=50.1, longitude=8.7}";
        let config = with(&format!("{fra1}, {{name='jnb1', latitude=-26, longitude=28.0}}")).unwrap();
        assert_eq!(config.console.pops.len(), 2);
        for (pops, words) in [
            (format!("{fra1}, {fra1}"), "fra1 is named twice"),
            ("{name='a b', latitude=0, longitude=0}".to_owned(), "is not the name of a PoP"),
            ("{name='a', latitude=91, longitude=0}".to_owned(), "a at 91, 0 is nowhere"),
            ("{name='a', latitude=0, longitude=nan}".to_owned(), "is nowhere"),
            ("{name='a', latitude=0}".to_owned(), "longitude"),
        ] {
            let error = with(&pops).unwrap_err().to_string();
            assert!(error.contains("console.pops") && error.contains(words), "{pops}: {error}");
        }
    }

    /// With these lines in `[console.proxy]`, over what it needs.
    fn check_proxy(lines: &str) -> Result<Config, ConfigError> {
        check(&format!(
            "[data]\ndir='d'\n[grpc]\nplaintext=true\n[console]\ncert='c'\nkey='k'\n[console.proxy]\nca='a'\n{lines}"
        ))
    }

    #[test]
    fn a_proxy_is_named_and_its_groups_are_told_what_they_may() {
        let groups = "groups=[{group='ops', role='operator'}, {group='web', role='manager', sites=['shop']}]";
        let config = check_proxy(&format!("name='sso.example.net'\n{groups}")).unwrap();
        let proxy = config.console.proxy.unwrap();
        assert_eq!(
            (proxy.user_header.as_str(), proxy.groups_header.as_str()),
            ("x-forwarded-user", "x-forwarded-groups")
        );
        assert_eq!((proxy.groups[1].role, proxy.required), (GroupRole::Manager, false));
        for url in ["/oauth2/sign_out", "https://sso.example.net/out?rd=/a", "https://sso.example.net"] {
            check_proxy(&format!("name='s'\n{groups}\nsign_out_url='{url}'")).unwrap();
        }
        for (lines, key) in [
            (format!("name=''\n{groups}"), "console.proxy.name"),
            (format!("name='*.example.net'\n{groups}"), "console.proxy.name"),
            (format!("name='s'\n{groups}\nuser_header='X_User'"), "console.proxy.user_header"),
            (format!("name='s'\n{groups}\nuser_header='Cookie'"), "console.proxy.user_header"),
            (
                format!("name='s'\n{groups}\nuser_header='X-A'\ngroups_header='x-a'"),
                "console.proxy.groups_header",
            ),
            (format!("name='s'\n{groups}\ngroups_separator=' '"), "console.proxy.groups_separator"),
            (format!("name='s'\n{groups}\nsign_out_url='//evil'"), "console.proxy.sign_out_url"),
            (
                format!("name='s'\n{groups}\nsign_out_url='https://a;script-src'"),
                "console.proxy.sign_out_url",
            ),
            (format!("name='s'\n{groups}\nsign_out_url='http://a/'"), "console.proxy.sign_out_url"),
            ("name='s'\ngroups=[]".to_owned(), "console.proxy.groups"),
            ("name='s'\ngroups=[{group='a,b', role='operator'}]".to_owned(), "console.proxy.groups"),
            (
                "name='s'\ngroups=[{group='a', role='operator', sites=['x']}]".to_owned(),
                "console.proxy.groups",
            ),
            ("name='s'\ngroups=[{group='a', role='viewer'}]".to_owned(), "console.proxy.groups"),
        ] {
            let error = check_proxy(&lines).unwrap_err().to_string();
            assert!(error.starts_with(key), "{lines}: {error}");
        }
        for (lines, words) in [
            ("name='s'\ngroups=[{group='a', role='root'}]", "root"),
            ("name='s'\ngroups=[{group='a', role='viewer', sites=['a b']}]", "a b"),
            (
                "name='s'\ngroups=[{group='a', role='operator'}]\nuser_header='a b'",
                "console.proxy.user_header",
            ),
            ("groups=[{group='a', role='operator'}]", "name"),
            ("name='s'\ngroups=[{group='a', role='operator'}]\nuser='a'", "user_header"),
        ] {
            let error = check_proxy(lines).unwrap_err().to_string();
            assert!(error.contains(words), "{lines}: {error}");
        }
        let plain = "[data]\ndir='d'\n[grpc]\nplaintext=true\n[console]\nbehind_tls_proxy=true\n[console.proxy]\nca='a'\n";
        let error = check(&format!("{plain}name='s'\n{groups}")).unwrap_err().to_string();
        assert!(error.starts_with("console.proxy: ") && error.contains("console.cert"), "{error}");
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
        let error = check("[data]\ndir='d'\n[grpc]\nplaintext=true\nhello_timeout_ms=51").unwrap_err();
        assert_eq!(error.to_string(), "grpc.hello_timeout_ms: 51 is outside 100 to 60000");
    }

    #[test]
    fn a_key_that_is_no_more_is_refused_with_what_to_do() {
        let error = check("[data]\ndir='d'\n[grpc]\nplaintext=true\ngather_ms=5").unwrap_err().to_string();
        assert!(error.starts_with("grpc.gather_ms") && error.ends_with("remove the key"), "{error}");
    }
}
