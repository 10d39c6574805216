use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Customer, Program, Visitor, scratch};

/// A whole system on loopback, as `batoff dev` runs it.
pub struct Dev {
    /// What it said when it was ready.
    pub line: Line,
    /// The customer that it made.
    pub customer: Customer,
    /// Somebody who reads pages.
    pub visitor: Visitor,
    program: Program,
    _dir: Option<tempfile::TempDir>,
}

/// How to start it.
#[derive(Clone, Copy, Debug)]
pub struct DevOptions<'a> {
    /// How many PoPs.
    pub pops: usize,
    /// Start children again that died.
    pub keep: bool,
    /// Where its data lies; a temporary directory otherwise.
    pub data_dir: Option<&'a Path>,
}

impl Default for DevOptions<'_> {
    fn default() -> Self {
        Self { pops: 3, keep: false, data_dir: None }
    }
}

/// The line of JSON that `batoff dev --json` prints. Every member is part of the command's contract.
#[derive(Debug, Deserialize, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Line {
    pub api: String,
    pub admin: String,
    pub admin_token: String,
    pub grpc: String,
    pub control_metrics: String,
    pub control_pid: u32,
    pub origin: String,
    pub site: String,
    pub hosts: Vec<String>,
    pub token: String,
    pub secret: String,
    pub console: Option<String>,
    pub console_user: Option<String>,
    pub console_password: Option<String>,
    pub nodes: Vec<Node>,
}

/// One node of it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Node {
    pub pop: String,
    pub node: String,
    pub proxy: String,
    pub metrics: String,
    pub pid: u32,
}

impl Dev {
    /// Starts it and waits until it is ready.
    pub fn start(options: DevOptions<'_>) -> Self {
        let own = options.data_dir.is_none().then(scratch);
        let dir = options.data_dir.or(own.as_ref().map(tempfile::TempDir::path)).expect("one of the two");
        let pops = options.pops.to_string();
        let data_dir = dir.to_str().expect("a path in UTF-8");
        let mut args = vec!["dev", "--json", "--base-port", "0", "--pops", &pops, "--data-dir", data_dir];
        if options.keep {
            args.push("--keep");
        }
        let mut program = Program::start("batoff", &args, dir);
        let mut stderr = program.stderr();
        let log = std::thread::spawn(move || {
            let mut text = String::new();
            drop(stderr.read_to_string(&mut text));
            text
        });
        let mut line = String::new();
        drop(BufReader::new(program.stdout()).read_line(&mut line));
        let Ok(line) = serde_json::from_str::<Line>(&line) else {
            drop(program);
            panic!(
                "batoff dev printed {line:?} instead of its line of JSON; its log:\n{}",
                log.join().unwrap_or_default()
            );
        };
        let customer = Customer::new(&line.api, &line.site, &line.token, &line.secret);
        Self { line, customer, visitor: Visitor::default(), program, _dir: own }
    }

    /// The pid of the supervisor.
    pub fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// The first hostname of the site.
    pub fn host(&self) -> &str {
        &self.line.hosts[0]
    }

    /// The URL of a path on the site's first hostname.
    pub fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.host())
    }

    /// Reads a page on each node until all have it in their cache.
    pub async fn warm(&self, path: &str) {
        for node in &self.line.nodes {
            self.visitor.warm(&node.proxy, self.host(), path).await;
        }
    }

    /// What each node says to a visitor of the page.
    pub async fn x_cache(&self, path: &str) -> Vec<String> {
        let mut all = Vec::new();
        for node in &self.line.nodes {
            all.push(self.visitor.read(&node.proxy, self.host(), path).await.x_cache);
        }
        all
    }

    /// Asks the admin API.
    pub async fn admin(&self, path: &str) -> Value {
        let http = crate::http();
        let request = http.get(format!("{}{path}", self.line.admin)).bearer_auth(&self.line.admin_token);
        let reply = request.send().await.expect("the admin API answers");
        let text = reply.text().await.expect("a body");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"))
    }

    /// A page of metrics.
    pub async fn metrics(url: &str) -> String {
        let http = crate::http();
        http.get(url).send().await.expect("metrics answer").text().await.expect("a body")
    }

    /// Ends it; the exit code.
    pub fn stop(mut self) -> i32 {
        self.program.terminate()
    }
}
