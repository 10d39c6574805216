//! What the node has of its own: its state directory, which is only read, and its certificates.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use batoff_edge::{StateSeen, certs};
use batoff_program::certificates::{span, unix_now};
use batoff_program::doctor::Diagnosis;
use batoff_program::doctor::folder::{self, FolderUse, user};
use rustix::fs::{Access, access};

use crate::config::EdgeConfig;

/// A certificate is near its end so long before, in seconds.
const NEAR: u64 = 14 * 86_400;

/// The folder, or the nearest above it that is there: the disk on which a start would make it.
pub(super) fn nearest(dir: &Path) -> PathBuf {
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    dir.ancestors().find(|place| place.is_dir()).map_or_else(|| dir.clone(), Path::to_owned)
}

pub(super) fn state(config: &EdgeConfig, running: &FolderUse, report: &mut Diagnosis) {
    let dir = &config.state.dir;
    let shown = dir.display();
    let Ok(node) = config.node.name() else { return };
    let seen = match StateSeen::read(dir, &node) {
        Ok(Some(seen)) => seen,
        Ok(None) => {
            let place = nearest(dir);
            return match access(&place, Access::WRITE_OK) {
                Ok(()) => report.fine("state", format!("{shown} is not there yet; the first start makes it")),
                Err(error) => report.error(
                    "state",
                    format!("{shown} is not there, and cannot be made in {}: {error}", place.display()),
                    "make it and give it to the daemon's user (install -d -m 0700 -o …), or run this as that user",
                ),
            };
        }
        Err(error) => {
            return report.error(
                "state",
                format!("{shown}: {error}"),
                "[state] dir must be a folder of the daemon's user; run this as that user, or as root",
            );
        }
    };
    folder::alone("state", dir, "customers' hosts, tags and URLs", report);
    if let Err(error) = access(dir, Access::WRITE_OK) {
        report.error(
            "state",
            format!("{shown} cannot be written: {error}"),
            "give it to the daemon's user (chown), or run this as that user",
        );
    }
    if running.is_held() {
        let pid = running.pid().map_or_else(String::new, |pid| format!(", pid {pid}"));
        report.fine("state", format!("a daemon runs on it{pid}"));
    }
    judge(&seen, &node.to_string(), report);
}

fn judge(seen: &StateSeen, node: &str, report: &mut Diagnosis) {
    const ANEW: &str = "the node drops what its caches hold, and begins anew";
    let generation = seen.generation.map_or(0, |generation| generation.0);
    match &seen.position {
        Ok(None) => report.fine("state", "it stands nowhere yet: the first stream resets it"),
        Ok(Some(position)) => report.fine(
            "state",
            format!(
                "of {node}, in generation {generation}: through record {} of log {} (the control plane's doctor names its \
                 own; of another log, {ANEW})",
                position.cursor, position.log_id
            ),
        ),
        Err(why) => report.error(
            "state",
            format!("a start would not believe it: {why}"),
            format!(
                "if another build or another node wrote it, start that one, or give this one a folder of its own; else start: \
                 the file is set aside, {ANEW}"
            ),
        ),
    }
    if seen.owner.as_deref().is_some_and(|owner| owner != node) && seen.position.is_ok() {
        let owner = seen.owner.as_deref().unwrap_or_default();
        report.error(
            "state",
            format!("it is of the node {owner}, and this is {node}"),
            format!("give each node a [state] dir of its own; at a start {ANEW}"),
        );
    }
    if seen.set_aside > 0 {
        report.warn(
            "state",
            format!("{} files of it were not believed by earlier starts, and were set aside", seen.set_aside),
            "see the log and the disk for why; then remove state.corrupt-*",
        );
    }
}

pub(super) fn certificates(config: &EdgeConfig, running: &FolderUse, report: &mut Diagnosis) {
    const RENEW: &str = "`batoff certs renew`; a running daemon takes the new one up by itself";
    let control = &config.control;
    if control.plaintext {
        return report.fine("certificates", "none: control.plaintext, to loopback only");
    }
    let shown = control.cert.as_deref().unwrap_or(Path::new("")).display();
    match certs::read(control) {
        Err(error) => report.error(
            "certificates",
            error.to_string(),
            "see `batoff certs show`; issue it anew with `batoff certs issue --node` or `renew`",
        ),
        Ok(found) => {
            match found.valid {
                Some(valid) if valid.check(unix_now()).is_err() => {
                    let problem = valid.check(unix_now()).err().unwrap_or_default();
                    report.error("certificates", format!("{shown} {problem}"), RENEW);
                }
                Some(valid) if valid.until < unix_now() + NEAR => {
                    let left = span(valid.until.saturating_sub(unix_now()));
                    report.warn("certificates", format!("{shown} ends in {left}"), RENEW);
                }
                Some(valid) => {
                    let left = span(valid.until.saturating_sub(unix_now()));
                    report.fine("certificates", format!("{shown} fits its key and is good for {left}"));
                }
                None => report.fine("certificates", format!("{shown} fits its key")),
            }
            if found.authority_ends.is_some_and(|ends| ends < unix_now() + NEAR) {
                report.warn(
                    "certificates",
                    "the authority in control.ca ends within two weeks, or has ended",
                    "see the runbook, Rotating certificates: the authority",
                );
            }
            named(&found, config, report);
        }
    }
    let Some(key) = &control.key else { return };
    folder::key("certificates", "", key, "this node", report);
    readable(key, config, running, report);
}

fn named(found: &certs::NodeCertificate, config: &EdgeConfig, report: &mut Diagnosis) {
    let Ok(node) = config.node.name() else { return };
    match &found.node {
        Some(name) if *name == node => report.fine("certificates", format!("it names this node, {node}")),
        other => {
            let named =
                other.as_ref().map_or_else(|| "no node".to_owned(), |name| format!("the node {name}"));
            report.error(
                "certificates",
                format!("it names {named}, and this is {node}: the control plane refuses that"),
                "correct [node], or issue the certificate for this node (`batoff certs issue --node`)",
            );
        }
    }
}

/// Root can read what the daemon's user cannot.
fn readable(key: &Path, config: &EdgeConfig, running: &FolderUse, report: &mut Diagnosis) {
    let state = fs::metadata(&config.state.dir).map(|meta| meta.uid()).ok();
    let (Some(daemon), Ok(meta)) = (running.user().or(state), fs::metadata(key)) else { return };
    if daemon != 0 && meta.uid() != daemon && meta.mode() & 0o044 == 0 {
        report.warn(
            "certificates",
            format!(
                "{} can be read by {} alone, and the daemon is {}",
                key.display(),
                user(meta.uid()),
                user(daemon)
            ),
            "chown it to the daemon's user, unless its unit lets it read everything (CAP_DAC_OVERRIDE)",
        );
    }
}
