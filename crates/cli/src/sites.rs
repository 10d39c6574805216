use batoff_client::{NewSite, Site, SiteLimits, SitePatch};
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
}

#[derive(Debug, Args)]
pub struct Limits {
    /// URL and tag items a minute
    #[arg(long, value_name = "N")]
    items_per_minute: Option<u32>,
    /// Prefix, host and everything items a minute
    #[arg(long, value_name = "N")]
    prefixes_per_minute: Option<u32>,
}

impl Limits {
    fn site_limits(&self) -> SiteLimits {
        SiteLimits { items_per_minute: self.items_per_minute, prefixes_per_minute: self.prefixes_per_minute }
    }
}

/// `batoff sites …`
pub async fn run(command: SitesCommand, settings: &Settings) -> Result<(), Failure> {
    let admin = settings.admin()?;
    match command {
        SitesCommand::List => print(&admin.sites().await?, settings.format()),
        SitesCommand::Create { name, hostnames, limits } => {
            if hostnames.hosts.is_empty() {
                return Err(Failure::Usage(
                    "a site owns at least one hostname: give --host www.example.com".to_owned(),
                ));
            }
            let site = NewSite { site_id: name, hostnames: hostnames.hosts, limits: limits.site_limits() };
            print(&[admin.create_site(&site).await?], settings.format())
        }
        SitesCommand::Update { name, hostnames, limits } => {
            let limits = limits.site_limits();
            let patch = SitePatch {
                hostnames: (!hostnames.hosts.is_empty()).then_some(hostnames.hosts),
                limits: (!limits.is_empty()).then_some(limits),
            };
            if patch == SitePatch::default() {
                return Err(Failure::Usage("nothing to change: give --host or a quota".to_owned()));
            }
            print(&[admin.update_site(&name, &patch).await?], settings.format())
        }
        SitesCommand::Delete { name } => Ok(admin.delete_site(&name).await?),
    }
}

fn print(sites: &[Site], format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        return sites.iter().try_for_each(output::json);
    }
    let mut table = output::table(&["SITE", "HOSTNAMES", "ITEMS/MIN", "PREFIXES/MIN"]);
    for site in sites {
        table.add_row([
            site.site_id.clone(),
            site.hostnames.join(", "),
            output::or_dash(site.limits.items_per_minute),
            output::or_dash(site.limits.prefixes_per_minute),
        ]);
    }
    output::print_table(&table, "no sites")
}
