use std::path::Path;

use batoff_edge::config::OnLeaseLost;
use batoff_program::config::{ConfigError, load_str};
use batoff_program::logs::Format;

use super::EdgeConfig;

const MINIMAL: &str = r#"
[node]
pop = "fra1"
node = "edge-1"
[control]
endpoints = ["http://127.0.0.1:7443"]
plaintext = true
[state]
dir = "/var/lib/batoff-edge"
[caches]
none = true
"#;

fn check(text: &str, environment: &[(&str, &str)]) -> Result<EdgeConfig, ConfigError> {
    let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    load_str(text, Path::new("edge.toml"), environment)
}

fn refusal(text: &str, environment: &[(&str, &str)]) -> String {
    check(text, environment).unwrap_err().to_string()
}

#[test]
fn a_minimal_file_is_enough() {
    let config = check(MINIMAL, &[]).unwrap();
    assert_eq!(config.node.name().unwrap().to_string(), "fra1/edge-1");
    assert_eq!(config.lease.on_lease_lost, OnLeaseLost::Serve);
    assert_eq!(config.metrics.listen.to_string(), "127.0.0.1:9465");
    assert_eq!(config.log.level, "info");
}

#[test]
fn the_environment_overrides_the_file() {
    let config = check(
        MINIMAL,
        &[
            ("BATOFF_NODE_NODE", "7"),
            ("BATOFF_LOG_FORMAT", "json"),
            ("BATOFF_CONTROL_ENDPOINTS", "http://[::1]:1,http://localhost:2"),
            ("BATOFF_TOKEN", "of another program"),
        ],
    )
    .unwrap();
    assert_eq!(config.node.name().unwrap().to_string(), "fra1/7");
    assert_eq!(config.log.format, Format::Json);
    assert_eq!(config.control.endpoints().unwrap().len(), 2);
}

#[test]
fn an_unknown_key_is_named() {
    assert!(
        refusal(&format!("{MINIMAL}\n[metrics]\nlisten=\"127.0.0.1:0\"\nlisen=\"x\""), &[]).contains("lisen")
    );
    assert!(refusal(&format!("{MINIMAL}\n[cashes]\n"), &[]).contains("cashes"));
    assert!(refusal(MINIMAL, &[("BATOFF_LOG_LEVLE", "info")]).contains("levle"));
}

#[test]
fn plaintext_is_for_loopback_only() {
    let remote = MINIMAL.replace("127.0.0.1", "10.0.0.1");
    assert!(refusal(&remote, &[]).contains("loopback"));
    let secure = MINIMAL.replace("http://", "https://");
    assert!(refusal(&secure, &[]).contains("plaintext"));
    let half = secure.replace("plaintext = true", "ca = \"ca.pem\"");
    assert!(refusal(&half, &[]).contains("control.cert"));
}

#[test]
fn a_daemon_without_any_cache_must_be_meant() {
    let text = MINIMAL.replace("none = true", "");
    assert!(refusal(&text, &[]).contains("batoff-proxy"));
}

#[test]
fn names_follow_their_grammar() {
    assert!(refusal(&MINIMAL.replace("fra1", "Fra 1"), &[]).contains("a-z"));
}

#[test]
fn no_cache_and_a_cache_exclude_each_other() {
    let both = format!("{MINIMAL}\n[caches.nginx]\npath = \"/var/cache/nginx\"\n");
    assert!(refusal(&both, &[]).contains("[caches.nginx]"));
    assert!(check(&both.replace("none = true", ""), &[]).is_ok());
}
