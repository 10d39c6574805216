use std::io::{BufRead, BufReader};

use anyhow::{Context, ensure};
use batoff_tests::{Customer, Program, scratch};
use serde_json::{Value, json};

/// A control plane of its own, without nodes, with a site `bench` and quotas that do not bind.
pub struct Control {
    /// A customer of the site.
    pub customer: Customer,
    /// `host:port` of the API.
    pub api: String,
    /// `http://…` of the nodes' stream.
    pub grpc: String,
    /// `http://…` of its metrics.
    pub metrics: String,
    /// `host:port` of the console.
    pub console: String,
    /// Of the console's first operator, `admin`.
    pub console_password: String,
    /// `http://…` of the operators' API.
    pub admin: String,
    /// The token for it.
    pub admin_token: String,
    program: Program,
    _dir: tempfile::TempDir,
}

impl Control {
    /// Starts it; nodes speak plaintext.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with("plaintext = true").await
    }

    /// Starts it with these lines in `[grpc]`.
    pub async fn start_with(grpc: &str) -> anyhow::Result<Self> {
        let dir = scratch();
        let data = dir.path().join("data");
        let init =
            Program::run("batoff-control", &["init", "--data-dir", &data.to_string_lossy()], dir.path());
        ensure!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
        let admin_token = std::fs::read_to_string(data.join("admin.token"))?.trim().to_owned();
        let console_password = std::fs::read_to_string(data.join("console.password"))?.trim().to_owned();
        let config = dir.path().join("control.toml");
        std::fs::write(
            &config,
            format!(
                "[data]\ndir = {data:?}\n[api]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[console]\nlisten = \"127.0.0.1:0\"\n\
                 [metrics]\nlisten = \"127.0.0.1:0\"\n[grpc]\nlisten = \"127.0.0.1:0\"\n{grpc}\n\
                 [log]\nlevel = \"warn\"\n"
            ),
        )?;
        let config = config.to_string_lossy().into_owned();
        let mut program = Program::start("batoff-control", &["--config", &config, "--announce"], dir.path());
        let mut stderr = program.stderr();
        std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::stderr()));
        let mut line = String::new();
        BufReader::new(program.stdout()).read_line(&mut line)?;
        let announced: Value = serde_json::from_str(&line).with_context(|| format!("announced {line:?}"))?;
        let address = |name: &str| announced[name].as_str().unwrap_or_default().to_owned();

        let http = batoff_tests::http();
        let admin = format!("http://{}/admin/v1/sites", address("admin"));
        let limits = json!({"items_per_minute": 1_000_000_000, "prefixes_per_minute": 1_000_000});
        let site = json!({"site_id": "bench", "hostnames": ["www.example.com"], "limits": limits});
        let post = async |url: &str, body: &Value| -> anyhow::Result<Value> {
            let request = http.post(url).bearer_auth(&admin_token).header("content-type", "application/json");
            let reply = request.body(body.to_string()).send().await?;
            let (status, text) = (reply.status(), reply.text().await?);
            ensure!(status.is_success(), "{url}: {status} {text}");
            Ok(serde_json::from_str(&text)?)
        };
        post(&admin, &site).await?;
        let token =
            post(&format!("{admin}/bench/tokens"), &json!({"label": "bench", "scopes": ["purge"]})).await?;
        let (token, secret) = (token["token"].as_str(), token["secret"].as_str());
        let (token, secret) = token.zip(secret).context("a token with its secret")?;
        let customer = Customer::new(&format!("http://{}", address("api")), "bench", token, secret);
        let (grpc, metrics) =
            (format!("http://{}", address("grpc")), format!("http://{}/metrics", address("metrics")));
        Ok(Self {
            customer,
            api: address("api"),
            grpc,
            metrics,
            console: address("console"),
            console_password,
            admin: format!("http://{}", address("admin")),
            admin_token,
            program,
            _dir: dir,
        })
    }

    /// What it counts under this name, with its labels.
    pub async fn counted(&self, name: &str) -> anyhow::Result<f64> {
        let text = batoff_tests::http().get(&self.metrics).send().await?.text().await?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value.with_context(|| format!("{name} in {}", self.metrics))?.parse()?)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.program.pid()
    }
}
