//! The purge log in etcd: the files that the configuration names, whether its members can be reached, and what time they have.
//! The other control planes are asked nothing; whoever's clock is as the members' is right by them, too. Of the log nothing
//! is asked: a start says what the members answer.

use std::sync::Arc;
use std::time::Duration;

use batoff_program::doctor::peer::{self, PeerError};
use batoff_program::doctor::{Diagnosis, clock};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::needs;
use crate::config::{Config, EtcdSection};
use crate::engine;

/// What a member answers whoever asks, without a user and a password.
const VERSION: &str = "/version";

pub(super) fn examine(config: &Config, etcd: &EtcdSection, report: &mut Diagnosis) {
    match engine::check(config) {
        Ok(found) => report.fine("store", found),
        Err(error) => report.error("store", error.to_string(), "the start will say the same"),
    }
    let (endpoints, tls) = (&etcd.endpoints, tls(etcd));
    let refused_beyond = Duration::from_secs(config.api.clock_skew_seconds);
    let mut troubles = Vec::new();
    for endpoint in endpoints {
        let Ok(url) = endpoint.parse() else {
            troubles.push(format!("{endpoint}: no URL"));
            continue;
        };
        match peer::ask(&url, VERSION, tls.clone()) {
            Ok(said) => clock::compare(endpoint, &said, Some(refused_beyond), needs::CLOCK, report),
            Err(PeerError::Silent(error)) => report.warn(
                "store",
                format!("{endpoint} accepts a connection and tells no version: {error}"),
                "is it etcd, and are store.etcd.ca, cert and key those for it? The start will say the same",
            ),
            Err(error @ PeerError::Unreachable(_)) => troubles.push(format!("{endpoint}: {error}")),
        }
    }
    let reached = endpoints.len() - troubles.len();
    let found = format!("{reached} of {} endpoints accept connections", endpoints.len());
    if troubles.is_empty() {
        return report.fine("store", found);
    }
    let found = format!("{found}: {}", troubles.join("; "));
    if reached == 0 {
        report.error(
            "store",
            found,
            "start etcd, or correct store.etcd.endpoints: nothing is accepted without it",
        );
    } else {
        report.warn(
            "store",
            found,
            "start the others, or correct store.etcd.endpoints: a majority has to be there",
        );
    }
}

/// Who judges the members' certificates, as a start does. Files that cannot be used a start refuses, which is told already.
fn tls(etcd: &EtcdSection) -> Option<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_file_iter(etcd.ca.as_ref()?).ok()?.flatten());
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let config = match (&etcd.cert, &etcd.key) {
        (Some(cert), Some(key)) => {
            let chain = CertificateDer::pem_file_iter(cert).ok()?.collect::<Result<Vec<_>, _>>().ok()?;
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key).ok()?).ok()?
        }
        _ => builder.with_no_client_auth(),
    };
    Some(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use batoff_program::doctor::Severity;

    use super::*;

    /// A member that answers with this date until it is gone with the test.
    fn member(date: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.read(&mut [0; 512]);
                let _ = write!(stream, "HTTP/1.1 200 OK\r\n{date}\r\n");
            }
        });
        endpoint
    }

    fn examined(endpoints: &[String]) -> Diagnosis {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "[data]\ndir = {:?}\n[grpc]\nplaintext = true\n[store]\nengine = 'etcd'\n[store.etcd]\nendpoints = {endpoints:?}\n",
            dir.path()
        );
        let config = Config::parse(&text, std::iter::empty()).unwrap();
        let mut report = Diagnosis::default();
        examine(&config, config.store.etcd.as_ref().unwrap(), &mut report);
        report
    }

    #[test]
    fn members_that_cannot_be_reached_are_named_and_a_cluster_without_any_is_an_error() {
        let there = member("");
        let gone = {
            let closed = TcpListener::bind("127.0.0.1:0").unwrap();
            format!("http://{}", closed.local_addr().unwrap())
        };
        for (endpoints, severity) in [
            (vec![there.clone()], Severity::Fine),
            (vec![there, gone.clone()], Severity::Warning),
            (vec![gone.clone()], Severity::Error),
        ] {
            let report = examined(&endpoints);
            assert_eq!(report.severity, severity, "{report}");
            assert_eq!(
                report.to_string().contains(&format!("{gone}: ")),
                severity != Severity::Fine,
                "{report}"
            );
        }
    }

    #[test]
    fn a_clock_that_is_not_the_members_is_told_and_so_is_what_goes_by_it() {
        let report = examined(&[member("Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n")]);
        assert_eq!(report.severity, Severity::Error, "{report}");
        let text = report.to_string();
        assert!(
            text.contains("ahead of that of http://127.0.0.1:") && text.contains("signed requests"),
            "{text}"
        );
    }
}
