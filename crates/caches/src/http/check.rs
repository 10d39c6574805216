//! Shows on a running cache that one request takes a URL out of it.

use super::HttpSection;
use super::adapter::request;
use crate::shared::pipeline::{Address, Pipeline, Reply};
use crate::shared::report::{AGING, CheckError, Report, marks_behind};
use crate::shared::visitor::{VisitArgs, Visitor};

/// Makes the check.
pub async fn check(args: &VisitArgs, section: &HttpSection) -> Result<Report, CheckError> {
    let mut report = Report::default();
    let mut visitor = Visitor::new(args)?;
    let address: Address = section.address.parse().map_err(CheckError)?;
    let mut pipeline = Pipeline::new(address);
    let url = visitor.url()?;

    visitor.read().await?;
    tokio::time::sleep(AGING).await;
    let stored = age(&visitor.read().await?) >= 2;
    report.note(
        stored,
        "the page is stored and served again",
        "its Age does not grow: the page may not be cached (name another one with --page), or the cache sends no Age",
    );
    let replies = pipeline.send(&[request(section, url.key())]).await;
    let replies =
        replies.map_err(|error| CheckError(format!("no purge is taken at {}: {error}", section.address)))?;
    let status = replies.first().map_or(0, |reply| reply.status);
    report.note(
        section.done.contains(&status),
        "a purge by URL is taken",
        format!(
            "{} is answered with {status}; allow it from this machine, or correct method and headers",
            section.method
        ),
    );
    if stored {
        let fetched = visitor.read().await?;
        report.note(
            age(&fetched) < 2,
            "and takes the page out",
            "the page is as old as before: the cache may store it under another URL (see target in [caches.http]), or \
             another cache lies behind it",
        );
        let marks = marks_behind(fetched.headers());
        report.note(
            marks.is_empty(),
            "no cache lies behind it",
            format!(
                "the page comes with {}: that cache may still have what was purged, and this one stores it as new; have it \
                 fetch from the origin itself",
                marks.join(", ")
            ),
        );
    }
    report.beyond(
        "say what this cache makes of a Host that is not in normal form, a GET with a body, TRACE, PATCH and the like",
        "Traffic Server without our script stores the first two, and leaves a page where it is after a PATCH: look at the \
         configuration of this cache, and purge what such requests change",
    );
    Ok(report)
}

fn age(reply: &Reply) -> u64 {
    reply.header("age").and_then(|age| age.parse().ok()).unwrap_or(0)
}
