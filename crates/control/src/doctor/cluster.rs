//! The purge log in etcd: the files that the configuration names, and whether its members can be reached. Nothing is asked of
//! them: a start says what they answer.

use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::report::Diagnosis;
use crate::config::Config;
use crate::engine;

/// How long a member may take to accept a connection.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(1);

pub(super) fn examine(config: &Config, endpoints: &[String], report: &mut Diagnosis) {
    match engine::check(config) {
        Ok(found) => report.fine("store", found),
        Err(error) => report.error("store", error.to_string(), "the start will say the same"),
    }
    let troubles: Vec<String> = endpoints.iter().filter_map(|endpoint| reach(endpoint).err()).collect();
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

fn reach(endpoint: &str) -> Result<(), String> {
    let failed = |why: String| format!("{endpoint}: {why}");
    let url: http::Uri = endpoint.parse().map_err(|_| failed("no URL".to_owned()))?;
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let port = url.port_u16().unwrap_or(if url.scheme_str() == Some("https") { 443 } else { 80 });
    let addresses = (host, port).to_socket_addrs().map_err(|error| failed(error.to_string()))?;
    let mut last = failed("its name has no address".to_owned());
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_TIME_MAX) {
            Ok(_) => return Ok(()),
            Err(error) => last = failed(error.to_string()),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::doctor::Severity;

    #[test]
    fn members_that_cannot_be_reached_are_named_and_a_cluster_without_any_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = format!("http://{}", listener.local_addr().unwrap());
        let gone = {
            let closed = TcpListener::bind("127.0.0.1:0").unwrap();
            format!("http://{}", closed.local_addr().unwrap())
        };
        for (endpoints, severity) in [
            (vec![there.clone()], Severity::Fine),
            (vec![there, gone.clone()], Severity::Warning),
            (vec![gone.clone()], Severity::Error),
        ] {
            let text = format!(
                "[data]\ndir = {:?}\n[grpc]\nplaintext = true\n[store]\nengine = 'etcd'\n[store.etcd]\nendpoints = {endpoints:?}\n",
                dir.path()
            );
            let config = Config::parse(&text, std::iter::empty()).unwrap();
            let mut report = Diagnosis::default();
            examine(&config, &endpoints, &mut report);
            assert_eq!(report.severity, severity, "{report}");
            assert_eq!(
                report.to_string().contains(&format!("{gone}: ")),
                severity != Severity::Fine,
                "{report}"
            );
        }
    }
}
