//! The certificates of each listener.

use batoff_program::certificates::{span, unix_now};
use batoff_program::doctor::{Diagnosis, folder};

use crate::config::Config;
use crate::server::tls_files;

/// A certificate is near its end so long before, in seconds.
const NEAR: u64 = 14 * 86_400;

pub(super) fn examine(config: &Config, report: &mut Diagnosis) {
    for (listener, files) in tls_files(config) {
        let Some(files) = files else { continue };
        let cert = files.cert.display();
        match files.examine() {
            Err(error) => report.error(
                "certificates",
                format!("{listener}: {error}"),
                "see `batoff certs show`; issue it anew with `batoff certs issue` or `renew`",
            ),
            Ok((Some(valid), authority_ends)) => {
                let left = valid.until.saturating_sub(unix_now());
                if let Err(problem) = valid.check(unix_now()) {
                    report.error(
                        "certificates",
                        format!("{listener}: {cert} {problem}"),
                        "`batoff certs renew`",
                    );
                } else if left < NEAR {
                    let found = format!("{listener}: {cert} ends in {}", span(left));
                    report.warn("certificates", found, "`batoff certs renew`");
                } else {
                    let found = format!("{listener}: {cert} fits its key and is good for {}", span(left));
                    report.fine("certificates", found);
                }
                if authority_ends.is_some_and(|ends| ends < unix_now() + NEAR) {
                    report.warn(
                        "certificates",
                        format!("{listener}: its clients' authority ends within two weeks"),
                        "see the runbook, Rotating certificates: the authority",
                    );
                }
            }
            Ok((None, _)) => report.fine("certificates", format!("{listener}: {cert} fits its key")),
        }
        folder::key("certificates", &format!("{listener}: "), &files.key, "this control plane", report);
    }
}
