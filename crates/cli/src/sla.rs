use batoff_client::{Percentiles, Sla};
use clap::{Args, Subcommand};

use crate::args::Format;
use crate::exit::Failure;
use crate::output::{self, Narrow};
use crate::settings::Settings;
use crate::sla_export::{self, ExportArgs};

/// `batoff sla`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct SlaArgs {
    #[command(subcommand)]
    pub command: Option<SlaCommand>,
    /// How far back: a number and s, m, h or d, at most 30d
    #[arg(long, default_value = "24h")]
    pub window: String,
    /// Of all sites together (operators)
    #[arg(long)]
    pub fleet: bool,
}

/// `batoff sla …`
#[derive(Debug, Subcommand)]
pub enum SlaCommand {
    /// Day by day, as JSON or for a spreadsheet (operators)
    Export(ExportArgs),
}

/// `batoff sla`
pub async fn run(args: SlaArgs, settings: &Settings) -> Result<(), Failure> {
    if let Some(SlaCommand::Export(args)) = args.command {
        return sla_export::run(args, settings).await;
    }
    let sla = if args.fleet {
        settings.admin()?.sla(&args.window).await.map_err(Failure::of_admin)?
    } else {
        settings.client()?.sla(settings.site()?, &args.window).await?
    };
    match settings.format() {
        Format::Json => output::json(&sla),
        Format::Human => print(&sla),
    }
}

fn print(sla: &Sla) -> Result<(), Failure> {
    let Percentiles { p50, p95, p99, p999, max } = sla.propagation_ms;
    let lines = [
        format!("window       {}", sla.window),
        format!("purges       {}", sla.purges),
        format!("within {:>4}  {} %", seconds(sla.target_ms), percent(sla.within_target)),
        format!("propagation  p50 {p50} ms, p95 {p95} ms, p99 {p99} ms, p99.9 {p999} ms, slowest {max} ms"),
    ];
    output::text(&lines.join("\n"))?;
    if sla.breaches.is_empty() {
        return Ok(());
    }
    let mut table = output::table([
        ("LATE PURGE", Narrow::Stay),
        ("PROPAGATION", Narrow::Go(1)),
        ("WAITED FOR", Narrow::Wrap),
    ]);
    for breach in &sla.breaches {
        let took = breach.propagation_ms.map(|ms| format!("{ms} ms"));
        let late = breach.late.iter().map(|late| format!("{}/{} ({})", late.pop, late.node, late.reason));
        table.add_row([
            breach.task_id.clone(),
            took.unwrap_or_else(|| "not completed".to_owned()),
            output::or_dash(late.reduce(|all, one| format!("{all}, {one}"))),
        ]);
    }
    table.print("")
}

fn seconds(millis: u64) -> String {
    format!("{} s", millis as f64 / 1_000.0)
}

/// Rounded down: 99.9999 % is not all of them.
fn percent(share: f64) -> String {
    let text = format!("{:.3}", (share * 100_000.0).floor() / 1_000.0);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_all_of_them_are_a_hundred_percent() {
        assert_eq!(percent(1.0), "100");
        assert_eq!(percent(0.999_999_9), "99.999");
        assert_eq!(percent(0.5), "50");
        assert_eq!(seconds(2_000), "2 s");
    }
}
