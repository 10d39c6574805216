use batoff_client::{AdminClient, NewSite, Site, SiteLimits, SitePatch};
use clap::{Args, Subcommand};

use crate::args::Format;
use crate::exit::Failure;
use crate::output;
use crate::settings::Settings;

/// `batoff sites …`
#[derive(Debug, Subcommand)]
pub enum SitesCommand {
    /// All sites with their hostnames
    List,
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
        SitesCommand::List => admin.sites().await?,
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
        SitesCommand::Delete { name } => {
            return admin
                .delete_site(&name)
                .await
                .map_err(|e| Failure::from(e).about(&format!("site {name}")));
        }
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
    Ok(admin.create_site(&NewSite { site_id: name.to_owned(), hostnames, limits, takes_names }).await?)
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
    let limits = if new_limits { Some(limits.over(admin.site(name).await?.limits)) } else { None };
    let patch = SitePatch { hostnames: (!hosts.is_empty()).then_some(hosts), limits, takes_names };
    Ok(admin.update_site(name, &patch).await?)
}

fn print(sites: &[Site], format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        return sites.iter().try_for_each(output::json);
    }
    let mut table = output::table(&["SITE", "HOSTNAMES", "ITEMS/MIN", "PREFIXES/MIN", "TAGS/RESPONSE"]);
    for site in sites {
        table.add_row([
            site.site_id.clone(),
            site.hostnames.join(", "),
            output::or_dash(site.limits.items_per_minute),
            output::or_dash(site.limits.prefixes_per_minute),
            output::or_dash(site.limits.tags_per_response),
        ]);
    }
    output::print_table(&table, "no sites")
}
