//! `batoff sites`: the customers' sites, for the operator.

use std::io::IsTerminal;

use batoff_client::{AdminClient, NewSite, Site, SiteLimits, SitePatch};
use clap::{Args, Subcommand};

use crate::args::Format;
use crate::exit::Failure;
use crate::output::{self, Narrow};
use crate::settings::Settings;

/// `batoff sites …`
#[derive(Debug, Subcommand)]
pub enum SitesCommand {
    /// All sites with their hostnames, quotas, and how many objects came with more tags than the site allows
    List,
    /// One site
    Show {
        /// The site
        name: String,
    },
    /// Create a site
    Create {
        /// 1 to 64 of a-z, 0-9 and -
        name: String,
        #[command(flatten)]
        hostnames: Hostnames,
        #[command(flatten)]
        limits: Limits,
    },
    /// Replace a site's hostnames or quotas; what leaves the site is purged everywhere
    Update {
        /// The site
        name: String,
        #[command(flatten)]
        hostnames: Hostnames,
        #[command(flatten)]
        limits: Limits,
    },
    /// Delete a site and its tokens; everything cached for it is purged
    Delete {
        /// The site
        name: String,
        /// Do not ask, on a terminal either
        #[arg(long, short)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub struct Hostnames {
    /// A hostname, or *.example.com for all names under one; may be repeated or separated by commas
    #[arg(long = "host", value_name = "HOSTNAME", value_delimiter = ',')]
    hosts: Vec<String>,
    /// Take names that other sites have away from them
    #[arg(long = "move")]
    takes_names: bool,
}

#[derive(Debug, Args)]
pub struct Limits {
    /// URL and tag items a minute
    #[arg(long, value_name = "N")]
    items_per_minute: Option<u32>,
    /// Prefix, host and everything items a minute
    #[arg(long, value_name = "N")]
    prefixes_per_minute: Option<u32>,
    /// Tags of a response that are indexed, up to 1024 [default: 16]; an object with more is hit by every purge of a tag
    #[arg(long, value_name = "N")]
    tags_per_response: Option<u32>,
}

impl Limits {
    /// What was given, and for the rest what holds now: the API replaces all quotas at once.
    fn over(&self, now: SiteLimits) -> SiteLimits {
        SiteLimits {
            items_per_minute: self.items_per_minute.or(now.items_per_minute),
            prefixes_per_minute: self.prefixes_per_minute.or(now.prefixes_per_minute),
            tags_per_response: self.tags_per_response.or(now.tags_per_response),
        }
    }
}

/// `batoff sites …`
pub async fn run(command: SitesCommand, settings: &Settings) -> Result<(), Failure> {
    let admin = settings.admin()?;
    let sites = match command {
        SitesCommand::List => admin.sites().await.map_err(Failure::of_admin)?,
        SitesCommand::Show { name } => {
            let site = admin.site(&name).await;
            vec![site.map_err(|e| Failure::of_admin(e).about(&format!("site {name}")))?]
        }
        SitesCommand::Create { name, hostnames, limits } => {
            vec![
                create(&admin, &name, hostnames, &limits)
                    .await
                    .map_err(|e| e.about(&format!("site {name}")))?,
            ]
        }
        SitesCommand::Update { name, hostnames, limits } => {
            vec![
                update(&admin, &name, hostnames, &limits)
                    .await
                    .map_err(|e| e.about(&format!("site {name}")))?,
            ]
        }
        SitesCommand::Delete { name, yes } => return delete(&admin, &name, yes, settings.format()).await,
    };
    print(&sites, settings.format())
}

async fn create(
    admin: &AdminClient,
    name: &str,
    hostnames: Hostnames,
    limits: &Limits,
) -> Result<Site, Failure> {
    let Hostnames { hosts: hostnames, takes_names } = hostnames;
    if hostnames.is_empty() {
        return Err(Failure::Usage(
            "a site owns at least one hostname: give --host www.example.com".to_owned(),
        ));
    }
    let limits = limits.over(SiteLimits::default());
    let site = NewSite { site_id: name.to_owned(), hostnames, limits, takes_names };
    admin.create_site(&site).await.map_err(Failure::of_admin)
}

/// Asks first where somebody can answer: nothing brings a site's tokens back.
async fn delete(admin: &AdminClient, name: &str, yes: bool, format: Format) -> Result<(), Failure> {
    let about = |error| Failure::of_admin(error).about(&format!("site {name}"));
    if !yes && std::io::stdin().is_terminal() && std::io::stderr().is_terminal() {
        let hostnames = admin.site(name).await.map_err(about)?.hostnames.join(", ");
        let tokens = output::counted(admin.tokens(name).await.map_err(about)?.len() as u64, "token");
        output::note(&format!(
            "site {name} owns {hostnames} and has {tokens}, which will be revoked; everything cached for it is purged."
        ));
        let answer = output::ask(&format!("Type {name} to delete it: "))?;
        if answer != name {
            return Err(Failure::Failed("nothing was deleted".to_owned()));
        }
    }
    admin.delete_site(name).await.map_err(about)?;
    match format {
        Format::Json => output::json(&serde_json::json!({ "site_id": name, "deleted": true })),
        Format::Human => output::say(&format!(
            "site {name} deleted: its tokens are revoked, and what was cached for it is being purged everywhere"
        )),
    }
}

async fn update(
    admin: &AdminClient,
    name: &str,
    hostnames: Hostnames,
    limits: &Limits,
) -> Result<Site, Failure> {
    let Hostnames { hosts, takes_names } = hostnames;
    let new_limits = !limits.over(SiteLimits::default()).is_empty();
    if hosts.is_empty() && !new_limits {
        return Err(Failure::Usage("nothing to change: give --host or a limit".to_owned()));
    }
    let limits = if new_limits {
        Some(limits.over(admin.site(name).await.map_err(Failure::of_admin)?.limits))
    } else {
        None
    };
    let patch = SitePatch { hostnames: (!hosts.is_empty()).then_some(hosts), limits, takes_names };
    admin.update_site(name, &patch).await.map_err(Failure::of_admin)
}

fn print(sites: &[Site], format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        return sites.iter().try_for_each(output::json);
    }
    let mut table = output::table([
        ("SITE", Narrow::Stay),
        ("HOSTNAMES", Narrow::Wrap),
        ("ITEMS/MIN", Narrow::Go(1)),
        ("PREFIXES/MIN", Narrow::Go(2)),
        ("TAGS/RESPONSE", Narrow::Go(3)),
        ("OVERFLOWED", Narrow::Go(0)),
    ]);
    for site in sites {
        table.add_row([
            site.site_id.clone(),
            site.hostnames.join(", "),
            output::or_dash(site.limits.items_per_minute),
            output::or_dash(site.limits.prefixes_per_minute),
            output::or_dash(site.limits.tags_per_response),
            site.tag_overflow.objects.to_string(),
        ]);
    }
    table.print("no sites")?;
    let overflowing: Vec<&str> =
        sites.iter().filter(|site| site.tag_overflow.objects > 0).map(|site| &*site.site_id).collect();
    if !overflowing.is_empty() {
        output::note(&format!(
            "objects of {} came with more tags than the site allows, or with malformed ones: every purge of a tag of the \
             site hits them. The nodes' logs name their URLs; raise --tags-per-response, or send fewer tags.",
            overflowing.join(", ")
        ));
    }
    Ok(())
}
