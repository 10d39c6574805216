//! A control plane among strangers, and on machines where nothing can be written down: it goes on answering.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use batoff_tests::{Launch, Program, eventually, scratch};
use serde_json::Value;

/// A control plane's configuration with everything on free ports.
fn configured(dir: &Path, extra: &str) -> PathBuf {
    let data = dir.join("data");
    let made = Program::run("batoff-control", &["init", "--data-dir", data.to_str().unwrap()], dir);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let path = dir.join("control.toml");
    let anywhere = "listen = \"127.0.0.1:0\"";
    let text = format!(
        "[data]\ndir = {data:?}\n[api]\n{anywhere}\n[admin]\n{anywhere}\n[console]\n{anywhere}\n[metrics]\n{anywhere}\n[grpc]\n{anywhere}\n\
         plaintext = true\n{extra}"
    );
    fs::write(&path, text).unwrap();
    path
}

fn launch(dir: &Path, config: &Path) -> Launch {
    Launch::new("batoff-control", &["--config", config.to_str().unwrap(), "--announce"], dir)
}

/// What it announced.
fn addresses(program: &mut Program) -> Value {
    let mut line = String::new();
    BufReader::new(program.stdout()).read_line(&mut line).unwrap();
    serde_json::from_str(&line).expect("the line that it announces itself with")
}

/// Asks without a token again and again, which is worth a line in the log each time.
async fn is_answered(addresses: &Value, times: usize) {
    let http = batoff_tests::http();
    let url = format!("http://{}/v1/sites/shop/purges", addresses["api"].as_str().unwrap());
    for _ in 0..times {
        let reply = http.get(&url).send().await.expect("an answer");
        assert!([401, 429].contains(&reply.status().as_u16()), "{}", reply.status());
    }
    let ready = format!("http://{}/readyz", addresses["metrics"].as_str().unwrap());
    assert_eq!(http.get(ready).send().await.unwrap().status().as_u16(), 200);
}

#[tokio::test]
async fn a_log_on_a_full_disk_fails_no_request() {
    let dir = scratch();
    let config = configured(dir.path(), "");
    let mut control = launch(dir.path(), &config).start_logging_to(Path::new("/dev/full"));
    is_answered(&addresses(&mut control), 50).await;
    assert_eq!(control.terminate(), 0);
}

#[tokio::test]
async fn a_log_that_nobody_reads_any_more_fails_no_request() {
    let dir = scratch();
    let config = configured(dir.path(), "");
    let mut control = launch(dir.path(), &config).start();
    drop(control.stderr());
    is_answered(&addresses(&mut control), 50).await;
    assert_eq!(control.terminate(), 0);
}

/// The pipe holds 64 KiB; after that whoever writes to it waits.
#[tokio::test]
async fn a_log_whose_reader_has_stopped_reading_holds_up_no_request() {
    let dir = scratch();
    let config = configured(dir.path(), "[log]\nlevel = \"trace\"\n");
    let mut control = launch(dir.path(), &config).start();
    let reader = control.stderr();
    is_answered(&addresses(&mut control), 2_000).await;
    drop(reader);
    assert_eq!(control.terminate(), 0);
}

#[tokio::test]
async fn a_stranger_cannot_fill_the_log() {
    let dir = scratch();
    let config = configured(dir.path(), "");
    let log = dir.path().join("control.log");
    let mut control = launch(dir.path(), &config).start_logging_to(&log);
    let addresses = addresses(&mut control);
    is_answered(&addresses, 2_000).await;
    // One that means to break out of its line.
    let http = batoff_tests::http();
    let url = format!("http://{}/v1/sites/shop/purges?a=%0a%1b%5b2J", addresses["api"].as_str().unwrap());
    http.get(url).send().await.unwrap();
    assert_eq!(control.terminate(), 0);
    let mut written = String::new();
    fs::File::open(&log).unwrap().read_to_string(&mut written).unwrap();
    let refused = written.lines().filter(|line| line.contains("request refused")).count();
    assert!((1..1_000).contains(&refused), "{refused} lines of 2,000");
    assert!(!written.contains('\u{1b}'));
}

#[tokio::test]
async fn a_wrong_master_key_is_refused_with_the_remedy() {
    let dir = scratch();
    let config = configured(dir.path(), "");
    let mut control = launch(dir.path(), &config).start();
    addresses(&mut control);
    assert_eq!(control.terminate(), 0);
    let key = dir.path().join("data/master.key");
    fs::write(&key, format!("{}\n", "5a".repeat(32))).unwrap();
    let refused = launch(dir.path(), &config).run();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(64), "{said}");
    assert!(said.contains("master.key") && said.contains("--new-master-key"), "{said}");
    let taken = ["--config", config.to_str().unwrap(), "--announce", "--new-master-key"];
    let mut control = Launch::new("batoff-control", &taken, dir.path()).start();
    addresses(&mut control);
    assert_eq!(control.terminate(), 0);
}

/// As an attacker leaves it: no descriptor left for anybody, were they not divided.
#[tokio::test]
async fn with_few_descriptors_the_operator_and_the_nodes_still_have_theirs() {
    let dir = scratch();
    let config = configured(dir.path(), "");
    let limited = ["--nofile=256:256", "--", batoff_tests::binary("batoff-control").to_str().unwrap()]
        .map(str::to_owned)
        .into_iter()
        .chain(["--config", config.to_str().unwrap(), "--announce"].map(str::to_owned));
    let mut child = std::process::Command::new("prlimit")
        .args(limited)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let addresses: Value = serde_json::from_str(&line).unwrap();
    let of = |name: &str| addresses[name].as_str().unwrap().to_owned();
    let mut silent = Vec::new();
    for n in 0..400_u16 {
        let source = format!("127.9.{}.{}:0", n / 200, n % 200 + 1).parse().unwrap();
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(source).unwrap();
        if let Ok(stream) = socket.connect(of("api").parse().unwrap()).await {
            silent.push(stream);
        }
    }
    let http = batoff_tests::http();
    let answered = async |url: String| http.get(url).send().await.ok().map(|_| ());
    eventually("health is told", || answered(format!("http://{}/healthz", of("metrics")))).await;
    eventually("the operator is answered", || answered(format!("http://{}/", of("admin")))).await;
    assert!(tokio::net::TcpStream::connect(of("grpc")).await.is_ok());
    child.kill().unwrap();
    child.wait().unwrap();
}
