//! `batoff`: purges for customers, sites and nodes for operators, and a whole system on loopback for everyone.
//!
//! Exit codes: 0, 1 (refused, or a purge that was waited for did not complete), 64 (usage or configuration),
//! 70 (internal), 75 (temporary: try again later), 141 (nobody reads the output, as of a program that SIGPIPE ends).

#![allow(
    rustdoc::bare_urls,
    rustdoc::invalid_html_tags,
    reason = "the comments on arguments are the help text that a terminal shows"
)]

mod args;
mod audit;
mod certs;
mod dev;
mod exit;
mod help;
mod listing;
mod nodes;
mod output;
mod overview;
mod private_file;
mod propagation;
mod purge;
mod replicas;
mod russian;
mod settings;
mod sites;
mod sla;
mod sla_export;
mod status;
mod tokens;
mod users;
mod when;

use std::process::ExitCode;

use batoff_program::manual;
use clap::CommandFactory;

use crate::args::{Cli, Command};
use crate::exit::Failure;
use crate::settings::Settings;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Fails only when a provider is installed already, and nothing ran before this line.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let cli = match help::parse() {
        Ok(cli) => cli,
        Err(error) => return exit::of_parser(&error, settings::format_of_words(std::env::args())),
    };
    let format = settings::format(&cli.connection);
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => exit::of_command(runtime.block_on(run(cli)), format),
        Err(error) => exit::of_command(Err(Failure::Internal(format!("no runtime: {error}"))), format),
    }
}

async fn run(cli: Cli) -> Result<(), Failure> {
    let settings = || Settings::load(cli.connection.clone());
    match cli.command {
        Command::Purge(args) => purge::run(args, &settings()?).await,
        Command::Status(args) => status::run(args, &settings()?).await,
        Command::List(args) => listing::run(args, &settings()?).await,
        Command::Sla(args) => sla::run(args, &settings()?).await,
        Command::Overview => overview::run(&settings()?).await,
        Command::Sites(command) => sites::run(command, &settings()?).await,
        Command::Tokens(command) => tokens::run(command, &settings()?).await,
        Command::Users(command) => users::run(command, &settings()?).await,
        Command::Nodes(command) => nodes::run(command, &settings()?).await,
        Command::Replicas(command) => replicas::run(command, &settings()?).await,
        Command::Audit(command) => {
            let site = cli.connection.site.clone();
            audit::run(command, site, &settings()?).await
        }
        Command::Certs(command) => certs::run(command, settings::format(&cli.connection)),
        Command::Dev(args) => dev::run(args).await,
        Command::Completions { shell } => output::text(&manual::completions(shell, &mut help::command())),
        // In English, whatever the builder of a package speaks.
        Command::Manual { folder } => manual::write_pages(Cli::command(), manual::PagesOf::Commands, &folder)
            .map_err(|error| Failure::Usage(format!("{}: {error}", folder.display()))),
    }
}
