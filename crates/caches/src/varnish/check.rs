//! Shows on a running Varnish that its configuration keeps what the daemon promises.

use std::path::Path;
use std::time::Duration;

use batoff_edge::Identity;
use batoff_types::{Purge, Selector, Tag};

use super::config::VarnishSection;
use super::link::{Link, Probe};
use super::orders::Orders;
use crate::shared::pipeline::Reply;
use crate::shared::report::{AGING, CheckError, Report, note_parents};
use crate::shared::visitor::{VisitArgs, Visitor};

/// How long a fetch in the background may take.
const FETCH_MAX: Duration = Duration::from_secs(5);

/// Where Varnish is, and what to try it with.
#[derive(Clone, Debug, clap::Args)]
pub struct CheckArgs {
    /// As for any cache.
    #[command(flatten)]
    pub visit: VisitArgs,
    /// A tag that the page carries; without one, purges by tag are not tried.
    #[arg(long, value_name = "TAG")]
    pub tag: Option<Tag>,
    /// Also show that nothing is served without a lease: for a second it gets everything from the origin.
    #[arg(long)]
    pub fence: bool,
}

/// Makes the check.
pub async fn check(
    args: &CheckArgs,
    section: &VarnishSection,
    has_parents: bool,
) -> Result<Report, CheckError> {
    let mut report = Report::default();
    let mut link = Link::new(section, Identity::random()).map_err(CheckError)?;
    let mut visitor = Visitor::new(&args.visit)?;
    match link.probe().await {
        Ok(_) => report.holds("batoff.vcl answers at the listener for purges"),
        Err(Probe::Wrong(wrong)) => {
            report.broken("batoff.vcl answers at the listener for purges", wrong);
            return Ok(report);
        }
        Err(Probe::Silent(error)) => return Err(CheckError(error)),
    }
    match link.parameters().await {
        Ok(parameters) => {
            report.holds("the command line takes the secret");
            let claim = format!(
                "each of {} bytes of tags in one line can be purged by itself",
                parameters.tag_bytes()
            );
            match parameters.validate() {
                Ok(()) if parameters.tag_bytes() > 0 => report.holds(claim),
                Ok(()) => report.broken(
                    claim,
                    "there is no room for keys, and no object with tags can be stored so that they are found: raise \
                     varnishd's -p workspace_backend (the head of batoff.vcl says what goes with what)",
                ),
                Err(wrong) => report.broken(claim, wrong),
            }
        }
        Err(error) => report.broken("the command line takes the secret", error.to_string()),
    }
    let status = visitor.ask("PURGE").await?.status;
    let wrong =
        format!("a visitor's PURGE is answered with {status}; batoff.vcl must come before what answers it");
    report.note(status == 405, "visitors cannot purge", wrong);

    let version = stored(&mut visitor).await?;
    let reply = visitor.read().await?;
    let hidden = ["batoff-key", "xkey"].iter().all(|name| !reply.headers().contains_key(*name));
    report.note(
        hidden,
        "visitors do not see how purges find objects",
        "vcl_deliver of batoff.vcl is not reached",
    );
    let claim = "the page is stored and served again";
    let Some(mut version) = version else {
        report.broken(
            claim,
            "it is fetched each time: is the daemon running, and are lease_dir and the path in batoff_lease the same? May \
             the page be cached, and is its URL in normal form? Does a subroutine of yours return before batoff.vcl's?",
        );
        return Ok(report);
    };
    report.holds(claim);

    let url = visitor.url()?;
    parents(&mut report, &mut link, &mut visitor, &url, has_parents).await?;
    version = stored(&mut visitor).await?.unwrap_or(version);
    let prefix = url.as_str().parse().map_err(|error| CheckError(format!("--page: {error}")))?;
    let mut tries = vec![
        ("a purge by URL takes it", Selector::Url(url.clone())),
        ("a purge by prefix takes it", Selector::Prefix(prefix)),
    ];
    tries.extend(args.tag.clone().map(|tag| ("a purge by tag takes it", Selector::Tag(tag))));
    for (claim, selector) in tries {
        purge(&mut link, &url, selector, false).await?;
        let gone = fetched_by(&visitor.read().await?) != version;
        let wrong = "it is still served: vcl_hash must be the built-in one, and vcl_backend_response of batoff.vcl be reached";
        report.note(gone, claim, wrong);
        version = stored(&mut visitor).await?.unwrap_or(version);
    }
    soft(&mut report, &mut link, &mut visitor, &url, &version).await?;
    if args.fence {
        fence(&mut report, &mut visitor, &section.lease_dir).await?;
    }
    Ok(report)
}

