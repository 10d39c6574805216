//! The program itself, at the highest level of its log.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

use crate::origin::{Origin, Plan};
use crate::visitor::ask;

#[tokio::test]
async fn no_level_of_the_log_shows_what_a_visitor_or_an_origin_keeps_to_themselves() {
    let origin = Origin::start().await;
    origin.plan("/a", Plan::page("a").header("set-cookie", "session=secret-of-the-origin"));
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("proxy.toml");
    let text = format!(
        "[node]\npop = 'fra1'\nnode = 'edge-1'\n[control]\nendpoints = ['http://127.0.0.1:1']\nplaintext = true\n\
         [state]\ndir = '{}'\n[proxy]\nlisten = '127.0.0.1:0'\norigin = 'http://{}'\n[metrics]\n\
         listen = '127.0.0.1:0'\n[log]\nlevel = 'trace,pingora_proxy=trace'\n",
        folder.path().join("state").display(),
        origin.address.unwrap(),
    );
    std::fs::write(&config, text).unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_batoff-proxy"))
        .args(["--announce", "--config"])
        .arg(&config)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
    let announced = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await.unwrap().unwrap();
    let announced: Value = serde_json::from_str(&announced.unwrap()).unwrap();
    let proxy = announced["proxy"].as_str().unwrap().parse().unwrap();
    let secrets = [
        ("Host", "www.example.test"),
        ("Cookie", "session=secret-of-a-visitor"),
        ("Authorization", "Basic secret-of-a-visitor"),
        ("X-Api-Key", "secret-of-a-visitor"),
    ];
    for method in ["GET", "POST"] {
        assert_eq!(ask(proxy, method, "/a", &secrets).await.status, 200);
    }
    // And one that cannot be read, which pingora shows with what came before.
    let broken = [("Host", "www.example.test"), ("Cookie", "secret-of-a-visitor"), ("B@d name", "x")];
    assert_eq!(ask(proxy, "GET", "/a", &broken).await.status, 400);
    program.start_kill().unwrap();
    let mut log = String::new();
    program.stderr.take().unwrap().read_to_string(&mut log).await.unwrap();
    assert!(log.contains("DEBUG") || log.contains("TRACE"), "it is the highest level: {log}");
    let shown: Vec<_> = log.lines().filter(|line| line.contains("secret-of")).collect();
    assert!(shown.is_empty(), "{shown:#?}");
}
