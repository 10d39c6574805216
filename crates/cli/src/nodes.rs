use batoff_client::{NodeReport, Nodes};
use batoff_types::NodeName;
use clap::Subcommand;

use crate::args::Format;
use crate::exit::Failure;
use crate::output;
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
            let Nodes { nodes, removed } = admin.nodes().await?;
            print(&nodes, settings.format())?;
            if settings.format() == Format::Human && !removed.is_empty() {
                output::note(&format!("removed: {}", removed.join(", ")));
            }
            Ok(())
        }
        NodesCommand::Remove { name, force } => {
            let removed = admin.remove_node(name.pop(), name.node(), force).await;
            removed.map_err(|e| Failure::from(e).about(&format!("node {name}")))
        }
        NodesCommand::Admit { name } => {
            let admitted = admin.admit_node(name.pop(), name.node()).await;
            admitted.map_err(|e| Failure::from(e).about(&format!("node {name}")))
        }
    }
}

fn print(nodes: &[NodeReport], format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        return nodes.iter().try_for_each(output::json);
    }
    let mut table = output::table(&["NODE", "STATE", "CURSOR", "LAG", "LEASE", "WITHOUT LEASE", "TROUBLE"]);
    for node in nodes {
        let trouble: Vec<_> = node
            .caches
            .iter()
            .filter_map(|cache| Some(format!("{}: {}", cache.name, cache.trouble.as_ref()?)))
            .chain(node.parents_unknown.as_ref().map(|why| format!("parents: {why}")))
            .collect();
        table.add_row([
            format!("{}/{}", node.pop, node.node),
            node.state.clone(),
            node.cursor.to_string(),
            format!("{} ({:.1} s)", node.lag_records, node.lag_seconds),
            output::or_dash(node.lease_remaining_ms.map(|ms| format!("{ms} ms"))),
            output::or_dash(node.on_lease_lost.clone()),
            if trouble.is_empty() { "-".to_owned() } else { trouble.join("; ") },
        ]);
    }
    output::print_table(&table, "no nodes")
}