/// Looks whether what Varnish has just fetched comes from another cache.
async fn parents(
    report: &mut Report,
    link: &mut Link,
    visitor: &mut Visitor,
    url: &batoff_types::PurgeUrl,
    has_parents: bool,
) -> Result<(), CheckError> {
    // So that a cache behind it has had the page for a while.
    tokio::time::sleep(AGING).await;
    purge(link, url, Selector::Url(url.clone()), false).await?;
    let reply = visitor.read().await?;
    // Varnish itself writes the last entry of Via, and X-Varnish.
    let mut headers = reply.headers();
    headers.remove("x-varnish");
    let others =
        headers.get("via").and_then(|via| via.to_str().ok()?.rsplit_once(',')).map(|(others, _)| others);
    match others.and_then(|others| others.parse().ok()) {
        Some(others) => drop(headers.insert("via", others)),
        None => drop(headers.remove("via")),
    }
    note_parents(report, has_parents, &headers, &[]);
    Ok(())
}

/// With the daemon's own means.
async fn purge(
    link: &mut Link,
    url: &batoff_types::PurgeUrl,
    selector: Selector,
    soft: bool,
) -> Result<(), CheckError> {
    let site = "check".parse().map_err(|error| CheckError(format!("{error}")))?;
    let mut orders = Orders::default();
    let names = |_: &_| [batoff_types::HostPattern::Exact(url.hostname())].into();
    orders.purge(&Purge { site, selectors: vec![selector], soft }, &names);
    link.remove(&orders).await.map_err(|error| CheckError(error.to_string()))
}

async fn soft(
    report: &mut Report,
    link: &mut Link,
    visitor: &mut Visitor,
    url: &batoff_types::PurgeUrl,
    old: &str,
) -> Result<(), CheckError> {
    purge(link, url, Selector::Url(url.clone()), true).await?;
    let begun = tokio::time::Instant::now();
    let renewed = loop {
        let reply = visitor.read().await?;
        if fetched_by(&reply) != old {
            break true;
        }
        if begun.elapsed() > FETCH_MAX {
            break false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    report.note(
        renewed,
        "a soft purge has it fetched anew",
        "it is not: vcl_hit of batoff.vcl is not reached",
    );
    Ok(())
}

/// Takes away the slots that are there; the daemon makes new ones a lease ahead.
async fn fence(report: &mut Report, visitor: &mut Visitor, dir: &Path) -> Result<(), CheckError> {
    let stopped = |error: std::io::Error| CheckError(format!("{}: {error}", dir.display()));
    let version = stored(visitor).await?;
    let mut open = false;
    for entry in std::fs::read_dir(dir).map_err(stopped)? {
        let entry = entry.map_err(stopped)?;
        if entry.file_type().map_err(stopped)?.is_dir() {
            // The hostnames; they are not the lease.
            continue;
        }
        open |= entry.file_name() == "open";
        std::fs::remove_file(entry.path()).map_err(stopped)?;
    }
    let reply = visitor.read().await;
    // Before anything else can fail.
    if open {
        std::fs::File::create(dir.join("open")).map_err(stopped)?;
    }
    let wrong =
        "it is: the path in batoff_lease is another one, or a vcl_hit of yours returns before batoff.vcl's";
    let fetched = fetched_by(&reply?);
    let fenced = version.is_some_and(|version| fetched != version);
    report.note(fenced, "nothing is served without a lease", wrong);
    Ok(())
}

/// Reads the page until it is served as it was, a few times at most; which fetch it is from. `None` if it is fetched each
/// time.
async fn stored(visitor: &mut Visitor) -> Result<Option<String>, CheckError> {
    let begun = tokio::time::Instant::now();
    let mut before = String::new();
    loop {
        let version = fetched_by(&visitor.read().await?);
        if !version.is_empty() && version == before {
            return Ok(Some(version));
        }
        if begun.elapsed() > FETCH_MAX {
            return Ok(None);
        }
        before = version;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Varnish names two transactions in an answer that it has looked up: the visitor's, and the one that fetched it. The
/// second is another one each time where an object was found and may not be served.
fn fetched_by(reply: &Reply) -> String {
    // The last is this Varnish's own; one before it came with the page, from another Varnish.
    let headers = reply.headers();
    let own = headers.get_all("x-varnish").iter().next_back().and_then(|own| own.to_str().ok());
    let transactions = own.unwrap_or_default();
    transactions.split_whitespace().nth(1).unwrap_or_default().to_owned()
}
