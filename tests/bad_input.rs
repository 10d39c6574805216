//! Configurations, directories and ports that cannot work: a clear message that names the thing, the right exit code, and
//! nothing half done.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use batoff_tests::{Dev, DevOptions, Program, eventually, scratch};
use serde_json::json;

const USAGE: i32 = 64;
const TEMPORARY: i32 = 75;

/// Runs a program to its end and looks at its exit code and its words.
fn refused(dir: &Path, name: &str, args: &[&str], code: i32, words: &[&str]) {
    let output = Program::run(name, args, dir);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{name} {args:?}:\n{said}");
    for word in words {
        assert!(said.contains(word), "{name} {args:?} does not say {word:?}:\n{said}");
    }
    assert!(!said.contains("panicked"), "{name} {args:?}:\n{said}");
}

/// A control plane's configuration with everything on free ports, and `extra` at its end.
fn control_config(dir: &Path, extra: &str) -> String {
    let data = dir.join("data");
    if !data.exists() {
        let output = Program::run("batoff-control", &["init", "--data-dir", data.to_str().unwrap()], dir);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let path = dir.join("control.toml");
    let text = format!(
        "[data]\ndir = {data:?}\n[admin]\nlisten = \"127.0.0.1:0\"\n[console]\nlisten = \"127.0.0.1:0\"\n[metrics]\nlisten = \"127.0.0.1:0\"\n\
         [grpc]\nlisten = \"127.0.0.1:0\"\nplaintext = true\n{extra}\n"
    );
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A proxy's configuration, and `extra` at its end.
fn proxy_config(dir: &Path, extra: &str) -> String {
    let path = dir.join("proxy.toml");
    let text = format!(
        "[node]\npop = \"fra1\"\nnode = \"edge-1\"\n[control]\nendpoints = [\"http://127.0.0.1:1\"]\nplaintext = true\n\
         [state]\ndir = {:?}\n[metrics]\nlisten = \"127.0.0.1:0\"\n[proxy]\norigin = \"http://127.0.0.1:1\"\n{extra}\n",
        dir.join("state")
    );
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_wrong_key_is_named_and_nothing_starts() {
    let dir = scratch();
    let dir = dir.path();
    let config = control_config(dir, "[api]\nlisten = \"127.0.0.1:0\"\nlissten = 1");
    refused(dir, "batoff-control", &["--config", &config, "--check"], USAGE, &["lissten"]);
    let config = proxy_config(dir, "listen = \"127.0.0.1:0\"\nmemory_byte = 1");
    refused(dir, "batoff-proxy", &["--config", &config, "--check"], USAGE, &["memory_byte"]);
    refused(dir, "batoff-control", &["--config", "/nowhere/control.toml"], USAGE, &["/nowhere/control.toml"]);
    refused(dir, "batoff-proxy", &["--config", "/nowhere/proxy.toml"], USAGE, &["/nowhere/proxy.toml"]);
    refused(dir, "batoff-edge", &["--config", "/nowhere/edge.toml"], USAGE, &["/nowhere/edge.toml"]);
    refused(dir, "batoff-control", &["--no-such-flag"], USAGE, &["--no-such-flag"]);
    refused(dir, "batoff", &["purge", "--no-such-flag"], USAGE, &["--no-such-flag"]);
}

#[test]
fn values_that_break_a_rule_are_refused_with_the_rule() {
    let dir = scratch();
    let dir = dir.path();
    let control = |extra: &str, words: &[&str]| {
        let config = control_config(dir, extra);
        refused(dir, "batoff-control", &["--config", &config, "--check"], USAGE, words);
    };
    control("[lease]\nheartbeat_ms = 400", &["heartbeat"]);
    control("[lease]\nlease_ms = 1500\ngrace_ms = 700", &["2"]);
    control("[api]\nlisten = \"0.0.0.0:0\"", &["behind_tls_proxy"]);
    let config = control_config(dir, "").replace("control.toml", "plain.toml");
    let text = fs::read_to_string(dir.join("control.toml")).unwrap();
    fs::write(
        &config,
        text.replace("listen = \"127.0.0.1:0\"\nplaintext", "listen = \"0.0.0.0:0\"\nplaintext"),
    )
    .unwrap();
    refused(dir, "batoff-control", &["--config", &config, "--check"], USAGE, &["loopback"]);

    let config = proxy_config(dir, "listen = \"127.0.0.1:0\"").replace("proxy.toml", "far.toml");
    let text = fs::read_to_string(dir.join("proxy.toml")).unwrap();
    fs::write(&config, text.replace("http://127.0.0.1:1\"]", "http://192.0.2.1:1\"]")).unwrap();
    refused(dir, "batoff-proxy", &["--config", &config, "--check"], USAGE, &["192.0.2.1", "loopback"]);
}

#[test]
fn the_examples_in_deploy_are_accepted() {
    let deploy = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy");
    let dir = scratch();
    let here = dir.path().display().to_string();
    // What the examples name, made as their comments say.
    let made = |program: &str, args: &[&str]| {
        let output = Program::run(program, args, dir.path());
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    made("batoff-control", &["init", "--data-dir", &format!("{here}/data")]);
    made("batoff", &["certs", "init", "--dir", &here]);
    made("batoff", &["certs", "issue", "--dir", &here, "--control", "control.example.net"]);
    made("batoff", &["certs", "issue", "--dir", &here, "--node", "fra1/edge-03"]);
    for (program, file) in
        [("batoff-control", "control.toml"), ("batoff-proxy", "proxy.toml"), ("batoff-edge", "edge.toml")]
    {
        let text = fs::read_to_string(format!("{deploy}/{file}")).unwrap();
        let absent = dir.path().join(file);
        fs::write(&absent, &text).unwrap();
        let absent = absent.to_str().unwrap();
        refused(dir.path(), program, &["--config", absent, "--check"], USAGE, &["/"]);

        let text = text
            .replace("/etc/batoff/", &format!("{here}/"))
            .replace("\"/var/lib/batoff-control\"", &format!("{:?}", format!("{here}/data")));
        let path = dir.path().join(format!("here-{file}"));
        fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap();
        let output = Program::run(program, &["--config", path, "--check"], dir.path());
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
        for word in ["is fine", "metrics", "log     info", ".pem"] {
            assert!(said.contains(word), "{file}: {word}: {said}");
        }
    }
}

#[test]
fn a_log_level_that_is_none_is_refused_by_all_three() {
    let dir = scratch();
    let dir = dir.path();
    let loud = "[log]\nlevel = \"loud\"";
    let words: &[&str] = &["log.level", "loud", "debug"];
    let config = control_config(dir, &format!("[api]\nlisten = \"127.0.0.1:0\"\n{loud}"));
    refused(dir, "batoff-control", &["--config", &config, "--check"], USAGE, words);
    let config = proxy_config(dir, &format!("listen = \"127.0.0.1:0\"\n{loud}"));
    refused(dir, "batoff-proxy", &["--config", &config, "--check"], USAGE, words);
    let edge = dir.join("edge.toml");
    let text = fs::read_to_string(&config).unwrap();
    let text = text.replace(
        "[proxy]\norigin = \"http://127.0.0.1:1\"\nlisten = \"127.0.0.1:0\"",
        "[caches]\nnone = true",
    );
    fs::write(&edge, text).unwrap();
    refused(dir, "batoff-edge", &["--config", edge.to_str().unwrap(), "--check"], USAGE, words);
}

#[test]
fn a_port_in_use_is_named() {
    let dir = scratch();
    let dir = dir.path();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let config = control_config(dir, &format!("[api]\nlisten = \"{address}\""));
    refused(dir, "batoff-control", &["--config", &config], TEMPORARY, &[&address]);
    let config = proxy_config(dir, &format!("listen = \"{address}\""));
    refused(dir, "batoff-proxy", &["--config", &config], TEMPORARY, &[&address]);
}

#[test]
fn a_data_directory_that_cannot_be_used_is_named() {
    let dir = scratch();
    let dir = dir.path();
    // A file where a directory should be: not even root can write into it.
    let config = control_config(dir, "[api]\nlisten = \"127.0.0.1:0\"");
    let file = dir.join("a-file");
    fs::write(&file, "").unwrap();
    let text = fs::read_to_string(&config).unwrap().replace("/data\"", "/a-file\"");
    fs::write(&config, text).unwrap();
    let output = Program::run("batoff-control", &["--config", &config], dir);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(matches!(output.status.code(), Some(USAGE | TEMPORARY)), "{said}");
    assert!(said.contains("a-file") && !said.contains("panicked"), "{said}");

    let config = proxy_config(dir, "listen = \"127.0.0.1:0\"");
    let text = fs::read_to_string(&config).unwrap().replace("/state\"", "/a-file\"");
    fs::write(&config, text).unwrap();
    let output = Program::run("batoff-proxy", &["--config", &config], dir);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(matches!(output.status.code(), Some(USAGE | TEMPORARY)), "{said}");
    assert!(said.contains("a-file") && !said.contains("panicked"), "{said}");
}

#[test]
fn init_never_overwrites_a_key() {
    let dir = scratch();
    let data = dir.path().join("data");
    let init = || Program::run("batoff-control", &["init", "--data-dir", data.to_str().unwrap()], dir.path());
    assert!(init().status.success());
    let key = fs::read(data.join("master.key")).unwrap();
    let again = init();
    assert!(!again.status.success());
    assert!(String::from_utf8_lossy(&again.stderr).contains("master.key"));
    assert_eq!(fs::read(data.join("master.key")).unwrap(), key);
    for file in ["master.key", "admin.token"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(data.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[tokio::test]
async fn a_node_whose_state_is_damaged_is_reset_and_misses_nothing() {
    let dir = scratch();
    let options = DevOptions { pops: 1, data_dir: Some(dir.path()), ..DevOptions::default() };
    let dev = Dev::start(options);
    let task = dev.customer.purge(&json!({"urls": [dev.url("/x")]})).await.task();
    dev.customer.completed(&task).await;
    assert_eq!(dev.stop(), 0);

    let state = find(dir.path(), "state").expect("the node has stored its state");
    let mut bytes = fs::read(&state).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(&state, bytes).unwrap();

    let dev = Dev::start(options);
    let set_aside = eventually("the damaged file is set aside", || async {
        let folder = state.parent().unwrap();
        let mut names = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.file_name());
        names.find(|name| name.to_string_lossy().contains("corrupt"))
    })
    .await;
    assert!(!set_aside.is_empty());
    dev.warm("/y").await;
    let task = dev.customer.purge(&json!({"urls": [dev.url("/y")]})).await.task();
    dev.customer.completed(&task).await;
    assert_eq!(dev.x_cache("/y").await, ["MISS"]);
}

/// The file of that name somewhere below a folder.
fn find(folder: &Path, name: &str) -> Option<std::path::PathBuf> {
    for entry in fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if let Some(found) = find(&path, name) {
                return Some(found);
            }
        } else if entry.file_name() == name {
            return Some(path);
        }
    }
    None
}
