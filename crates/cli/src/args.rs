//! The command line: every flag and its help.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Deserialize;

use crate::audit::AuditCommand;
use crate::certs::CertsCommand;
use crate::dev::DevArgs;
use crate::nodes::NodesCommand;
use crate::replicas::ReplicasCommand;
use crate::sites::SitesCommand;
use crate::sla::SlaArgs;
use crate::tokens::TokensCommand;
use crate::users::UsersCommand;

/// Takes content back from a CDN's caches, everywhere, and waits until it is really gone.
#[derive(Debug, Parser)]
#[command(name = "batoff", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    pub connection: Connection,
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 refused, or a purge that was waited for did not complete in time; \
    64 wrong usage or configuration; 70 internal error; 75 temporary, try again later.";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Purge URLs, prefixes, tags, hosts, or everything of a site
    Purge(PurgeArgs),
    /// Show how far a purge has come, or wait for it
    Status(StatusArgs),
    /// List a site's purges, newest first
    List(ListArgs),
    /// Was every purge completed within two seconds, and if not, because of whom?
    Sla(SlaArgs),
    /// Is all well, and if not, what needs attention? (operators)
    Overview,
    /// Sites and their hostnames (operators)
    #[command(subcommand)]
    Sites(SitesCommand),
    /// API tokens of a site (operators)
    #[command(subcommand)]
    Tokens(TokensCommand),
    /// Users of the console (operators)
    #[command(subcommand)]
    Users(UsersCommand),
    /// Edge nodes (operators)
    #[command(subcommand)]
    Nodes(NodesCommand),
    /// Control planes beside one log (operators)
    #[command(subcommand)]
    Replicas(ReplicasCommand),
    /// Who did what (operators)
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Certificates for nodes and control plane
    #[command(subcommand)]
    Certs(CertsCommand),
    /// Run the whole system on loopback: control plane, nodes, origin
    Dev(DevArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: batoff_program::manual::Shell,
    },
    /// Write the man pages into a folder that is there
    #[command(hide = true)]
    Manual {
        /// The folder
        folder: PathBuf,
    },
}

/// Where the APIs are, and who asks. Flags go before the environment, the environment before the configuration file, for
/// each setting. A variable that is empty is not set; what is named must be there.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Connection")]
pub struct Connection {
    /// Configuration file [env: BATOFF_CONFIG] [default: ~/.config/batoff/config.toml, if it exists]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The purge API, such as https://purge.example.net/v1; of several control planes all, with commas between them: one that
    /// does not answer is left for the next [env: BATOFF_API]
    #[arg(long, global = true, value_name = "URL")]
    pub api: Option<String>,
    /// The site [env: BATOFF_SITE]
    #[arg(long, global = true)]
    pub site: Option<String>,
    /// API token (bto_live_…); a command line is visible to other users of the machine, so prefer the others
    /// [env: BATOFF_TOKEN]
    #[arg(long, global = true, conflicts_with = "token_file")]
    pub token: Option<String>,
    /// File with the API token [env: BATOFF_TOKEN_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Signing secret (bts_live_…) [env: BATOFF_SECRET]
    #[arg(long, global = true, conflicts_with = "secret_file")]
    pub secret: Option<String>,
    /// File with the signing secret [env: BATOFF_SECRET_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// The admin API; of several control planes all, with commas between them
    /// [env: BATOFF_ADMIN] [default: http://127.0.0.1:8082]
    #[arg(long, global = true, value_name = "URL")]
    pub admin: Option<String>,
    /// Admin token (bto_admin_…) [env: BATOFF_ADMIN_TOKEN]
    #[arg(long, global = true, conflicts_with = "admin_token_file")]
    pub admin_token: Option<String>,
    /// File with the admin token, as `batoff-control init` makes it [env: BATOFF_ADMIN_TOKEN_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,
    /// Trust the authorities in this PEM file instead of the system's [env: BATOFF_CA_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Certificate to show to the admin API (PEM; with its key) [env: BATOFF_CLIENT_CERT]
    #[arg(long, global = true, value_name = "FILE")]
    pub client_cert: Option<PathBuf>,
    /// Its private key (PEM) [env: BATOFF_CLIENT_KEY]
    #[arg(long, global = true, value_name = "FILE")]
    pub client_key: Option<PathBuf>,
    /// For people, or one JSON document a line for scripts; errors, too [env: BATOFF_OUTPUT] [default: human]
    #[arg(long, short, global = true, value_enum)]
    pub output: Option<Format>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Tables and sentences
    #[default]
    Human,
    /// One JSON document a line
    Json,
}

