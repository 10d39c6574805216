//! The script and the daemon compute the same, or purges miss.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::io::Write;
use std::process::{Command, Stdio};

use batoff_types::{PurgeUrl, Scheme, Tag};

use super::places::as_shown;
use super::print::{Fingerprinter, PrintOf};

/// Answers each line, `scheme authority target`, with the key and its fingerprint as a prefix.
const DRIVER: &str = r#"
ts = {}
local script = dofile(arg[1])
for line in io.lines() do
  local scheme, authority, target = line:match('^(%S+) (%S+) (.*)$')
  local key = script.key_of(scheme .. '://' .. authority .. target)
  if key then
    local a, b = script.finish(2, script.walk(7, 11, key))
    print(key, a % 4294967296, b % 4294967296)
  else
    print('-')
  end
end
"#;

/// What the script makes of each request; `None` for one that it serves to nobody from the cache.
fn ask_the_script(requests: &[(Scheme, &str, String)]) -> Vec<Option<(String, u32, u32)>> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/trafficserver/batoff.lua");
    let dir = tempfile::tempdir().unwrap();
    let driver = dir.path().join("driver.lua");
    std::fs::write(&driver, DRIVER).unwrap();
    let mut lua = Command::new("luajit")
        .args([driver.as_os_str(), script.as_ref()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("luajit runs the script here (apt-get install luajit)");
    let mut lines = String::new();
    for (scheme, authority, target) in requests {
        lines.push_str(&format!("{} {authority} {target}\n", scheme.as_str()));
    }
    let mut stdin = lua.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = lua.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let answers = text.lines().map(|line| {
        let (key, prints) = line.split_once('\t')?;
        let (a, b) = prints.split_once('\t')?;
        Some((key.to_owned(), a.parse().unwrap(), b.parse().unwrap()))
    });
    answers.collect()
}

/// What Traffic Server shows of a target, as it was seen to: no slashes that lead it, no empty parameters and query.
fn shown_by_traffic_server(target: &str) -> String {
    let target = target.split('#').next().unwrap_or_default();
    let target = format!("/{}", target.trim_start_matches('/'));
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let last = path.rsplit('/').next().unwrap_or_default();
    let path = if last.split_once(';').is_some_and(|(_, rest)| rest.is_empty()) {
        &path[..path.len() - 1]
    } else {
        path
    };
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

/// Targets made of what URLs trip over.
fn targets(count: usize) -> Vec<String> {
    const PARTS: [&str; 40] = [
        "/", "/", "/", "a", "Z", "9", "~", "-", ".", "..", "/.", "/../", "%", "%2e", "%2E", "%7e", "%41",
        "%4", "%%", "%e9", "%2F", ";", "?", "?", "&", "=", "+", "'", "\"", "<", "`", "{", "|", "^", "[",
        "\\", "!", "*", "@", ":",
    ];
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    (0..count)
        .map(|_| {
            let parts = 1 + random(9);
            let rest: String = (0..parts).map(|_| PARTS[random(PARTS.len())]).collect();
            format!("/{rest}")
        })
        .collect()
}

#[test]
fn the_script_and_the_daemon_agree_on_every_url() {
    let authorities = ["www.example.test", "WWW.Example.TEST", "www.example.test:8080", "a_b.test"];
    let mut requests = Vec::new();
    for (n, target) in targets(30_000).into_iter().enumerate() {
        let scheme = if n % 2 == 0 { Scheme::Http } else { Scheme::Https };
        requests.push((scheme, authorities[n % authorities.len()], target));
    }
    let shown: Vec<_> = requests
        .iter()
        .map(|(scheme, authority, target)| (*scheme, *authority, shown_by_traffic_server(target)))
        .collect();
    let answers = ask_the_script(&shown);
    assert_eq!(answers.len(), requests.len());
    let printer = Fingerprinter { seeds: (7, 11) };
    let mut served = 0;
    for ((scheme, authority, target), answer) in requests.iter().zip(answers) {
        let url = PurgeUrl::of_request(*scheme, authority, target).unwrap();
        // What it cannot name it does not serve, which no purge has to take out.
        let Some((key, a, b)) = answer else { continue };
        served += 1;
        assert_eq!(key, as_shown(url.key()), "{authority}{target}");
        let print = printer.of(PrintOf::Prefix, &key);
        assert_eq!((print.0, print.1), (a, b), "{key}");
    }
    assert!(served > requests.len() / 2, "{served} of {}", requests.len());
}

/// What the script stores of a `Cache-Tag` each.
fn tags_of(headers: &[String]) -> Vec<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/trafficserver/batoff.lua");
    let dir = tempfile::tempdir().unwrap();
    let driver = dir.path().join("driver.lua");
    let texts: String = headers.iter().map(|header| format!("print(script.tags_of({header:?}))\n")).collect();
    std::fs::write(&driver, format!("ts = {{}}\nlocal script = dofile(arg[1])\n{texts}")).unwrap();
    let output = Command::new("luajit").args([driver.as_os_str(), script.as_ref()]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn the_script_and_the_daemon_agree_on_tags_that_can_be_purged() {
    let many = |count: usize| (0..count).map(|n| format!("t{n}")).collect::<Vec<_>>().join(",");
    let members = ["a b", "a\u{a0}b", "\u{3000}", "é", "あ", "\u{200b}", "(a)", "*"];
    let mut headers: Vec<String> = members.map(str::to_owned).to_vec();
    headers.extend([many(1_024), many(1_025), "x".repeat(256), "x".repeat(257), "é".repeat(129)]);
    let stored = tags_of(&headers);
    assert_eq!(stored.len(), headers.len());
    for (header, stored) in headers.iter().zip(stored) {
        let members: Vec<_> = header.split(',').collect();
        let nameable = members.len() <= 1_024 && members.iter().all(|tag| tag.parse::<Tag>().is_ok());
        assert_eq!(stored, if nameable { header.as_str() } else { "," }, "{header}");
    }
    assert_eq!(tags_of(&[" a , b,,".to_owned()]), ["a,b"]);
}

#[test]
fn the_script_serves_no_host_that_it_cannot_name() {
    let hosts = ["127.1", "0x7f.1", "1.2.3.4", "[::1]", "a.0x1", "%61.test", "u:p@a.test", "a.test.."];
    let requests: Vec<_> = hosts.map(|host| (Scheme::Http, host, "/".to_owned())).to_vec();
    assert!(ask_the_script(&requests).iter().all(Option::is_none));
}
