//! Shows on a running Traffic Server that the script judges what it serves.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;
use std::time::Duration;

use batoff_edge::boottime;

use super::TrafficServerSection;
use super::layout::{
    MAGIC, OPEN_MICROS, PROBE_AT, SUPERSEDED_AT, UNTIL_AT, VERSION, VERSION_AT, double, read_f64, read_twice,
};
use super::table::write_twice;
use crate::shared::pipeline::Reply;
use crate::shared::report::{AGING, CheckError, Report, note_methods, note_parents};
use crate::shared::visitor::{VisitArgs, Visitor};

/// A daemon writes a number, or replaces the table, in less; a process that died amid it does so never.
const SETTLED_WITHIN: Duration = Duration::from_secs(1);

/// What the script writes where it had the page fetched because of the check.
const PROBED: http::HeaderName = http::HeaderName::from_static("x-batoff-probed");

/// Makes the check.
pub async fn check(
    args: &VisitArgs,
    section: &TrafficServerSection,
    has_parents: bool,
) -> Result<Report, CheckError> {
    let mut report = Report::default();
    let mut visitor = Visitor::new(args)?;
    let Some(table) = table(section, &mut report) else { return Ok(report) };

    visitor.read().await?;
    tokio::time::sleep(AGING).await;
    let stored = age(&visitor.read().await?) >= 2;
    report.note(
        stored,
        "a page is stored and served again",
        "its Age does not grow: may the page be cached (name another one with --page)? Does plugin.config name batoff.lua \
         and the file of [caches.trafficserver] rules, and can Traffic Server's user read it? diags.log tells of \
         errors in the script",
    );
    if !stored {
        return Ok(report);
    }
    let shown = visitor.read().await?;
    report.note(
        shown.header("@batoff-fill").is_none(),
        "its stamp is not shown to visitors",
        "this Traffic Server passes on headers that begin with @",
    );
    let number = f64::from(rand::random::<u32>().max(1));
    let cannot = |error: io::Error| CheckError(format!("cannot write {}: {error}", section.rules.display()));
    write_twice(&table, PROBE_AT, number).map_err(cannot)?;
    let judged = visitor.read_with(&format!("X-Batoff-Probe: {number}")).await;
    write_twice(&table, PROBE_AT, 0.0).map_err(cannot)?;
    let judged = judged?;
    // Behind another cache a page is old when it comes.
    let is_fetched = judged.header(PROBED.as_str()) == Some(&number.to_string()) || age(&judged) < 2;
    report.note(
        is_fetched,
        "the script judges each hit, and takes out what is purged",
        "the page is as old as before: is `tslua.so … batoff.lua …` in plugin.config, and was Traffic Server restarted since?",
    );
    note_parents(&mut report, has_parents, &judged.headers(), &[PROBED]);
    note_methods(&mut report, "a PATCH or a method that it does not know");
    let claim = "what is fetched from now on is served";
    tokio::time::sleep(AGING).await;
    report.note(
        age(&visitor.read().await?) >= 2,
        claim,
        "the page was fetched anew, and is not served again",
    );
    Ok(report)
}

/// The file, if it is in use.
fn table(section: &TrafficServerSection, report: &mut Report) -> Option<File> {
    let claim = "the daemon keeps its rules where the script looks";
    let path = section.rules.display();
    let (bytes, file) = match (settled(&section.rules), OpenOptions::new().write(true).open(&section.rules)) {
        (Ok(bytes), Ok(file)) => (bytes, file),
        (Err(error), _) | (_, Err(error)) => {
            report.broken(claim, format!("{path}: {error}; is the daemon running, and is this its user?"));
            return None;
        }
    };
    let known = bytes.starts_with(MAGIC) && read_f64(&bytes, VERSION_AT) == Some(f64::from(VERSION));
    if !known || read_twice(&bytes, SUPERSEDED_AT) != Some(0.0) {
        report.broken(claim, format!("{path} is not a table in use; restart the daemon"));
        return None;
    }
    report.holds(claim);
    let until = read_twice(&bytes, UNTIL_AT).unwrap_or(0.0);
    report.note(
        until > double(boottime().as_micros()),
        if until >= OPEN_MICROS { "it may serve without a lease" } else { "it has a lease" },
        "the lease is over: is the daemon running, and does it reach the control plane?",
    );
    Some(file)
}

/// The file at a moment when nobody writes into it: a number that is being written, and a table that is being replaced, are
/// no findings.
fn settled(path: &Path) -> io::Result<Vec<u8>> {
    let began = std::time::Instant::now();
    loop {
        let bytes = fs::read(path)?;
        let is_whole =
            read_twice(&bytes, UNTIL_AT).is_some() && read_twice(&bytes, SUPERSEDED_AT) == Some(0.0);
        if is_whole || began.elapsed() > SETTLED_WITHIN {
            return Ok(bytes);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn age(reply: &Reply) -> u64 {
    reply.header("age").and_then(|age| age.parse().ok()).unwrap_or(0)
}
