use batoff_client::NodeReport;
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
    /// Decommission a node: purges no longer wait for it
    Remove {
        /// The node, as fra1/edge-03
        name: NodeName,
        /// Also when it is connected, or may still serve from its cache
        #[arg(long)]
        force: bool,
    },
}

/// `batoff nodes …`
pub async fn run(command: NodesCommand, settings: &Settings) -> Result<(), Failure> {
    let admin = settings.admin()?;
    match command {
        NodesCommand::List => print(&admin.nodes().await?, settings.format()),
        NodesCommand::Remove { name, force } => Ok(admin.remove_node(name.pop(), name.node(), force).await?),
    }
}

fn print(nodes: &[NodeReport], format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        return nodes.iter().try_for_each(output::json);
    }
    let mut table = output::table(&["NODE", "STATE", "CURSOR", "LAG", "LEASE", "TROUBLE"]);
    for node in nodes {
        let trouble: Vec<_> = node
            .caches
            .iter()
            .filter_map(|cache| Some(format!("{}: {}", cache.name, cache.trouble.as_ref()?)))
            .collect();
        table.add_row([
            format!("{}/{}", node.pop, node.node),
            node.state.clone(),
            node.cursor.to_string(),
            format!("{} ({:.1} s)", node.lag_records, node.lag_seconds),
            output::or_dash(node.lease_remaining_ms.map(|ms| format!("{ms} ms"))),
            if trouble.is_empty() { "-".to_owned() } else { trouble.join("; ") },
        ]);
    }
    output::print_table(&table, "no nodes")
}