#[derive(Debug, Args)]
pub struct PurgeArgs {
    /// Exact URLs (same as --url)
    #[arg(value_name = "URL")]
    pub positional: Vec<String>,
    /// An exact URL, with all its variants, under http and https; may be repeated
    #[arg(long, value_name = "URL")]
    pub url: Vec<String>,
    /// Every URL that begins with these characters; may be repeated
    #[arg(long, value_name = "URL")]
    pub prefix: Vec<String>,
    /// Every object with this tag (Cache-Tag); may be repeated
    #[arg(long)]
    pub tag: Vec<String>,
    /// Everything under a hostname; may be repeated
    #[arg(long, value_name = "HOSTNAME")]
    pub host: Vec<String>,
    /// Everything that is cached for the site
    #[arg(long, conflicts_with_all = ["positional", "url", "prefix", "tag", "host", "file"])]
    pub everything: bool,
    /// URLs from a file, one a line; blank lines and what follows a # at the beginning or behind white space are
    /// skipped; - reads standard input
    #[arg(long, short, value_name = "FILE")]
    pub file: Vec<PathBuf>,
    /// Mark stale instead of removing
    #[arg(long)]
    pub soft: bool,
    /// Show what would be purged and how many cached objects that is; purge nothing
    #[arg(long, conflicts_with_all = ["wait", "max_objects", "idempotency_key"])]
    pub dry_run: bool,
    /// Refuse the purge if it would hit more cached objects than this, or if that cannot be counted on every node now
    #[arg(long, value_name = "N")]
    pub max_objects: Option<u64>,
    /// Wait until no node can serve it any more, at most SECS [default: 30]
    #[arg(long, value_name = "SECS", num_args = 0..=1, default_missing_value = "30", value_parser = seconds)]
    pub wait: Option<Duration>,
    /// Submissions with the same key and content within 24 hours are one purge
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
}

#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The task's id, as `purge` prints it
    pub task: String,
    /// Wait until it is completed, at most SECS [default: 30]
    #[arg(long, value_name = "SECS", num_args = 0..=1, default_missing_value = "30", value_parser = seconds)]
    pub wait: Option<Duration>,
    /// One line a PoP
    #[arg(long)]
    pub pops: bool,
    /// When each PoP and the slowest nodes came how far, and why those were late
    #[arg(long)]
    pub propagation: bool,
    /// The purged items in normal form
    #[arg(long)]
    pub items: bool,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only tasks in this state
    #[arg(long, value_parser = ["pending", "in_progress", "completed", "partial"])]
    pub state: Option<String>,
    /// Only tasks with an item of this kind
    #[arg(long, value_parser = ["url", "prefix", "tag", "host", "everything"])]
    pub kind: Option<String>,
    /// Only tasks accepted since then: a time (2026-04-20T08:12:31Z) or an age (90s, 15m, 24h, 7d)
    #[arg(long)]
    pub since: Option<String>,
    /// Do not list: show each purge as it is accepted and as its state changes, until interrupted
    #[arg(long, short, conflicts_with_all = ["state", "kind", "since", "limit"])]
    pub follow: bool,
    /// At most so many tasks
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
}

/// The longest `--wait`: a purge that is not completed after a day is waiting for a node that will not come back.
const WAIT_SECONDS_MAX: f64 = 86_400.0;

/// Seconds, whole or with decimals.
pub fn seconds(text: &str) -> Result<Duration, String> {
    match text.trim_end_matches('s').parse::<f64>() {
        Ok(seconds) if (0.0..=WAIT_SECONDS_MAX).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        Ok(_) => Err(format!("must be 0 to {WAIT_SECONDS_MAX} seconds")),
        Err(_) => Err("is not a number of seconds; write --wait=10, or --wait as the last word".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wait_takes_seconds_or_nothing() {
        let wait = |words: &[&str]| match Cli::try_parse_from(words).unwrap().command {
            Command::Purge(args) => args.wait,
            _ => None,
        };
        assert_eq!(wait(&["batoff", "purge", "--tag", "a"]), None);
        assert_eq!(wait(&["batoff", "purge", "--tag", "a", "--wait"]), Some(Duration::from_secs(30)));
        assert_eq!(
            wait(&["batoff", "purge", "--wait", "2.5", "--tag", "a"]),
            Some(Duration::from_millis(2_500))
        );
        let error = Cli::try_parse_from(["batoff", "purge", "--wait", "https://x/"]).unwrap_err().to_string();
        assert!(error.contains("--wait=10"), "{error}");
    }

    #[test]
    fn everything_stands_alone() {
        assert!(Cli::try_parse_from(["batoff", "purge", "--everything"]).is_ok());
        assert!(Cli::try_parse_from(["batoff", "purge", "--everything", "--tag", "a"]).is_err());
        assert!(Cli::try_parse_from(["batoff", "purge", "--everything", "https://x/"]).is_err());
    }
}
