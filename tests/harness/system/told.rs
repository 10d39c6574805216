//! What the programs of a system tell an operator.

use serde_json::Value;

use super::System;
use crate::{Dev, Launch, Place, eventually};

impl System {
    /// Runs the operator's command line tool beside the control plane; its lines of JSON, or what it complained about.
    pub async fn batoff(&self, args: &[&str]) -> Result<Vec<Value>, String> {
        self.batoff_at(0, args).await
    }

    /// The same beside a replica.
    pub async fn batoff_at(&self, replica: usize, args: &[&str]) -> Result<Vec<Value>, String> {
        let token = self.data_dir.join("admin.token");
        let mut all = vec!["-o", "json", "--admin", &self.admins[replica], "--admin-token-file"];
        all.push(token.to_str().expect("a path in UTF-8"));
        all.extend_from_slice(args);
        let namespace = self.apart.then(|| Place::Replica(replica).namespace());
        let launch = Launch::new("batoff", &all, self.dir.path()).inside(namespace.as_deref());
        let launch = launch.of(self.programs.as_deref());
        let output = tokio::task::spawn_blocking(move || launch.run()).await.expect("it runs");
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let text = String::from_utf8(output.stdout).expect("text");
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// What the control plane says of a node; nothing while it cannot be asked.
    pub async fn node(&self, node: usize) -> Option<Value> {
        let nodes = self.batoff(&["nodes", "list"]).await.ok()?;
        nodes.into_iter().find(|entry| entry["pop"] == self.nodes[node].pop.as_str())
    }

    /// What a replica says at `/readyz`: the status, and why.
    pub async fn readiness(&self, replica: usize) -> (u16, String) {
        readiness_at(&self.monitors[replica]).await.expect("a replica that runs tells of its health")
    }

    /// How often each node has dropped everything, as its metrics tell it.
    pub async fn resets(&self) -> Vec<String> {
        let mut all = Vec::new();
        for node in &self.nodes {
            let metrics = Dev::metrics(&node.metrics).await;
            let line = metrics.lines().find(|line| line.starts_with("batoff_edge_resets_total"));
            all.push(line.expect("resets are counted").to_owned());
        }
        all
    }

    /// Waits until each replica says of each node that it is leased and has everything.
    pub async fn settled(&self) {
        for replica in 0..self.admins.len() {
            eventually("every node is leased and has everything", || async {
                let nodes = self.batoff_at(replica, &["nodes", "list"]).await.ok()?;
                let is_settled = |node: &Value| node["state"] == "leased" && node["lag_records"] == 0;
                (nodes.len() == self.nodes.len() && nodes.iter().all(is_settled)).then_some(())
            })
            .await;
        }
    }
}

/// What a program that tells of its health at this address says at `/readyz`; nothing while it cannot be asked.
pub async fn readiness_at(monitor: &str) -> Option<(u16, String)> {
    let answer = crate::http().get(format!("{monitor}/readyz")).send().await.ok()?;
    let status = answer.status().as_u16();
    Some((status, answer.text().await.ok()?))
}
