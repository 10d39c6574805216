//! `batoff nodes`: who is there, who is late and why, who is taken out and let in again.

use batoff_client::{NodeReport, Nodes};
use batoff_types::NodeName;
use clap::Subcommand;

use crate::args::Format;
use crate::exit::Failure;
use crate::output::{self, Narrow};
use crate::overview;
use crate::settings::Settings;

/// `batoff nodes …`
#[derive(Debug, Subcommand)]
pub enum NodesCommand {
    /// All registered nodes: state, lag, lease, trouble
    List,
    /// Decommission a node: purges no longer wait for it, and its name is blocked
    Remove {
        /// The node, as fra1/edge-03
        name: NodeName,
        /// Also when it may still serve what was purged
        #[arg(long)]
        force: bool,
    },
    /// Let a removed node connect again
    Admit {
        /// The node, as fra1/edge-03
        name: NodeName,
    },
}

/// `batoff nodes …`
pub async fn run(command: NodesCommand, settings: &Settings) -> Result<(), Failure> {
    let admin = settings.admin()?;
    match command {
        NodesCommand::List => {
            let Nodes { nodes, removed } = admin.nodes().await.map_err(Failure::of_admin)?;
            print(&nodes, settings.format())?;
            if settings.format() == Format::Human && !removed.is_empty() {
                output::note(&format!("removed: {}", removed.join(", ")));
            }
            Ok(())
        }
        NodesCommand::Remove { name, force } => {
            let removed = admin.remove_node(name.pop(), name.node(), force).await;
            removed.map_err(|e| Failure::of_admin(e).about(&format!("node {name}")))?;
            let text = format!("node {name} removed: purges wait for it no longer, and its name is blocked");
            done(settings, &serde_json::json!({ "node": name.to_string(), "removed": true }), &text)
        }
        NodesCommand::Admit { name } => {
            let admitted = admin.admit_node(name.pop(), name.node()).await;
            admitted.map_err(|e| Failure::of_admin(e).about(&format!("node {name}")))?;
            let text = format!("node {name} may connect again");
            done(settings, &serde_json::json!({ "node": name.to_string(), "admitted": true }), &text)
        }
    }
}

fn done(settings: &Settings, document: &serde_json::Value, text: &str) -> Result<(), Failure> {
    match settings.format() {
        Format::Json => output::json(document),
        Format::Human => output::say(text),
    }
}

/// Objects in the node's index and the memory that it takes: `12345 (3.2 MiB)`.
fn index_of(node: &NodeReport) -> Option<String> {
    let mib = node.index_bytes? as f64 / f64::from(1 << 20);
    Some(format!("{} ({mib:.1} MiB)", node.index_objects?))
}

fn print(nodes: &[NodeReport], format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        return nodes.iter().try_for_each(output::json);
    }
    let mut table = output::table([
        ("NODE", Narrow::Stay),
        ("STATE", Narrow::Stay),
        ("CURSOR", Narrow::Go(3)),
        ("LAG", Narrow::Go(1)),
        ("LEASE", Narrow::Go(2)),
        ("INDEX", Narrow::Go(6)),
        ("WITHOUT LEASE", Narrow::Go(4)),
        ("SINCE", Narrow::Go(5)),
        ("TROUBLE", Narrow::Wrap),
    ]);
    for node in nodes {
        let kept = node.concern.as_ref().and_then(overview::kept_by);
        let in_trouble = node.caches.iter().find_map(|cache| cache.trouble_since.clone());
        let since = node.concern.as_ref().and_then(|concern| concern.since.clone()).or(in_trouble);
        let caches = node.caches.iter();
        let trouble: Vec<_> = kept
            .into_iter()
            .chain(caches.filter_map(|cache| Some(format!("{}: {}", cache.name, cache.trouble.as_ref()?))))
            .chain(node.parents_unknown.as_ref().map(|why| format!("parents: {why}")))
            .collect();
        table.add_row([
            format!("{}/{}", node.pop, node.node),
            node.state.clone(),
            node.cursor.to_string(),
            format!("{} ({:.1} s)", node.lag_records, node.lag_seconds),
            output::or_dash(node.lease_remaining_ms.map(|ms| format!("{ms} ms"))),
            output::or_dash(index_of(node)),
            output::or_dash(node.on_lease_lost.clone()),
            output::or_dash(since),
            if trouble.is_empty() { "-".to_owned() } else { trouble.join("; ") },
        ]);
    }
    table.print("no nodes")
}
