//! Shows on a running nginx that its configuration keeps what the daemon promises.
//!
//! An origin of the check's own answers behind the fill hop; what nginx stores of its answers is looked at, removed, made
//! stale and held back with the daemon's own means, and each time the answer's number says whether it came from the
//! cache.

use std::net::SocketAddr;
use std::path::Path;

use self::canary::Canary;
use self::events::Events;
use self::origin::Origin;
use super::config::NginxSection;
use super::files::{Files, Found};
use super::name::{FileName, Named};
use super::run_dir::RunDir;
use super::{identity, setup};
use crate::shared::report::{CheckError, Report};

mod canary;
mod events;
mod origin;
mod steps;

/// Where nginx is, and where the check is to answer for the origin.
#[derive(Clone, Debug, clap::Args)]
pub struct CheckArgs {
    /// Where nginx listens for visitors, in plain HTTP.
    #[arg(long, default_value = "127.0.0.1:80", value_name = "ADDRESS")]
    pub connect: SocketAddr,
    /// The hostname to ask for: one of the site's.
    #[arg(long, value_name = "HOSTNAME")]
    pub host: String,
    /// Where the fill hop finds the check's origin.
    #[arg(long, default_value = "127.0.0.1:9467", value_name = "ADDRESS")]
    pub origin: SocketAddr,
    /// Path and query of a page there that may be cached, of the real origin: it tells whether another cache lies in between.
    #[arg(long, default_value = "/", value_name = "TARGET")]
    pub page: String,
    /// Also show that nginx stops without a lease: for a moment it gets everything from the origin.
    #[arg(long)]
    pub fence: bool,
}

/// What the steps work with.
struct Bench {
    report: Report,
    canary: Canary,
    origin: Origin,
    events: Events,
    files: Files,
    run_dir: RunDir,
    section: NginxSection,
    daemon: Option<u64>,
}

/// Makes the check.
pub async fn check(
    args: &CheckArgs,
    section: &NginxSection,
    state: &Path,
    has_parents: bool,
) -> Result<Report, CheckError> {
    let stopped = |error: String| CheckError(error);
    setup::check_directory(&section.path, section.levels).map_err(|error| stopped(error.to_string()))?;
    let files = Files::new(section.path.clone(), section.levels);
    let run_dir = section.run_dir.display();
    if !section.run_dir.join("gen/cur").exists() {
        return Err(stopped(format!("{run_dir}/gen/cur is not there; start the daemon first")));
    }
    let bench = Bench {
        report: Report::default(),
        canary: Canary::new(args.connect, &args.host),
        origin: Origin::start(args.origin).await.map_err(|error| {
            stopped(format!("cannot answer for the origin at {} (--origin): {error}", args.origin))
        })?,
        events: Events::of(&files).map_err(|error| stopped(error.to_string()))?,
        files,
        run_dir: RunDir::open(&section.run_dir).map_err(|error| stopped(format!("{run_dir}: {error}")))?,
        section: section.clone(),
        daemon: identity::read(state).map_err(|error| stopped(format!("{}: {error}", state.display())))?,
    };
    bench.run(args, has_parents).await
}

impl Bench {
    async fn run(mut self, args: &CheckArgs, has_parents: bool) -> Result<Report, CheckError> {
        let Some(file) = self.stored_and_served().await? else { return Ok(self.report) };
        self.says_what_it_is(file)?;
        self.removed_is_gone(file).await?;
        self.variants_go_together().await?;
        self.stale_is_fetched_anew().await?;
        self.what_is_taken_back_ends().await?;
        self.long_headers_are_stored().await?;
        self.is_received_where_it_is_seen().await?;
        self.guards_against_late_headers().await?;
        self.collapses_nothing().await?;
        if self.section.fence {
            self.holds_back().await?;
            if args.fence {
                self.stops_without_a_lease().await?;
            }
        }
        self.parents_are_declared(args, has_parents).await?;
        Ok(self.report)
    }

    /// The files that nginx has stored since this was last asked for.
    fn stored(&mut self) -> Result<Vec<FileName>, CheckError> {
        let names = self.events.names().map_err(|error| CheckError(error.to_string()))?;
        let mut stored = Vec::new();
        for name in names {
            if let Named::Object(name) = Named::parse(&name)
                && self.is_ours(name)?
                && !stored.contains(&name)
            {
                stored.push(name);
            }
        }
        Ok(stored)
    }

    fn is_ours(&self, name: FileName) -> Result<bool, CheckError> {
        match self.files.read(name).map_err(|error| CheckError(error.to_string()))? {
            Found::Readable(header) => {
                let nonce = self.canary.nonce().as_bytes();
                Ok(header.key.windows(nonce.len()).any(|part| part == nonce))
            }
            Found::Nothing | Found::HeaderError(_) | Found::Odd => Ok(false),
        }
    }
}
