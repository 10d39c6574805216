use std::net::SocketAddr;
use std::time::Duration;

use batoff_client::AdminClient;
use tokio::time::{Instant, sleep};

use super::http;
use super::plan::NodePlan;
use crate::exit::Failure;

/// A system that is not ready after this long is not going to be. Generous: debug builds on a busy machine.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Until the control plane can do its job.
pub async fn control(metrics: SocketAddr) -> Result<(), Failure> {
    until("the control plane", async || health(metrics).await).await
}

/// Until a member of etcd knows a leader.
pub async fn etcd(client: SocketAddr) -> Result<(), Failure> {
    until("etcd", async || {
        let answer = http::get(client, "localhost", "/health").await.map_err(|e| e.to_string())?;
        if answer.status.is_success() { Ok(()) } else { Err(answer.body.trim().to_owned()) }
    })
    .await
}

/// Until every node is registered, caught up and leased: it says so itself, and the control plane agrees.
pub async fn nodes(admin: &AdminClient, nodes: &[(NodePlan, u32)]) -> Result<(), Failure> {
    for (node, _) in nodes {
        until(&node.name.to_string(), async || health(node.metrics).await).await?;
    }
    until("the control plane's view of the nodes", async || {
        let known = admin.nodes().await.map_err(|e| e.to_string())?.nodes;
        for (node, _) in nodes {
            let known =
                known.iter().find(|known| known.pop == node.name.pop() && known.node == node.name.node());
            let known = known.ok_or_else(|| format!("{} is not registered", node.name))?;
            if known.state != "leased" || known.lag_records > 0 {
                return Err(format!(
                    "{} is {} and {} records behind",
                    node.name, known.state, known.lag_records
                ));
            }
        }
        Ok(())
    })
    .await
}

async fn health(metrics: SocketAddr) -> Result<(), String> {
    let answer = http::get(metrics, "localhost", "/readyz").await.map_err(|e| e.to_string())?;
    if answer.status.is_success() { Ok(()) } else { Err(answer.body.trim().to_owned()) }
}

async fn until(what: &str, mut ready: impl AsyncFnMut() -> Result<(), String>) -> Result<(), Failure> {
    let begun = Instant::now();
    loop {
        let Err(reason) = ready().await else { return Ok(()) };
        if begun.elapsed() > READY_TIMEOUT {
            let seconds = READY_TIMEOUT.as_secs();
            return Err(Failure::Temporary(format!("{what} was not ready after {seconds} s: {reason}")));
        }
        sleep(POLL_INTERVAL).await;
    }
}
