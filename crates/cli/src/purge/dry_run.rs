use batoff_client::{Client, DryRun, DryRunNodes, PurgeRequest};

use crate::args::Format;
use crate::exit::Failure;
use crate::output::{self, Narrow};

/// `batoff purge --dry-run`: the answers to all requests as one.
pub async fn run(
    client: &Client,
    site: &str,
    requests: &[PurgeRequest],
    format: Format,
) -> Result<(), Failure> {
    let mut whole: Option<DryRun> = None;
    for request in requests {
        let part = client.dry_run(site, request).await?;
        match &mut whole {
            Some(whole) => add(whole, part),
            none => *none = Some(part),
        }
    }
    let Some(whole) = whole else { return Ok(()) };
    if format == Format::Json {
        return output::json(&whole);
    }
    let mut table =
        output::table([("KIND", Narrow::Stay), ("VALUE", Narrow::Stay), ("OBJECTS", Narrow::Go(1))]);
    for item in &whole.items {
        table.add_row([item.kind.as_str(), item.value.as_str(), &item.objects.to_string()]);
    }
    table.print("nothing to purge")?;
    let DryRunNodes { total, answered } = whole.nodes;
    let objects = output::counted(whole.objects_total, "cached object");
    output::note(&format!(
        "{objects} on {answered} of {} would be purged; nothing was.",
        output::counted(total, "node")
    ));
    Ok(())
}

fn add(whole: &mut DryRun, part: DryRun) {
    whole.items.extend(part.items);
    whole.objects_total += part.objects_total;
    whole.nodes.total = whole.nodes.total.max(part.nodes.total);
    // Only nodes that answered every part are in all of the numbers.
    whole.nodes.answered = whole.nodes.answered.min(part.nodes.answered);
}
