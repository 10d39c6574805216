//! `batoff sla export`: day by day, for a report.

use clap::{Args, ValueEnum};

use crate::exit::Failure;
use crate::output;
use crate::settings::Settings;

/// `batoff sla export`
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Of all sites together, instead of the one that --site names
    #[arg(long)]
    pub fleet: bool,
    /// The first day, such as 2026-04-01 [default: 30 days]
    #[arg(long, value_name = "DAY")]
    pub from: Option<String>,
    /// The last day [default: today]
    #[arg(long, value_name = "DAY")]
    pub until: Option<String>,
    /// For programs or for spreadsheets
    #[arg(long, value_enum, default_value_t = ExportFormat::Csv)]
    pub format: ExportFormat,
    /// Which table, as CSV: a line a day, or a line for each node that a late purge waited for
    #[arg(long, value_parser = ["days", "breaches"], default_value = "days")]
    pub table: String,
}

/// How it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// One document
    Json,
    /// A table
    Csv,
}

/// `batoff sla export`
pub async fn run(args: ExportArgs, settings: &Settings) -> Result<(), Failure> {
    let mut query = vec![("table", args.table)];
    query.push(("format", if args.format == ExportFormat::Csv { "csv" } else { "json" }.to_owned()));
    query.extend(args.from.map(|from| ("from", from)));
    query.extend(args.until.map(|until| ("until", until)));
    if !args.fleet {
        query.push(("site", settings.site()?.to_owned()));
    }
    output::bytes(&settings.admin()?.sla_export(&query).await.map_err(Failure::of_admin)?)
}
